"""A log is taken in once, when it is whole; what is no log is set aside with the reason beside it."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import polars as pl
import pytest

from features.errors import ProjectError
from features.events import build
from features.project import Project
from features.sources import read
from pipelines import landing
from pipelines.arrival import take_in
from pipelines.landing import Landing, Record, open_landing

NOW = datetime(2026, 2, 1, tzinfo=UTC)


def line(day: int, name: str, minute: int = 0) -> str:
    at = datetime(2026, 1, day, 12, minute, tzinfo=UTC).isoformat()
    shown = {"event": "ranking", "id": name, "user": "u", "timestamp": at, "items": [{"id": "a"}]}
    return json.dumps(shown) + "\n"


def project(folder: Path, **source: Any) -> Project:
    given = {"format": "metarank", "landing": "in", **source}
    slices = {"start": datetime(2026, 1, 5, tzinfo=UTC)}
    return Project.model_validate({"name": "toy", "source": given, "slices": slices, "folder": folder})


@pytest.fixture
def toy(tmp_path: Path) -> Project:
    return project(tmp_path)


@pytest.fixture
def place(toy: Project, tmp_path: Path) -> Landing:
    found = open_landing(toy, tmp_path)
    assert found
    return found


def test_a_log_becomes_the_source_s_and_says_which_slices_it_touches(toy: Project, place: Landing) -> None:
    (place.folder / "monday").mkdir()
    (place.folder / "monday" / "log.jsonl").write_text(line(6, "i1") + line(8, "i2") + line(6, "i3"))
    taken = place.take_in("monday/log.jsonl", toy, NOW)
    assert isinstance(taken, Record)
    assert (taken.number, taken.rows, taken.slices) == (1, 3, ("2026-01-06", "2026-01-08"))
    assert (place.accepted / "monday" / "log.jsonl").exists()
    assert place.look() == {}
    assert place.records() == [taken]


def test_the_same_content_is_taken_in_once_whatever_its_name(toy: Project, place: Landing) -> None:
    for name in ("one.jsonl", "other.jsonl"):
        (place.folder / name).write_text(line(6, "i1"))
    assert isinstance(place.take_in("one.jsonl", toy, NOW), Record)
    assert "was taken in before, as one.jsonl" in str(place.take_in("other.jsonl", toy, NOW))
    assert len(place.records()) == 1


def test_another_content_under_the_same_name_is_another_log(toy: Project, place: Landing) -> None:
    for day in (6, 7):
        (place.folder / "log.jsonl").write_text(line(day, f"i{day}"))
        assert isinstance(place.take_in("log.jsonl", toy, NOW), Record)
    assert len([*place.accepted.iterdir()]) == 2
    assert [record.slices for record in place.records()] == [("2026-01-06",), ("2026-01-07",)]


BROKEN = {
    "broken.jsonl.gz": (gzip.compress(line(6, "i1").encode() * 50)[:-12], "breaks off"),
    "words.jsonl": (b"no log at all\n", "no readable row"),
    "empty.jsonl": (b"", "no readable row"),
    "picture.png": (b"\x89PNG", "unknown type"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_whole_log_is_set_aside_with_the_reason(toy: Project, place: Landing, name: str) -> None:
    content, said = BROKEN[name]
    (place.folder / name).write_bytes(content)
    reason = place.take_in(name, toy, NOW)
    assert said in str(reason)
    assert (place.folder / "refused" / name).read_bytes() == content
    assert (place.folder / "refused" / f"{name}.reason").read_text() == f"{reason}\n"
    assert place.records() == []
    assert not place.has_logs()


def test_a_broken_parquet_file_is_set_aside(tmp_path: Path) -> None:
    toy = project(tmp_path, format="tables", tables={"shape": "interactions"})
    place = open_landing(toy, tmp_path)
    assert place
    (place.folder / "log.parquet").write_bytes(b"PAR1 and then nothing")
    assert isinstance(place.take_in("log.parquet", toy, NOW), str)
    assert (place.folder / "refused" / "log.parquet.reason").exists()


def test_a_file_that_still_grows_is_left(place: Landing) -> None:
    log = place.folder / "log.jsonl"
    log.write_text(line(6, "i1"))
    for hidden in (".log.jsonl", "log.jsonl.part", "log.tmp"):
        (place.folder / hidden).write_text("half")
    first = place.look()
    assert place.settle({}, first) == []
    log.write_text(line(6, "i1") + line(6, "i2"))
    second = place.look()
    assert place.settle(first, second) == []
    assert place.settle(second, place.look()) == ["log.jsonl"]


def test_a_look_that_was_cut_short_is_made_good(toy: Project, place: Landing) -> None:
    for day in (6, 7):
        (place.folder / f"{day}.jsonl").write_text(line(day, f"i{day}"))
        place.take_in(f"{day}.jsonl", toy, NOW)
    log = place.folder / "records" / "records.jsonl"
    log.write_text(log.read_text()[:-20])
    assert [record.file for record in place.records()] == ["6.jsonl"]
    (again,) = place.recover(toy, NOW)
    assert (again.number, again.file, again.slices) == (2, "7.jsonl", ("2026-01-07",))
    assert [record.file for record in place.records()] == ["6.jsonl", "7.jsonl"]
    assert place.recover(toy, NOW) == []


def test_an_object_store_s_prefix_is_copied_each_version_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "log.jsonl").write_text(line(6, "i1"))
    toy = project(tmp_path, landing=f"file://{store}")
    place = open_landing(toy, tmp_path / "home")
    assert place
    listing = place.look()
    assert place.settle({}, listing) == []
    assert place.settle(listing, place.look()) == ["log.jsonl"]
    assert isinstance(place.take_in("log.jsonl", toy, NOW), Record)
    assert place.settle(listing, place.look()) == []
    assert (store / "log.jsonl").exists()

    (store / "log.jsonl").write_text(line(6, "i1") + line(9, "i2"))
    listing = place.look()
    assert place.settle(listing, place.look()) == ["log.jsonl"]
    taken = place.take_in("log.jsonl", toy, NOW)
    assert isinstance(taken, Record)
    assert taken.slices == ("2026-01-06", "2026-01-09")


def test_a_store_that_no_package_opens_says_what_mends_it(tmp_path: Path) -> None:
    place = open_landing(project(tmp_path, landing="nosuchstore://bucket/logs"), tmp_path)
    assert place
    with pytest.raises(ProjectError, match="install the fsspec package"):
        place.look()


@pytest.mark.parametrize(
    "error", [pl.exceptions.PanicException("not implemented"), TypeError("no"), MemoryError()]
)
def test_whatever_a_file_raises_it_is_set_aside_and_the_next_is_taken_in(
    toy: Project, place: Landing, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    for name in ("1-bad", "2-good"):
        (place.folder / f"{name}.jsonl").write_text(line(6, name))
    monkeypatch.setattr(
        landing, "build", Mock(side_effect=[error, build(read(toy, [place.folder]), toy, NOW)])
    )
    listing = place.look()

    said = take_in(place, listing, listing, toy, NOW)

    assert [text.partition(":")[0].split(" (")[0] for text in said] == [
        "1-bad.jsonl was refused",
        "2-good.jsonl was taken in",
    ]
    assert type(error).__name__ in (place.folder / "refused" / "1-bad.jsonl.reason").read_text()


def test_ctrl_c_is_no_bad_file(toy: Project, place: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.folder / "log.jsonl").write_text(line(6, "i1"))
    monkeypatch.setattr(landing, "build", Mock(side_effect=KeyboardInterrupt))

    with pytest.raises(KeyboardInterrupt):
        place.take_in("log.jsonl", toy, NOW)

    assert (place.folder / "log.jsonl").exists()


def test_a_moved_file_that_cannot_be_recorded_is_set_aside(
    toy: Project, place: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.accepted / "log.jsonl").write_text(line(6, "i1"))
    monkeypatch.setattr(landing, "build", Mock(side_effect=TypeError("no")))

    assert place.recover(toy, NOW) == []
    assert (place.folder / "refused" / "log.jsonl.reason").read_text() == "TypeError: no\n"
    assert not place.has_logs()


@pytest.mark.parametrize("value", ["nan", "1e400"])
def test_a_log_with_one_bad_value_is_taken_in(tmp_path: Path, value: str) -> None:
    toy = project(tmp_path, format="tables", tables={"shape": "ratings", "clicked": "r"})
    place = open_landing(toy, tmp_path)
    assert place
    rows = f"u,2026-01-06 12:00:00+00,a,{value}\nu,2026-01-06 12:01:00 UTC,b,1\n"
    (place.folder / "log.csv").write_text(f"user_id,timestamp,item_id,r\n{rows}")

    taken = place.take_in("log.csv", toy, NOW)

    assert isinstance(taken, Record)
    assert taken.rows == 3  # an impression and its click, and a reject


def test_a_json_array_is_set_aside_with_what_makes_lines_of_it(toy: Project, place: Landing) -> None:
    (place.folder / "log.json").write_text(f"[{line(6, 'i1')}]")
    assert "jq -c" in str(place.take_in("log.json", toy, NOW))


def test_hidden_folders_are_not_looked_into(place: Landing) -> None:
    (place.folder / ".git").mkdir()
    (place.folder / ".git" / "log.jsonl").write_text(line(6, "i1"))
    assert place.look() == {}


def test_a_log_whose_place_is_taken_is_set_aside(toy: Project, place: Landing) -> None:
    (place.accepted / "log.jsonl").write_text(line(6, "i1"))
    (place.folder / "log.jsonl").mkdir()
    (place.folder / "log.jsonl" / "more.jsonl").write_text(line(6, "i2"))

    assert "exists" in str(place.take_in("log.jsonl/more.jsonl", toy, NOW))
    assert (place.folder / "refused" / "log.jsonl" / "more.jsonl").exists()
