from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from features.errors import ModelError
from models.ranker.folds import folds, held_from


def _dataset(slices: int) -> pl.DataFrame:
    rows = [(f"s{n}", f"i{n}{i}", 10 * n + i) for n in range(slices) for i in range(10) for _ in range(3)]
    return pl.DataFrame(rows, ["slice", "impression_id", "as_of"], orient="row")


@pytest.mark.parametrize(("slices", "count", "held_out"), [(5, 2, ["s3", "s4"]), (3, 9, ["s1", "s2"])])
def test_each_of_the_last_slices_is_held_out_from_all_earlier_ones(
    slices: int, count: int, held_out: list[str]
) -> None:
    dataset = _dataset(slices)
    splits = folds(dataset, count)
    assert [dataset.filter(fold.held_out)["slice"].unique().to_list() for fold in splits] == [
        [slice] for slice in held_out
    ]
    for fold, slice in zip(splits, held_out, strict=True):
        assert dataset.filter(fold.fit).equals(dataset.filter(pl.col("slice") < slice))


def test_one_slice_holds_out_its_last_impressions() -> None:
    dataset = _dataset(1).sample(fraction=1, shuffle=True, seed=3)
    (fold,) = folds(dataset, 4)
    before, after = dataset.filter(fold.fit), dataset.filter(fold.held_out)
    assert before.height + after.height == dataset.height
    assert after["impression_id"].n_unique() == 2
    assert before["as_of"].max() < after["as_of"].min()


def test_one_impression_cannot_be_divided() -> None:
    with pytest.raises(ModelError, match="1 impressions have both"):
        folds(_dataset(1).head(3), 1)


@pytest.mark.parametrize(("slices", "held_out"), [(3, 10), (1, 2)])
def test_held_from_divides_as_a_single_fold_does(slices: int, held_out: int) -> None:
    dataset = _dataset(slices).with_columns(
        as_of=datetime(2026, 1, 5, tzinfo=UTC) + pl.col("as_of") * timedelta(minutes=1)
    )
    impressions = dataset.unique("impression_id").select("slice", "as_of")
    since = held_from(impressions)
    (fold,) = folds(dataset, 1)
    held = dataset.filter(pl.col("as_of") >= since)
    assert held.equals(dataset.filter(fold.held_out))
    assert held["impression_id"].n_unique() == held_out
    with pytest.raises(ModelError, match="found 1 impressions; a ranker needs at least 2"):
        held_from(impressions.head(1))
