"""A kept handle says what a fresh one says, whatever happened to the table meanwhile."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from pipelines.lake.handles import Handles


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "table")


def commit(place: str, *numbers: int) -> None:
    for number in numbers:
        write_deltalake(place, pl.DataFrame({"n": [number]}), mode="append")


def rows(table: DeltaTable) -> list[int]:
    return sorted(pl.read_delta(table)["n"])


def test_a_kept_handle_is_the_same_one_and_sees_what_others_committed_since(place: str) -> None:
    handles = Handles()
    commit(place, 1)
    first = handles.open(place, {})
    commit(place, 2, 3)

    assert handles.open(place, {}) is first
    assert first.version() == 2
    assert rows(first) == [1, 2, 3]


@pytest.mark.parametrize("commits", [1, 2, 5])
def test_a_table_made_anew_is_not_taken_for_the_one_that_was_removed(place: str, commits: int) -> None:
    """Be its log shorter than the old one's, as long or longer."""
    handles = Handles()
    commit(place, 1, 2)
    handles.open(place, {})
    shutil.rmtree(place)

    commit(place, *range(10, 10 + commits))

    assert rows(handles.open(place, {})) == [*range(10, 10 + commits)]


@pytest.mark.parametrize("whole", [True, False])
def test_a_table_that_was_removed_is_not_found(place: str, whole: bool) -> None:
    handles = Handles()
    commit(place, 1)
    handles.open(place, {})

    shutil.rmtree(place if whole else f"{place}/_delta_log")

    with pytest.raises(TableNotFoundError):
        handles.open(place, {})


def test_commits_that_were_cleaned_up_after_a_checkpoint_are_not_missed(place: str) -> None:
    """The second time nothing of the log's beginning is left that could tell."""
    handles = Handles()
    commit(place, 0)
    for first in (1, 4):
        handles.open(place, {})
        commit(place, first, first + 1)
        DeltaTable(place).create_checkpoint()
        for old in range(first + 1):
            Path(place, "_delta_log", f"{old:020}.json").unlink(missing_ok=True)
        commit(place, first + 2)

        assert rows(handles.open(place, {})) == [*range(first + 3)]


def test_threads_do_not_share_a_handle(place: str) -> None:
    handles = Handles()
    commit(place, 1)

    with ThreadPoolExecutor(1) as other:
        theirs = other.submit(handles.open, place, {}).result()

    assert theirs is not handles.open(place, {})
