import polars as pl
import pytest

from features.state.entities import Entities


@pytest.mark.parametrize("count", [3, 5000])
def test_ids_keep_their_numbers_however_many_come(count: int) -> None:
    known = Entities(["b", "a"])
    ids = pl.Series([f"id {n % (count // 2 + 1)}" for n in range(count)] + ["a", "b"])

    first, again = known.encode(ids), known.encode(ids[::-1])

    assert first[-2:].tolist() == [1, 0]
    assert known.decode(first).to_list() == ids.to_list()
    assert again[::-1].tolist() == first.tolist()
    assert len(known) == len(set(ids))


def test_ranks_are_the_order_of_ids_as_text() -> None:
    assert Entities(["b", "a", "c"]).ranks().tolist() == [1, 0, 2]


def test_nothing_has_no_numbers() -> None:
    assert Entities().encode(pl.Series([], dtype=pl.String)).tolist() == []
