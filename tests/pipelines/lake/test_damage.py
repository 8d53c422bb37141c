"""A damaged or lost file raises an error that names the table and the repair."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from features.errors import TableError
from pipelines.lake import Lake, tables
from pipelines.lake.handles import Handles


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def fill(path: Path) -> None:
    path.write_bytes(b"\x00garbage" * 40)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path))
    for slice in ("2026-01-05", "2026-01-06"):
        lake.write("moment_state/items", slice, pl.DataFrame({"n": [1, 2, 3]}))
    return lake


# Unlinking the last commit is left out: it restores the previous version.
@pytest.mark.parametrize(("damage", "number"), [(cut, 1), (fill, 1), (Path.unlink, 1), (cut, 2), (fill, 2)])
def test_a_damaged_commit_names_the_table_to_remove(
    lake: Lake, damage: Callable[[Path], None], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Path(lake.location("moment_state/items"), "_delta_log")
    commits = sorted(log.glob("*.json"))
    damage(commits[number])
    monkeypatch.setattr(tables, "_HANDLES", Handles())  # as in a new process
    for use in (lake.slices, lake.read, lake.version):
        with pytest.raises(
            TableError, match=r"'moment_state/items' in .* is damaged .* remove .*/moment_state/items"
        ):
            use("moment_state/items")


@pytest.mark.parametrize("damage", [cut, fill, Path.unlink])
def test_a_damaged_file_names_the_slices_to_run_again(lake: Lake, damage: Callable[[Path], None]) -> None:
    files = Path(lake.location("moment_state/items")).glob("slice=2026-01-06/*.parquet")
    damage(next(files))
    with pytest.raises(
        TableError, match=r"is damaged .* --from 2026-01-06 --until 2026-01-06: momentrank run"
    ):
        lake.read("moment_state/items", ["2026-01-06"])
    assert lake.read("moment_state/items", ["2026-01-05"]).height == 3
    lake.write("moment_state/items", "2026-01-06", pl.DataFrame({"n": [4]}))
    assert lake.read("moment_state/items")["n"].to_list() == [1, 2, 3, 4]
