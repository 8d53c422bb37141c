"""User ids as they are kept: the same person is known again, nobody is named, and the forgotten stay away."""

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


def written(*tables: pl.DataFrame) -> str:
    return "".join(table.write_ndjson() for table in tables)


def test_a_pseudonym_depends_on_the_person_and_the_key_alone() -> None:
    mine, other = Pseudonyms(KEY), Pseudonyms(KEY[::-1])
    assert mine.of("anna-1") == Pseudonyms(KEY).of("anna-1")
    assert len({mine.of("anna-1"), mine.of("bert-2"), other.of("anna-1"), mine.fingerprint}) == 4
    assert len(mine.of("")) == 32
    assert KEY not in repr(mine)


def test_a_key_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ProjectError, match="at least 16"):
        Pseudonyms("secret")


def test_no_table_names_anybody_and_everybody_is_known_again(project: Project) -> None:
    names = Pseudonyms(KEY)
    plain = build(read(project, [project.folder]), project, NOW)
    hidden = build(names.withhold(read(project, [project.folder], names.hide)), project, NOW)

    everything = written(hidden.items, hidden.impressions, hidden.interactions, hidden.rejects)
    assert "anna-1" not in everything
    assert "bert-2" not in everything
    assert hidden.impressions["user_id"].to_list() == [
        names.of(user) for user in plain.impressions["user_id"]
    ]
    assert hidden.interactions.height == plain.interactions.height == 2
    # A missing user stays missing: it is no person.
    assert hidden.rejects["reason"].to_list() == plain.rejects["reason"].to_list()


def test_rows_of_the_forgotten_are_counted_and_nothing_of_them_is_kept(project: Project) -> None:
    raw = read(project, [project.folder])
    found = build(Forgotten({mark("anna-1", "salt"): "salt"}).drop(raw), project, NOW)

    everything = written(found.impressions, found.interactions, found.rejects)
    assert "anna-1" not in everything
    assert found.rejects.filter(reason=FORGOTTEN)["raw"].to_list() == ["", "", ""]
    assert found.impressions["user_id"].to_list() == ["bert-2"]
    assert found.interactions["user_id"].to_list() == ["bert-2"]
    # A row that no table can hold still says what was wrong, and other people's rows stay quoted.
    unread = found.rejects.filter(reason="bad_timestamp")
    assert unread["raw"].str.contains("bert-2").to_list() == [False, True]
    kept = (found.items, found.impressions, found.interactions, found.rejects)
    assert sum(table.height for table in kept) == raw.height


def test_a_log_of_the_forgotten_alone_is_no_unreadable_log(project: Project) -> None:
    raw = read(project, [project.folder])
    marks = {mark(user, "salt"): "salt" for user in ("anna-1", "bert-2")}
    items = raw.items.clear()

    left = Forgotten(marks).drop(replace(raw, items=items))
    require_rows(left.height, left.rejects, project)


def test_nobody_forgotten_changes_nothing(project: Project) -> None:
    raw = read(project, [project.folder])
    assert Forgotten({}).drop(raw) is raw
