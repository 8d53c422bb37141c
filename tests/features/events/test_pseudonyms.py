"""Pseudonyms: stable per user, no table contains a user id, and forgotten users stay out."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.config.project import Project
from features.errors import ProjectError
from features.events.pseudonyms import FORGOTTEN, Forgotten, Pseudonyms, mark
from features.events.validation import build
from features.sources import read, require_rows

KEY = "0123456789abcdef"
NOW = datetime(2027, 1, 1, tzinfo=UTC)
LOG = """\
{"event":"item","id":"1","item":"a","timestamp":"1767571200000","fields":[{"name":"title","value":"One"}]}
{"event":"ranking","id":"r1","user":"anna-1","timestamp":"1767571300000","items":[{"id":"a"}]}
{"event":"ranking","id":"r2","user":"bert-2","timestamp":"1767571300000","items":[{"id":"a"}]}
{"event":"interaction","id":"e1","user":"anna-1","item":"a","ranking":"r1","type":"click","timestamp":"1767571310000"}
{"event":"interaction","id":"e2","user":"bert-2","item":"a","ranking":"r2","type":"click","timestamp":"1767571310000"}
{"event":"ranking","id":"r3","user":"anna-1","timestamp":"yesterday","items":[{"id":"a"}]}
{"event":"ranking","id":"r4","user":"bert-2","timestamp":"yesterday","items":[{"id":"a"}]}
{"event":"ranking","id":"r5","user":"anna-1","timestamp":"1767571300000","items":[]}
{"event":"ranking","id":"r6","timestamp":"1767571300000","items":[{"id":"a"}]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "log.jsonl").write_text(LOG, encoding="utf-8")
    return Project.model_validate(
        {
            "name": "toy",
            "source": {"format": "metarank", "path": "log.jsonl"},
            "slices": {"start": datetime(2026, 1, 5, tzinfo=UTC)},
            "folder": tmp_path,
        }
    )


def as_text(*tables: pl.DataFrame) -> str:
    return "".join(table.write_ndjson() for table in tables)


def test_a_pseudonym_depends_only_on_the_user_and_the_key() -> None:
    mine, other = Pseudonyms(KEY), Pseudonyms(KEY[::-1])
    assert mine.of("anna-1") == Pseudonyms(KEY).of("anna-1")
    assert len({mine.of("anna-1"), mine.of("bert-2"), other.of("anna-1"), mine.fingerprint}) == 4
    assert len(mine.of("")) == 32
    assert KEY not in repr(mine)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ProjectError, match="at least 16"):
        Pseudonyms("secret")


def test_no_table_contains_a_user_id_and_pseudonyms_are_stable(project: Project) -> None:
    names = Pseudonyms(KEY)
    plain = build(read(project.reader, [project.folder]), project.slices, NOW)
    hidden = build(names.withhold(read(project.reader, [project.folder], names.hide)), project.slices, NOW)

    everything = as_text(hidden.items, hidden.impressions, hidden.interactions, hidden.rejects)
    assert "anna-1" not in everything
    assert "bert-2" not in everything
    assert hidden.impressions["user_id"].to_list() == [
        names.of(user) for user in plain.impressions["user_id"]
    ]
    assert hidden.interactions.height == plain.interactions.height == 2
    # A missing user id stays missing.
    assert hidden.rejects["reason"].to_list() == plain.rejects["reason"].to_list()


def test_rows_of_forgotten_users_are_counted_but_not_kept(project: Project) -> None:
    raw = read(project.reader, [project.folder])
    found = build(Forgotten({mark("anna-1", "salt"): "salt"}).drop(raw), project.slices, NOW)

    everything = as_text(found.impressions, found.interactions, found.rejects)
    assert "anna-1" not in everything
    assert found.rejects.filter(reason=FORGOTTEN)["raw"].to_list() == ["", "", ""]
    assert found.impressions["user_id"].to_list() == ["bert-2"]
    assert found.interactions["user_id"].to_list() == ["bert-2"]
    # Unparseable rows keep their reason, and other users' rows their text.
    unread = found.rejects.filter(reason="bad_timestamp")
    assert unread["raw"].str.contains("bert-2").to_list() == [False, True]
    kept = (found.items, found.impressions, found.interactions, found.rejects)
    assert sum(table.height for table in kept) == raw.height


def test_a_log_with_only_forgotten_users_is_readable(project: Project) -> None:
    raw = read(project.reader, [project.folder])
    marks = {mark(user, "salt"): "salt" for user in ("anna-1", "bert-2")}
    items = raw.items.clear()

    left = Forgotten(marks).drop(replace(raw, items=items))
    require_rows(left.height, left.rejects, project.source.format)


def test_without_forgotten_users_nothing_changes(project: Project) -> None:
    raw = read(project.reader, [project.folder])
    assert Forgotten({}).drop(raw) is raw
