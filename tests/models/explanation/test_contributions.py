from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch

from features.config.project import Project
from features.config.sections import Labels, Ranker
from features.state import SliceEvents, start
from models.explanation.contributions import by_family, past_behind, strongest
from models.interest.item_arrays import ItemArrays
from models.interest.scoring import embed
from models.interest.version import InterestModel
from models.interest_input import interest_config, interest_input
from models.ranker import fit

CATALOGUE = pl.DataFrame(
    {"name": ["item_ctr_1d", "item_clicks_1d", "text_taste"], "family": ["item", "item", "text"]}
)


def test_contributions_are_summed_by_family_largest_first() -> None:
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

    families = by_family(contributions, CATALOGUE)

    assert families.columns == ["text", "interest", "item"]
    assert families.rows() == [(3.0, 0.5, 0.75), (-1.0, 2.0, -0.5)]


def test_families_sum_to_everything_but_the_bias() -> None:
    contributions = pl.DataFrame({"item_ctr_1d": [0.5], "text_taste": [-0.2], "new": [0.1], "bias": [-3.0]})

    total = by_family(contributions, CATALOGUE).sum_horizontal()

    assert total.to_list() == pytest.approx([0.4])


def test_families_of_equal_size_are_ordered_by_name() -> None:
    families = by_family(pl.DataFrame({"text_taste": [1.0], "item_ctr_1d": [-1.0]}), CATALOGUE)

    assert families.columns == ["item", "text"]


def test_contributions_by_family_and_the_bias_sum_to_the_rank_score() -> None:
    rows = [
        (f"r{n}", f"i{item}", item, float(item == n % 3), float(item == n % 3) + n % 5, float(item))
        for n in range(60)
        for item in range(3)
    ]
    names = ["impression_id", "item_id", "position", "label", "item_ctr_1d", "text_taste"]
    dataset = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        slice=pl.lit("2026-01-05"), as_of=pl.int_range(pl.len()), interest_score=pl.col("label") * 0.5
    )
    columns = ["item_ctr_1d", "text_taste", "interest_score"]
    config = Ranker(num_iterations=10, early_stopping_round=5, min_data_in_leaf=2)
    fitted = fit(dataset, columns, config, Labels(), seed=1)

    contributions = fitted.contributions(dataset)
    families = by_family(contributions, CATALOGUE)

    total = families.sum_horizontal() + contributions["bias"]
    assert total.to_list() == pytest.approx(fitted.score(dataset).to_list())
    assert total.n_unique() > 1


def test_the_strongest_features_have_values_and_either_sign() -> None:
    contributions = pl.DataFrame({"a": [0.1, 0.0], "b": [-2.0, 0.0], "c": [0.3, 0.0], "bias": [9.0, 9.0]})
    values = pl.DataFrame({"c": [5, 6], "b": [None, 1.0], "a": [True, False]})

    features = strongest(contributions, values, count=2)

    assert features.name == "strongest"
    assert features.to_list() == [
        [
            {"feature": "b", "value": None, "contribution": -2.0},
            {"feature": "c", "value": 5.0, "contribution": 0.3},
        ],
        [],
    ]


@pytest.fixture
def project(toy: SimpleNamespace) -> Project:
    shape = {"tune": "frozen", "width": 8, "heads": 2, "ids": False, "attributes": False, "numbers": False}
    return toy.project(interest=shape)


@pytest.fixture
def items(toy: SimpleNamespace) -> pl.DataFrame:
    titles = {
        "storm": "Storm over the harbour",
        "waves": "High waves batter the coast",
        "soup": "A soup of garlic and beans",
        "stew": "Slow cooked bean stew",
    }
    return toy.items(*(toy.item(name, toy.START, title) for name, title in titles.items()))


@pytest.fixture
def saved(project: Project, items: pl.DataFrame, tmp_path: Path) -> Path:
    """A fresh model reduced to its text similarity, which needs no training."""
    model = InterestModel(interest_config(project.interest, project.behaviour, project.seed))
    model.decoder.items.standardise(embed(model, ItemArrays.of_texts(items["title"].to_list())))
    torch.nn.init.zeros_(model.decoder.match[-1].weight)
    model.save(tmp_path / "version")
    return tmp_path / "version"


def past_of(
    toy: SimpleNamespace, project: Project, items: pl.DataFrame, version: Path | None, *clicks: str
) -> dict[str, list[dict[str, str]] | None]:
    """Candidate → the past that raised its score, for a user with these clicks."""
    events = SliceEvents(
        items,
        toy.impressions(("r", "u", toy.at(60), ["waves", "stew"])),
        toy.interactions(*(("u", name, "click", toy.at(n)) for n, name in enumerate(clicks, 1))),
    )
    model_input = interest_input(start(project.slices.start, project.behaviour), events)
    table = past_behind(model_input, version, items, (version or Path("unused")).parent / "cache")
    assert table.select("impression_id", "item_id").equals(model_input.keys)
    return dict(table.select("item_id", "past").iter_rows())


def test_past_items_with_similar_texts_come_first_and_once(
    toy: SimpleNamespace, project: Project, items: pl.DataFrame, saved: Path
) -> None:
    past = past_of(toy, project, items, saved, "soup", "storm", "soup", "storm")

    assert past["waves"][0] == {"title": "Storm over the harbour", "action": "click"}
    assert past["stew"][0] == {"title": "A soup of garlic and beans", "action": "click"}
    for moments in past.values():
        titles = [moment["title"] for moment in moments]
        assert len(titles) <= 2
        assert len(set(titles)) == len(titles)


def test_items_without_a_title_are_left_out(
    toy: SimpleNamespace, project: Project, items: pl.DataFrame, saved: Path
) -> None:
    past = past_of(toy, project, items, saved, "storm", "never described")

    assert [moment["title"] for moment in past["waves"]] == ["Storm over the harbour"]


def test_without_a_past_or_a_version_the_past_is_null(
    toy: SimpleNamespace, project: Project, items: pl.DataFrame, saved: Path
) -> None:
    assert past_of(toy, project, items, saved) == {"waves": None, "stew": None}
    assert past_of(toy, project, items, None, "storm") == {"waves": None, "stew": None}
