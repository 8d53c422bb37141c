"""Of a window too large for one process whole lists are drawn: the same whoever draws, of every slice its share."""

import polars as pl
import pytest

from features.errors import TableError
from models.ranker.sampling import draw


def _lists() -> pl.DataFrame:
    """Three slices of 100, 200 and 300 lists, of 4 to 9 candidates."""
    rows = [
        (f"2026-01-0{5 + slice}", f"s{slice}i{n}", 4 + (7 * n + slice) % 6)
        for slice in range(3)
        for n in range(100 * (slice + 1))
    ]
    return pl.DataFrame(
        rows, {"slice": pl.String, "impression_id": pl.String, "candidates": pl.UInt32}, orient="row"
    )


@pytest.mark.parametrize("candidates", [400, 1500, 3000])
def test_a_draw_is_nearly_as_large_as_may_be_and_takes_its_share_of_every_slice(candidates: int) -> None:
    lists = _lists()
    drawn = draw(lists, candidates, seed=7)
    longest = 9 * lists["slice"].n_unique()
    assert candidates - longest <= drawn["candidates"].sum() <= candidates
    assert (
        drawn.join(lists, on=lists.columns, how="semi").height
        == drawn.height
        == drawn["impression_id"].n_unique()
    )
    share = candidates / lists["candidates"].sum()
    for slice, total in lists.group_by("slice").agg(pl.col("candidates").sum()).iter_rows():
        assert drawn.filter(slice=slice)["candidates"].sum() == pytest.approx(total * share, abs=10)


def test_who_is_drawn_depends_on_id_and_seed_alone() -> None:
    lists = _lists()
    drawn = draw(lists, 1000, seed=7)
    shuffled = lists.sample(fraction=1, shuffle=True, seed=3)
    assert draw(shuffled, 1000, seed=7).equals(drawn)
    assert not draw(lists, 1000, seed=8).equals(drawn)
    # A larger draw holds the smaller one: what was read once is read again.
    assert drawn.join(draw(lists, 2000, seed=7), on="impression_id", how="anti").is_empty()


def test_where_all_fit_all_are_taken() -> None:
    lists = _lists()
    for candidates in (int(lists["candidates"].sum()), 10**9):
        assert draw(lists, candidates, seed=7).sort(lists.columns).equals(lists.sort(lists.columns))
    assert draw(lists.clear(), 5, seed=7).is_empty()
    with pytest.raises(TableError, match="the draw of lists needs the columns candidates"):
        draw(lists.drop("candidates"), 5, seed=7)
