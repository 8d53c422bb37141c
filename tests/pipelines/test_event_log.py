"""Every file is parsed exactly once, completely or not at all, even after an interruption."""

import gzip
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import polars as pl
import pytest

from features.config.project import Project
from features.errors import SourceError
from features.sources import read
from features.sources.raw import FORGOTTEN
from pipelines import event_log
from pipelines.event_log import EventLog
from pipelines.identities import Privacy
from pipelines.lake import Lake
from pipelines.landing import open_landing
from pipelines.privacy.retention import personal_tables
from pipelines.triggers.arrival import take_in


def shown(day: int, name: str, user: str = "u") -> str:
    at = datetime(2026, 1, day, 12, tzinfo=UTC).isoformat()
    event = {
        "event": "ranking",
        "id": name,
        "user": user,
        "timestamp": at,
        "items": [{"id": "a"}, {"id": "b"}],
    }
    return json.dumps(event) + "\n"


def click(day: int, name: str, ranking: str, item: str = "a") -> str:
    at = datetime(2026, 1, day, 13, tzinfo=UTC).isoformat()
    event = {"event": "interaction", "id": name, "user": "u", "timestamp": at, "item": item, "type": "click"}
    return json.dumps({**event, "ranking": ranking}) + "\n"


def log_of(folder: Path, **source: Any) -> EventLog:
    settings = {"format": "metarank", "path": "log", **source}
    slices = {"start": datetime(2026, 1, 5, tzinfo=UTC)}
    project = Project.model_validate({"name": "toy", "source": settings, "slices": slices, "folder": folder})
    lake = Lake(str(folder / "lake"))
    return EventLog(lake, project, Privacy(lake, ""), folder / "lock")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path


def ids(log: EventLog) -> list[str]:
    return log.events().impressions["impression_id"].to_list()


