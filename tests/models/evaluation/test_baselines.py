from types import SimpleNamespace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.behaviour import read_features
from features.errors import TableError
from features.state import start
from models.evaluation import baselines
from models.evaluation.baselines import BASELINES, lookup

POPULARITY, AGE = "item_clicks_all", "item_age_hours"


def _dataset(rows: int = 4) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "impression_id": [f"i{n // 2}" for n in range(rows)],
            "item_id": [f"item{n % 7}" for n in range(rows)],
            "position": [1 + n % 2 for n in range(rows)],
            "item_clicks_all": [float(n) for n in range(rows)],
            "item_age_hours": [None if n == 3 else float(n) for n in range(rows)],
        }
    )


def scores(dataset: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Baseline scores of a table that includes their features, in any row order."""
    measured = dataset.select("impression_id", "item_id", POPULARITY, AGE)
    return baselines.scores(dataset.drop(POPULARITY, AGE), measured.reverse(), seed)


def test_the_features_of_baselines_do_not_depend_on_the_selection(toy: SimpleNamespace) -> None:
    events, project = toy.busy(), toy.project()
    without = toy.project(features={"select": ("hour",), "relative": ()})
    every = read_features(start(project.slices.start, project.behaviour), events, toy.vectors(events.items))
    assert_frame_equal(
        lookup(start(without.slices.start, without.behaviour), events),
        every.select("impression_id", "item_id", POPULARITY, AGE),
    )
    assert every[POPULARITY].max() > 0


def test_each_baseline_prefers_what_its_name_says() -> None:
    result = scores(_dataset(), seed=1)
    assert result.columns == ["impression_id", "item_id", *BASELINES]
    assert result["as_shown"].to_list() == [-1.0, -2.0, -1.0, -2.0]
    assert result["popularity"].to_list() == [0.0, 1.0, 2.0, 3.0]
    assert result["recency"].arg_sort(descending=True).to_list() == [0, 1, 2, 3]
    assert result.null_count().sum_horizontal().item() == 0


def test_random_is_uniform_and_depends_on_seed_and_row_only() -> None:
    dataset = _dataset(8000)
    first = scores(dataset, seed=1)
    assert first["random"].is_between(0, 1, closed="left").all()
    assert first["random"].mean() == pytest.approx(0.5, abs=0.02)
    assert first["random"].n_unique() == 8000
    assert scores(dataset.reverse(), seed=1).reverse().equals(first)
    assert not scores(dataset, seed=2)["random"].equals(first["random"])


def test_an_item_gets_another_random_score_in_each_impression() -> None:
    result = scores(_dataset(8000), seed=1).filter(pl.col("item_id") == "item3")
    assert result["random"].mean() == pytest.approx(0.5, abs=0.05)
    assert result["random"].std() == pytest.approx(12**-0.5, abs=0.03)


def test_a_missing_column_is_named() -> None:
    dataset = _dataset()
    with pytest.raises(TableError, match="baselines needs the columns item_clicks_all"):
        baselines.scores(dataset, dataset.drop("item_clicks_all"), seed=1)
