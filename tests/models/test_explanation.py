from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch

from features.project import Project
from features.state import SliceEvents, start
from models.explanation import because, by_family, reasons
from models.interest.items import ItemArrays
from models.interest.scoring import embed
from models.interest.version import InterestModel
from models.interest_input import interest_config, interest_input

CATALOGUE = pl.DataFrame(
    {"name": ["item_ctr_1d", "item_clicks_1d", "text_taste"], "family": ["item", "item", "text"]}
)


def test_contributions_are_summed_by_family_the_widest_spread_first() -> None:
    contributions = pl.DataFrame(
        {
            "item_ctr_1d": [0.5, -0.5],
            "text_taste": [3.0, -1.0],
            "item_clicks_1d": [0.25, 0.0],
            "interest_score": [0.5, 1.5],
            "interest_score_z": [0.0, 0.5],
            "bias": [9.0, 9.0],
        }
    )

    found = by_family(contributions, CATALOGUE)

    assert found.columns == ["text", "interest", "item"]
    assert found.rows() == [(3.0, 0.5, 0.75), (-1.0, 2.0, -0.5)]


def test_all_but_the_bias_is_explained() -> None:
    contributions = pl.DataFrame({"item_ctr_1d": [0.5], "text_taste": [-0.2], "new": [0.1], "bias": [-3.0]})

    total = by_family(contributions, CATALOGUE).sum_horizontal()

    assert total.to_list() == pytest.approx([0.4])


def test_families_of_equal_spread_stand_by_name() -> None:
    found = by_family(pl.DataFrame({"text_taste": [1.0], "item_ctr_1d": [-1.0]}), CATALOGUE)

    assert found.columns == ["item", "text"]


def test_reasons_name_what_spoke_most_for_the_item() -> None:
    families = pl.DataFrame({"text": [0.2, -1.0], "item": [1.5, -0.1], "pair": [0.4, 0.0]})

    found = reasons(families)

    assert found.name == "reasons"
    assert found.to_list() == [
        "how the item does (+1.50); whether the user met it before (+0.40)",
        "nothing speaks for it",
    ]
    assert reasons(families, shown=1)[0] == "how the item does (+1.50)"


def test_reasons_of_no_rows() -> None:
    assert reasons(pl.DataFrame(schema={"item": pl.Float64})).to_list() == []


def test_the_past_follows_where_what_the_text_says_is_a_reason() -> None:
    families = pl.DataFrame({"text": [0.5, -0.1, 0.0], "item": [0.2, 0.4, 0.3], "interest": [0.1, 0.2, -1.0]})
    past = pl.Series(["because of “A”", None, "because of “B”"])

    assert reasons(families, past, shown=1).to_list() == [
        "likeness to what the user took (+0.50); because of “A”",
        "how the item does (+0.40)",
        "how the item does (+0.30)",
    ]


LONG = "“A very long headline” about the harbour " * 5


@pytest.fixture
def project(toy: SimpleNamespace) -> Project:
    shape = {"tune": "frozen", "width": 8, "heads": 2, "ids": False, "attributes": False, "numbers": False}
    return toy.project(interest=shape)


@pytest.fixture
def said(toy: SimpleNamespace) -> pl.DataFrame:
    titles = {
        "storm": "Storm over the harbour",
        "waves": "High waves batter the coast",
        "soup": "A soup of garlic and beans",
        "stew": "Slow cooked bean stew",
        "long": LONG,
    }
    return toy.items(*(toy.item(name, toy.START, title) for name, title in titles.items()))


@pytest.fixture
def saved(project: Project, said: pl.DataFrame, tmp_path: Path) -> Path:
    """A fresh model reduced to its taste, which compares texts before it has learnt anything."""
    model = InterestModel(interest_config(project))
    model.decoder.items.standardise(embed(model, ItemArrays.of_texts(said["title"].to_list())))
    torch.nn.init.zeros_(model.decoder.match[-1].weight)
    model.save(tmp_path / "version")
    return tmp_path / "version"


def told(
    toy: SimpleNamespace, project: Project, items: pl.DataFrame, version: Path | None, *clicks: str
) -> dict[str, str | None]:
    """Candidate → what a reader of `clicks` is told of it."""
    events = SliceEvents(
        items,
        toy.impressions(("r", "u", toy.at(60), ["waves", "stew"])),
        toy.interactions(*(("u", name, "click", toy.at(n)) for n, name in enumerate(clicks, 1))),
    )
    given = interest_input(start(project), events, project)
    found = because(given, version, items, (version or Path("unused")).parent / "cache")
    assert found.select("impression_id", "item_id").equals(given.keys)
    return dict(found.select("item_id", "because").iter_rows())


def test_the_like_worded_past_is_named_first(
    toy: SimpleNamespace, project: Project, said: pl.DataFrame, saved: Path
) -> None:
    found = told(toy, project, said, saved, "soup", "storm", "soup", "storm")

    assert found["waves"].startswith("because of “Storm over the harbour”")
    assert found["stew"].startswith("because of “A soup of garlic and beans”")
    assert all(sentence.count("“") <= 2 for sentence in found.values())
    assert found["waves"].count("Storm") == 1


def test_long_titles_are_cut_and_unknown_items_not_named(
    toy: SimpleNamespace, project: Project, said: pl.DataFrame, saved: Path
) -> None:
    found = told(toy, project, said, saved, "long", "never described")

    assert found["waves"].startswith("because of “‘A very long headline’ about")
    assert found["waves"].endswith("…”")
    assert len(found["waves"]) < 80
    assert "never" not in found["waves"]


def test_without_a_past_or_a_version_nothing_is_named(
    toy: SimpleNamespace, project: Project, said: pl.DataFrame, saved: Path
) -> None:
    assert told(toy, project, said, saved) == {"waves": None, "stew": None}
    assert told(toy, project, said, None, "storm") == {"waves": None, "stew": None}