def reasons(log: EventLog) -> list[tuple[str, int, str]]:
    return log.events().rejects.select("source", "line", "reason").rows()


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sources of the files that are parsed from now on."""
    parsed: list[str] = []
    parse = event_log.chunks

    def spy(project: Project, file: Any, *rest: Any) -> Iterable[Any]:
        parsed.append(file.source)
        return parse(project, file, *rest)

    monkeypatch.setattr(event_log, "chunks", spy)
    return parsed


def test_only_new_files_are_parsed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = opened(monkeypatch)
    log = log_of(folder)
    for day in (5, 6, 7):
        (folder / "log" / f"{day}.jsonl").write_text(shown(day, f"i{day}"))
        log.take_in([folder / "log"])

    assert parsed == ["5.jsonl", "6.jsonl", "7.jsonl"]
    assert log.take_in([folder / "log"]) == []
    assert ids(log_of(folder)) == ["i5", "i6", "i7"]
    assert [record.slices for record in log.records()] == [("2026-01-05",), ("2026-01-06",), ("2026-01-07",)]


def test_a_slice_is_read_without_the_others(folder: Path) -> None:
    (folder / "log" / "a.jsonl").write_text(shown(5, "i5") + shown(6, "i6") + "{broken\n")
    log = log_of(folder)
    log.take_in([folder / "log"])

    events = log.events(["2026-01-06"])

    assert events.impressions["impression_id"].to_list() == ["i6"]
    assert events.rejects.select("source", "line", "reason", "slice").rows() == [
        ("a.jsonl", 3, "broken_json", "2026-01-06")
    ]


def test_duplicates_and_clicks_are_checked_against_earlier_files(folder: Path) -> None:
    log = log_of(folder)
    (folder / "log" / "1.jsonl").write_text(shown(5, "i5") + click(5, "c1", "i5"))
    log.take_in([folder / "log"])
    (folder / "log" / "2.jsonl").write_text(
        shown(6, "i5")
        + click(6, "c1", "i5")
        + click(6, "c2", "i5", item="z")
        + click(6, "c3", "i5", item="b")
    )
    log.take_in([folder / "log"])

    assert ids(log) == ["i5"]
    assert log.events().interactions["interaction_id"].to_list() == ["c1", "c3"]
    assert reasons(log) == [
        ("2.jsonl", 1, "duplicate_id"),
        ("2.jsonl", 2, "duplicate_id"),
        ("2.jsonl", 3, "item_not_shown"),
    ]


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
def test_rows_do_not_depend_on_the_chunk_size(folder: Path, rows: int) -> None:
    lines = [shown(5 + n // 8, f"i{n % 29}") + click(5 + n // 8, f"c{n}", f"i{n}") for n in range(32)]
    (folder / "log" / "a.jsonl").write_text("".join(lines) + "{broken\n")
    log, whole = log_of(folder, chunk_rows=rows), log_of(folder)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as small:
        small.setattr("features.sources.files._BLOCK", 400)
        (record,) = log.take_in([folder / "log"])

    assert (record.rows, record.rejected) == (65, 4)
    assert record.rows == sum(table.height for table in vars(log.events()).values())
    assert len({*ids(log)}) == 29
    assert log.root == whole.root


def test_an_interrupted_file_leaves_no_rows_and_is_parsed_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "log" / "a.jsonl").write_text(shown(5, "i1") + shown(6, "i2") + "{broken\n")
    with monkeypatch.context() as broken:
        broken.setattr(EventLog, "_save", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            log_of(folder).take_in([folder / "log"])
    assert log_of(folder).events().impressions.is_empty()

    log = log_of(folder)
    log.take_in([folder / "log"])

    assert ids(log) == ["i1", "i2"]
    assert len(reasons(log)) == 1


def test_a_file_used_by_a_run_may_only_grow(folder: Path) -> None:
    path, log = folder / "log" / "a.jsonl", log_of(folder)
    path.write_text(shown(5, "i1"))
    log.take_in([folder / "log"])
    path.write_text(shown(5, "mended"))
    log.take_in([folder / "log"])
    assert ids(log) == ["mended"]

    log.lake.write("candidates", "2026-01-05", pl.DataFrame({"x": [1]}))
    path.write_text(shown(5, "mended") + shown(6, "i2") + "{broken\n")
    (record,) = log.take_in([folder / "log"])
    assert record.rows == 2
    assert ids(log) == ["mended", "i2"]
    assert reasons(log) == [("a.jsonl", 3, "broken_json")]

    path.write_text(shown(5, "other") + shown(6, "i2") + "{broken\n")
    with pytest.raises(SourceError, match=r"a\.jsonl changed since it was parsed .* to another file"):
        log.take_in([folder / "log"])


def test_the_same_content_is_parsed_once_whatever_its_name(folder: Path) -> None:
    log = log_of(folder)
    for name in ("one.jsonl", "other.jsonl"):
        (folder / "log" / name).write_text(shown(6, "i1"))
    log.take_in([folder / "log"])

    assert reasons(log) == []
    assert [record.rows for record in log.records()] == [1, 0]
    assert log.take_in([folder / "log"]) == []


def test_sampled_impressions_do_not_depend_on_how_the_log_is_split(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(folder, format="tables", tables={"shape": "interactions", "sampled": 4})
    rows = [f"u{n % 3},2026-01-{5 + n // 20:02}T12:{n % 20:02}:00Z,i{n * 7 % 11}" for n in range(40)]
    for name, part in (("1", rows[:25]), ("2", rows[25:])):
        (folder / "log" / f"{name}.csv").write_text("\n".join(["user_id,timestamp,item_id", *part]))
        with monkeypatch.context() as patch:
            patch.setattr(EventLog, "events", Mock(side_effect=AssertionError("reads earlier impressions")))
            log.take_in([folder / "log"])
    (folder / "whole.csv").write_text("\n".join(["user_id,timestamp,item_id", *rows]))

    whole = read(log.project.reader, [folder / "whole.csv"]).impressions.sort("shown_at", "impression_id")

    assert log.events().impressions["candidates"].equals(whole["candidates"])


@pytest.mark.parametrize("source", [{"allowed_lateness": "7d"}, {"chunk_rows": 1000}, {"path": "other"}])
def test_settings_that_change_no_row_do_not_parse_the_files_again(
    folder: Path, source: dict[str, Any]
) -> None:
    assert log_of(folder, **source).root == log_of(folder).root


def test_other_settings_of_the_source_parse_the_files_again(folder: Path) -> None:
    (folder / "log" / "a.jsonl").write_text(shown(6, "i1"))
    log, other = log_of(folder), log_of(folder, known_after="1h")
    log.take_in([folder / "log"])

    assert ids(other) == []
    other.take_in([folder / "log"])
    assert ids(other) == ids(log)


def test_a_forgotten_user_is_rejected_from_later_files(folder: Path) -> None:
    log = log_of(folder)
    log.privacy.mark_forgotten("u", {"ranker": (), "interest": ()})
    (folder / "log" / "a.jsonl").write_text(shown(6, "i1") + shown(6, "i2", user="v"))
    log.take_in([folder / "log"])

    assert ids(log) == ["i2"]
    assert log.events().rejects.select("reason", "raw").rows() == [(FORGOTTEN, "")]


def test_the_log_counts_as_personal_data(folder: Path) -> None:
    (folder / "log" / "a.jsonl").write_text(shown(6, "i1") + click(6, "c1", "i1") + "{broken\n")
    log = log_of(folder)
    log.take_in([folder / "log"])

    assert personal_tables(log.lake) == [
        f"{log.root}/{name}" for name in ("impressions", "interactions", "rejects")
    ]


BROKEN = {
    "broken.jsonl.gz": (gzip.compress(shown(6, "i1").encode() * 50)[:-12], "truncated gzip"),
    "words.jsonl": (b"no log at all\n", "no readable row"),
    "empty.jsonl": (b"", "no readable row"),
    "picture.png": (b"\x89PNG", "unknown type"),
    "array.json": (f"[{shown(6, 'i1')}]".encode(), "jq -c"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_unreadable_file_is_rejected_once_and_the_next_is_parsed(folder: Path, name: str) -> None:
    log = log_of(folder, path="", landing="in")
    landing = open_landing(log.project, folder)
    assert landing
    content, reason = BROKEN[name]
    (landing.folder / name).write_bytes(content)
    (landing.folder / "monday").mkdir()
    (landing.folder / "monday" / "z.jsonl").write_text(shown(6, "i1") + shown(8, "i2"))
    listing = landing.look()

    refused, accepted = sorted(
        take_in(landing, log, listing, listing), key=lambda line: "refused" not in line
    )

    assert refused.startswith(f"{name} was refused: ")
    assert reason in refused
    assert accepted == "monday/z.jsonl was parsed: 2 rows, of 2026-01-06, 2026-01-08"
    assert take_in(landing, log, listing, landing.look()) == []
    assert ids(log) == ["i1", "i2"]


@pytest.mark.parametrize(
    "error", [pl.exceptions.PanicException("not implemented"), TypeError("no"), MemoryError()]
)
def test_any_error_in_an_arriving_file_rejects_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    log, path = log_of(folder), folder / "log" / "a.jsonl"
    path.write_text(shown(6, "i1"))
    monkeypatch.setattr(event_log, "build", Mock(side_effect=error))

    record = log.arrive("a.jsonl", path, str(path), 1, "then")

    assert type(error).__name__ in record.refused


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_an_error_of_the_lake_does_not_reject_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    log, path = log_of(folder), folder / "log" / "a.jsonl"
    path.write_text(shown(6, "i1"))
    monkeypatch.setattr(Lake, "draft", Mock(side_effect=error))

    with pytest.raises(type(error)):
        log.arrive("a.jsonl", path, str(path), 1, "then")

    assert log.records() == []
