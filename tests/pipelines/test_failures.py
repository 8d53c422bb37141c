"""A server that cannot be reached is asked again, later each time; wrong data is not."""

from collections.abc import Iterator

import dagster as dg
import pytest

from features.errors import TableError, TrackingError
from pipelines import failures


def asset(*raised: Exception | None) -> tuple[dg.AssetsDefinition, list[int]]:
    """An asset that raises what is given, a try each, and the tries it was given."""
    tries: list[int] = []

    @dg.asset
    @failures.steady
    def table(context: dg.AssetExecutionContext) -> None:
        tries.append(context.retry_number)
        error = raised[context.retry_number]
        if error:
            raise error

    return table, tries


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "pause", lambda _: 0.0)


def test_a_server_that_comes_back_costs_two_tries() -> None:
    table, tries = asset(TrackingError("away"), ConnectionResetError("away"), None)
    assert dg.materialize([table]).success
    assert tries == [0, 1, 2]


def test_wrong_data_is_tried_once_and_said_in_its_own_words() -> None:
    table, tries = asset(TableError("no column title: mend [items]"), None)
    result = dg.materialize([table], raise_on_error=False)
    assert not result.success
    assert tries == [0]
    data = result.failure_data_for_node("table")
    assert data is not None
    assert data.user_failure_data is not None
    assert data.user_failure_data.description == "no column title: mend [items]"


def test_a_defect_is_not_tried_again() -> None:
    table, tries = asset(ZeroDivisionError(), None)
    assert not dg.materialize([table], raise_on_error=False).success
    assert tries == [0]


def test_a_body_of_several_tables_is_steady_too() -> None:
    tries = []

    @dg.multi_asset(specs=[dg.AssetSpec("one"), dg.AssetSpec("other")])
    @failures.steady
    def both(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        tries.append(context.retry_number)
        if not context.retry_number:
            raise TrackingError("away")
        yield dg.MaterializeResult("one")
        yield dg.MaterializeResult("other")

    assert dg.materialize([both]).success
    assert tries == [0, 1]


def test_pauses_double_up_to_a_limit_and_are_never_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pauses = [failures.pause(tries) for tries in range(20)]
    for tries, seconds in enumerate(pauses):
        longest = min(failures.LONGEST_PAUSE_SECONDS, failures.FIRST_PAUSE_SECONDS * 2**tries)
        assert longest / 2 <= seconds <= longest
    assert len(set(pauses)) == len(pauses)
