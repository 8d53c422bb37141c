"""What lies in the landing folder, and when it is whole."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from features.config.project import Project
from features.errors import ProjectError
from pipelines.landing import Landing, open_landing, settled


def project(folder: Path, **source: Any) -> Project:
    given = {"format": "metarank", "landing": "in", **source}
    slices = {"start": datetime(2026, 1, 5, tzinfo=UTC)}
    return Project.model_validate({"name": "toy", "source": given, "slices": slices, "folder": folder})


@pytest.fixture
def place(tmp_path: Path) -> Landing:
    found = open_landing(project(tmp_path), tmp_path)
    assert found
    return found


def test_a_file_that_still_grows_is_left(place: Landing) -> None:
    log = place.folder / "log.jsonl"
    log.write_text("{}\n")
    for hidden in (".log.jsonl", "log.jsonl.part", "log.tmp"):
        (place.folder / hidden).write_text("half")
    first = place.look()
    assert settled({}, first) == []
    log.write_text("{}\n{}\n")
    second = place.look()
    assert settled(first, second) == []
    assert settled(second, place.look()) == ["log.jsonl"]


def test_what_lies_in_an_object_store_is_copied_while_it_is_parsed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "log.jsonl").write_text("{}\n")
    place = open_landing(project(tmp_path, landing=f"file://{store}"), tmp_path / "home")
    assert place
    listing = place.look()
    assert settled(listing, place.look()) == ["log.jsonl"]
    with place.opened("log.jsonl") as copy:
        assert copy.read_text() == "{}\n"
    assert not copy.exists()
    assert place.place("log.jsonl") == f"file://{store}/log.jsonl"

    (store / "log.jsonl").write_text("{}\n{}\n")
    assert settled(listing, place.look()) == []


def test_a_store_that_no_package_opens_says_what_mends_it(tmp_path: Path) -> None:
    place = open_landing(project(tmp_path, landing="nosuchstore://bucket/logs"), tmp_path)
    assert place
    with pytest.raises(ProjectError, match="install the fsspec package"):
        place.look()


def test_hidden_folders_are_not_looked_into(place: Landing) -> None:
    (place.folder / ".git").mkdir()
    (place.folder / ".git" / "log.jsonl").write_text("{}\n")
    assert place.look() == {}
