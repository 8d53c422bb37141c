"""Sampling draws whole impressions, reproducibly, and the same share of every slice."""

import polars as pl
import pytest

from features.errors import TableError
from models.ranker.input import draw


def _impressions() -> pl.DataFrame:
    """Three slices of 100, 200 and 300 impressions with 4 to 9 candidates."""
    rows = [
        (f"2026-01-0{5 + slice}", f"s{slice}i{n}", 4 + (7 * n + slice) % 6)
        for slice in range(3)
        for n in range(100 * (slice + 1))
    ]
    return pl.DataFrame(
        rows, {"slice": pl.String, "impression_id": pl.String, "candidates": pl.UInt32}, orient="row"
    )


@pytest.mark.parametrize("candidates", [400, 1500, 3000])
def test_a_sample_is_close_to_the_limit_and_has_the_same_share_of_every_slice(candidates: int) -> None:
    impressions = _impressions()
    drawn = draw(impressions, candidates, seed=7)
    longest = 9 * impressions["slice"].n_unique()
    assert candidates - longest <= drawn["candidates"].sum() <= candidates
    assert (
        drawn.join(impressions, on=impressions.columns, how="semi").height
        == drawn.height
        == drawn["impression_id"].n_unique()
    )
    share = candidates / impressions["candidates"].sum()
    for slice, total in impressions.group_by("slice").agg(pl.col("candidates").sum()).iter_rows():
        assert drawn.filter(slice=slice)["candidates"].sum() == pytest.approx(total * share, abs=10)


def test_the_sample_depends_on_id_and_seed_only() -> None:
    impressions = _impressions()
    drawn = draw(impressions, 1000, seed=7)
    shuffled = impressions.sample(fraction=1, shuffle=True, seed=3)
    assert draw(shuffled, 1000, seed=7).equals(drawn)
    assert not draw(impressions, 1000, seed=8).equals(drawn)
    # A larger sample contains the smaller one.
    assert drawn.join(draw(impressions, 2000, seed=7), on="impression_id", how="anti").is_empty()


def test_all_impressions_are_kept_below_the_limit() -> None:
    impressions = _impressions()
    for candidates in (int(impressions["candidates"].sum()), 10**9):
        assert (
            draw(impressions, candidates, seed=7)
            .sort(impressions.columns)
            .equals(impressions.sort(impressions.columns))
        )
    assert draw(impressions.clear(), 5, seed=7).is_empty()
    with pytest.raises(TableError, match="sampling of impressions needs the columns candidates"):
        draw(impressions.drop("candidates"), 5, seed=7)
