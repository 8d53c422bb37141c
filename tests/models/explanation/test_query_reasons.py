from types import SimpleNamespace

import polars as pl
import pytest

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


@pytest.mark.parametrize(
    ("query", "title", "shared"),
    [
        ("hvordan æbleskiver på gløgg", "A\u030aRETS GLØGG og Æbleskiver", ["gløgg", "æbleskiver"]),
        ("怎样删除账号", "如何删除账号和历史", ["删除账号"]),
        ("github删除账号怎么办", "删除 GitHub 账号", ["github", "删除", "账号"]),
        ("パスワードを忘れた", "パスワードの再設定", ["パスワード"]),
        ("हिन्दी समाचार", "आज के समाचार", ["समाचार"]),
        ("ลืมรหัสผ่าน", "เปลี่ยนรหัสผ่าน", ["รหัสผ่าน"]),
        ("straße nach köln", "Die Straße nach KÖLN", ["köln", "nach", "straße"]),
    ],
)
def test_words_of_any_script_are_shown_whole(
    toy: SimpleNamespace, query: str, title: str, shared: list[str]
) -> None:
    items = toy.items(toy.item("a", toy.START, title))
    impressions = toy.impressions(("r", "u", toy.at(60), ["a"], {"surface": [query]}))
    none = pl.DataFrame(
        schema={"query": pl.String, "item_id": pl.String, "known_at": pl.Datetime("us", "UTC")}
    )

    found = behind_query(impressions, none, items, VECTORS, Context(query="surface"))

    assert sorted(found["query_words"][0]) == shared
