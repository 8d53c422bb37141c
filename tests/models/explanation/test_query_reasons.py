from types import SimpleNamespace

import polars as pl

from features.config.sections import Context
from features.schemas import ItemVectors
from models.explanation.query_reasons import behind_query
from models.interest_input import QUERY_AT

QUERIES = {
    "forward mails": [0.8, 0.6],
    "send letters on": [1.0, 0.0],
    "delete account": [0.0, 1.0],
    "密码重置": [0.0, -1.0],
}
VECTORS = pl.DataFrame(
    [(text, QUERY_AT, vector) for text, vector in QUERIES.items()],
    ItemVectors.create_empty().schema,
    orient="row",
)


def test_shared_words_and_the_nearest_earlier_query_speak_for_an_item(toy: SimpleNamespace) -> None:
    items = toy.items(
        toy.item("mail", toy.START, "How to forward several mails?"),
        toy.item("account", toy.START, "Delete an account and all mails"),
        toy.item("reset", toy.START, "如何重置密码"),
    )
    shown = ["mail", "account", "reset"]
    impressions = toy.impressions(
        ("r", "u", toy.at(60), shown, {"surface": ["forward mails"]}),
        ("s", "u", toy.at(60), shown, {"surface": ["密码重置"]}),
        ("t", "u", toy.at(60), shown),
    )
    clicks = pl.DataFrame(
        [
            ("send letters on", "mail", toy.at(10)),
            ("delete account", "account", toy.at(20)),
            ("forward mails", "account", toy.at(60)),
        ],
        ["query", "item_id", "known_at"],
        orient="row",
    )

    found = behind_query(impressions, clicks, items, VECTORS, Context(query="surface"))

    assert found.rows() == [
        ("r", "mail", ["forward", "mails"], "send letters on"),
        ("r", "account", ["mails"], "delete account"),
        ("r", "reset", None, None),
        ("s", "mail", None, None),
        ("s", "account", None, None),
        ("s", "reset", ["密码", "重置"], None),
        *(("t", item, None, None) for item in shown),
    ]
