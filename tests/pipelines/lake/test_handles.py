"""A cached handle reads what a new one reads, whatever happened to the table in between."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from pipelines.lake.handles import Handles


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "table")


def commit(path: str, *numbers: int) -> None:
    for number in numbers:
        write_deltalake(path, pl.DataFrame({"n": [number]}), mode="append")


def rows(table: DeltaTable) -> list[int]:
    return sorted(pl.read_delta(table)["n"])


def test_a_cached_handle_is_reused_and_sees_later_commits(path: str) -> None:
    handles = Handles()
    commit(path, 1)
    first = handles.open(path, {})
    commit(path, 2, 3)

    assert handles.open(path, {}) is first
    assert first.version() == 2
    assert rows(first) == [1, 2, 3]


@pytest.mark.parametrize("commits", [1, 2, 5])
def test_a_recreated_table_is_opened_anew(path: str, commits: int) -> None:
    """Whether its log is shorter or longer than the old one, or as long."""
    handles = Handles()
    commit(path, 1, 2)
    handles.open(path, {})
    shutil.rmtree(path)

    commit(path, *range(10, 10 + commits))

    assert rows(handles.open(path, {})) == [*range(10, 10 + commits)]


@pytest.mark.parametrize("everything", [True, False])
def test_a_table_that_was_removed_is_not_found(path: str, everything: bool) -> None:
    handles = Handles()
    commit(path, 1)
    handles.open(path, {})

    shutil.rmtree(path if everything else f"{path}/_delta_log")

    with pytest.raises(TableNotFoundError):
        handles.open(path, {})


def test_a_table_is_reopened_after_its_commits_were_cleaned_up(path: str) -> None:
    """In the second round the first commit, whose time identifies the table, is gone too."""
    handles = Handles()
    commit(path, 0)
    for first in (1, 4):
        handles.open(path, {})
        commit(path, first, first + 1)
        DeltaTable(path).create_checkpoint()
        for old in range(first + 1):
            Path(path, "_delta_log", f"{old:020}.json").unlink(missing_ok=True)
        commit(path, first + 2)

        assert rows(handles.open(path, {})) == [*range(first + 3)]


def test_threads_do_not_share_a_handle(path: str) -> None:
    handles = Handles()
    commit(path, 1)

    with ThreadPoolExecutor(1) as other:
        opened = other.submit(handles.open, path, {}).result()

    assert opened is not handles.open(path, {})
