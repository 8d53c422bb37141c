"""Files of the landing folder: which there are, and when each is completely written."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from features.config.project import Project
from features.errors import ProjectError
from pipelines.landing import Landing, open_landing, settled


def project(folder: Path, **source: Any) -> Project:
    settings = {"format": "metarank", "landing": "in", **source}
    slices = {"start": datetime(2026, 1, 5, tzinfo=UTC)}
    return Project.model_validate({"name": "toy", "source": settings, "slices": slices, "folder": folder})


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    landing = open_landing(project(tmp_path), tmp_path)
    assert landing
    return landing


def test_a_growing_file_is_not_ready(landing: Landing) -> None:
    log = landing.folder / "log.jsonl"
    log.write_text("{}\n")
    for hidden in (".log.jsonl", "log.jsonl.part", "log.tmp"):
        (landing.folder / hidden).write_text("half")
    first = landing.look()
    assert settled({}, first) == []
    log.write_text("{}\n{}\n")
    second = landing.look()
    assert settled(first, second) == []
    assert settled(second, landing.look()) == ["log.jsonl"]


def test_a_remote_file_is_copied_while_it_is_parsed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "log.jsonl").write_text("{}\n")
    landing = open_landing(project(tmp_path, landing=f"file://{store}"), tmp_path / "home")
    assert landing
    listing = landing.look()
    assert settled(listing, landing.look()) == ["log.jsonl"]
    with landing.opened("log.jsonl") as copy:
        assert copy.read_text() == "{}\n"
    assert not copy.exists()
    assert landing.place("log.jsonl") == f"file://{store}/log.jsonl"

    (store / "log.jsonl").write_text("{}\n{}\n")
    assert settled(listing, landing.look()) == []


def test_an_unknown_url_scheme_names_the_missing_package(tmp_path: Path) -> None:
    landing = open_landing(project(tmp_path, landing="nosuchstore://bucket/logs"), tmp_path)
    assert landing
    with pytest.raises(ProjectError, match="install the fsspec package"):
        landing.look()


def test_hidden_folders_are_ignored(landing: Landing) -> None:
    (landing.folder / ".git").mkdir()
    (landing.folder / ".git" / "log.jsonl").write_text("{}\n")
    assert landing.look() == {}
