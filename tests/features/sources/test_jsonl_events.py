import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import sources
from features.config.project import Project
from features.config.sections import Context
from features.events import validation as events
from features.sources import RawEvents

PROJECT = Project.model_validate(
    {
        "name": "app",
        "source": {"format": "metarank", "path": "log", "known_after": "5m"},
        "slices": {"start": "2026-01-05T00:00:00Z", "end": "2026-01-15T00:00:00Z"},
        "items": {
            "body": "text",
            "published_at": "born",
            "numeric": ["length"],
            "categorical": ["tags", "author"],
        },
    }
)
AT = datetime(2026, 1, 6, 12, tzinfo=UTC)
MILLIS = str(int(AT.timestamp() * 1000))


def item(**changes: object) -> dict[str, object]:
    fields = [
        {"name": "title", "value": "Rain"},
        {"name": "text", "value": "All day."},
        {"name": "born", "value": 8.195904e8},
        {"name": "length", "value": 12},
        {"name": "tags", "value": ["weather", "city", "weather"]},
        {"name": "author", "value": "Ann"},
    ]
    return {"event": "item", "id": "e1", "item": "a", "timestamp": MILLIS, "fields": fields} | changes


def ranking(**changes: object) -> dict[str, object]:
    shown = [{"id": "a", "fields": []}, {"id": "b"}]
    return {
        "event": "ranking",
        "id": "r1",
        "user": "u",
        "session": "s",
        "timestamp": MILLIS,
        "items": shown,
    } | changes


def click(**changes: object) -> dict[str, object]:
    return {
        "event": "interaction",
        "id": "c1",
        "item": "b",
        "ranking": "r1",
        "type": "click",
        "user": "u",
        "timestamp": MILLIS,
        "fields": [],
    } | changes


def read(folder: Path, *lines: object, project: Project = PROJECT) -> RawEvents:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "log.jsonl").write_text("\n".join(texts), encoding="utf-8")
    return sources.read(project.reader, [folder / "log.jsonl"])


def test_an_item_carries_text_numbers_and_attributes(tmp_path: Path) -> None:
    row = read(tmp_path, item()).items.row(0, named=True)

    assert (row["item_id"], row["known_at"], row["title"], row["body"]) == ("a", AT, "Rain", "All day.")
    assert row["published_at"] == datetime(1995, 12, 22, tzinfo=UTC)
    assert row["numbers"] == [{"name": "length", "value": 12.0}]
    assert [(a["name"], a["value"]) for a in row["attributes"]] == [
        ("tags", "weather"),
        ("tags", "city"),
        ("author", "Ann"),
    ]


def test_a_ranking_becomes_an_impression_in_the_order_shown(tmp_path: Path) -> None:
    shown = [{"id": "a", "propensity": 0.9}, {"id": "b"}]
    row = read(tmp_path, ranking(items=shown)).impressions.row(0, named=True)

    assert (row["impression_id"], row["user_id"], row["session_id"], row["shown_at"]) == ("r1", "u", "s", AT)
    assert row["candidates"] == [
        {"item_id": "a", "position": 1, "propensity": 0.9},
        {"item_id": "b", "position": 2, "propensity": None},
    ]
    assert (row["source"], row["line"]) == ("log.jsonl", 1)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  How  do I\nRESET my password? ", "how do i reset my password?"),
        (["red", "shoes"], "red shoes"),
        ("Ｗｉｆｉ 密码", "wifi 密码"),
        ("Ændr ÅRETS Gebyr", "ændr årets gebyr"),
        ("a" * 600, "a" * 500),
        (" ", None),
        (None, None),
    ],
)
def test_a_rankings_query_is_kept_in_normal_form(tmp_path: Path, typed: object, kept: str | None) -> None:
    project = PROJECT.model_copy(update={"context": Context(categorical=("page",), query="q")})
    fields = [{"name": "q", "value": typed}, {"name": "page", "value": "Home"}]

    row = read(tmp_path, ranking(fields=fields), project=project).impressions.row(0, named=True)

    expected = [{"name": "page", "value": "Home"}, *([{"name": "q", "value": kept}] if kept else [])]
    assert row["context"] == expected


def test_an_interaction_is_known_after_the_declared_delay(tmp_path: Path) -> None:
    row = read(tmp_path, click()).interactions.row(0, named=True)

    assert (row["interaction_id"], row["impression_id"], row["item_id"], row["kind"]) == (
        "c1",
        "r1",
        "b",
        "click",
    )
    assert (row["happened_at"], row["known_at"]) == (AT, AT + timedelta(minutes=5))


ARRIVAL = "2026-01-06T12:01:00Z"


@pytest.mark.parametrize(
    "line", [click(known_at=ARRIVAL), click(fields=[{"name": "known_at", "value": ARRIVAL}])]
)
def test_an_arrival_time_in_the_log_wins_over_the_delay(tmp_path: Path, line: dict[str, object]) -> None:
    assert read(tmp_path, line).interactions["known_at"][0] == AT + timedelta(minutes=1)


@pytest.mark.parametrize("line", [click(value=3.5), click(fields=[{"name": "value", "value": "3.5"}])])
def test_a_value_is_a_key_or_a_field(tmp_path: Path, line: dict[str, object]) -> None:
    assert read(tmp_path, line).interactions["value"][0] == 3.5


@pytest.mark.parametrize(
    "written",
    [
        MILLIS,
        int(MILLIS),
        float(MILLIS),
        int(MILLIS) // 1000,
        "2026-01-06T12:00:00Z",
        "2026-01-06 14:00:00+02:00",
        "2026-01-06T12:00",
    ],
)
def test_instants_are_read_in_every_form(tmp_path: Path, written: object) -> None:
    assert read(tmp_path, click(timestamp=written)).interactions["happened_at"][0] == AT


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"event": "interaction", "id"', "broken_json"),
        ("[1, 2]", "broken_json:not an object"),
        ('{"event": "ranking", "id": NaN}', "broken_json"),
        ('{"event": "interaction", "id": "\\ud800"}', "broken_json"),
        ({"id": "x"}, "missing_field:event"),
        (item(event="user"), "unknown_event:user"),
        (click(timestamp="noon"), "bad_timestamp"),
        (item(timestamp="2026-02-30T00:00:00Z"), "bad_timestamp"),
        (click(known_at="later"), "bad_timestamp:known_at"),
        (click(user={"id": 1}), "bad_field:user"),
        (ranking(items="a b"), "bad_field:items"),
        (ranking(items=[{"id": ["a"]}]), "bad_field:items"),
        (item(fields={"title": "Rain"}), "bad_field:fields"),
    ],
)
def test_an_invalid_line_is_rejected_alone(tmp_path: Path, line: object, reason: str) -> None:
    raw = read(tmp_path, ranking(), line, click())

    assert raw.rejects.select("line", "reason").rows() == [(2, reason)]
    assert (raw.impressions.height, raw.interactions.height) == (1, 1)


def test_invalid_utf8_rejects_its_line_only(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(json.dumps(click()).encode() + b'\n{"event": "\xff"}\n')

    raw = sources.read(PROJECT.reader, [tmp_path / "log.jsonl"])

    assert raw.interactions.height == 1
    assert raw.rejects.select("line", "reason").rows() == [(2, "invalid_utf8")]


@pytest.mark.parametrize("cut", [40, 9])
def test_a_truncated_gz_keeps_the_lines_before_the_break(tmp_path: Path, cut: int) -> None:
    lines = [json.dumps(click(id=f"c{number}", user=str(number * 7919))) for number in range(500)]
    packed = gzip.compress("\n".join(lines).encode())
    (tmp_path / "log.jsonl.gz").write_bytes(packed[:-cut])

    raw = sources.read(PROJECT.reader, [tmp_path / "log.jsonl.gz"])

    kept = raw.interactions.height
    assert 450 < kept < 500
    assert raw.interactions.sort("line")["interaction_id"].to_list() == [
        f"c{number}" for number in range(kept)
    ]
    assert raw.rejects.select("line", "reason").rows() == [(kept + 1, "truncated_gzip")]


def test_a_corrupted_gz_keeps_the_lines_before_the_error(tmp_path: Path) -> None:
    lines = [json.dumps(click(id=f"c{number}", user=str(number * 7919))) for number in range(5000)]
    packed = bytearray(gzip.compress("\n".join(lines).encode()))
    middle = len(packed) // 2
    packed[middle : middle + 64] = b"\xff" * 64
    (tmp_path / "log.jsonl.gz").write_bytes(packed)

    raw = sources.read(PROJECT.reader, [tmp_path / "log.jsonl.gz"])

    assert raw.interactions.height > 1500
    assert raw.rejects["reason"].to_list()[-1] == "truncated_gzip"


def test_folders_are_searched_and_gz_may_have_several_members(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.jsonl.gz").write_bytes(
        gzip.compress(json.dumps(click()).encode() + b"\n")
        + gzip.compress(json.dumps(click(id="c2")).encode())
    )
    (tmp_path / "a.json").write_text(json.dumps(ranking()))
    (tmp_path / "notes.txt").write_text("not a log")

    raw = sources.read(PROJECT.reader, [tmp_path])

    assert raw.interactions.select("source", "line", "interaction_id").rows() == [
        ("deep/b.jsonl.gz", 1, "c1"),
        ("deep/b.jsonl.gz", 2, "c2"),
    ]
    assert raw.impressions["source"].to_list() == ["a.json"]


def test_files_of_one_name_in_two_folders_are_distinct(tmp_path: Path) -> None:
    paths = []
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        paths.append(tmp_path / part / "log.jsonl")
        paths[-1].write_text(json.dumps(click(id=part)))

    raw = sources.read(PROJECT.reader, paths)

    assert raw.interactions["source"].to_list() == ["train/log.jsonl", "test/log.jsonl"]


_KEYS = st.sampled_from(["id", "name", "value"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=6,
)
_SPLINTER = st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=["Cs"]), max_size=4)
_CHANGES = st.dictionaries(
    st.sampled_from(
        [
            "event",
            "id",
            "user",
            "item",
            "items",
            "timestamp",
            "known_at",
            "fields",
            "type",
            "ranking",
            "value",
        ]
    ),
    _JSON | st.sampled_from([MILLIS, "item", "ranking", "interaction"]),
    max_size=3,
)


@st.composite
def corrupted_lines(draw: st.DrawFn) -> str:
    whole = draw(st.sampled_from([item, ranking, click]))
    text = json.dumps(whole(**draw(_CHANGES)))
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    damage = draw(st.sampled_from(["none", "cut", "swap"]))
    if damage == "none":
        return text
    return text[:start] if damage == "cut" else text[:start] + draw(_SPLINTER) + text[end:]


@settings(max_examples=20)
@given(lines=st.lists(corrupted_lines(), min_size=1, max_size=24))
def test_every_line_is_kept_or_rejected_once_whatever_its_neighbours(
    tmp_path: Path, lines: list[str]
) -> None:
    together = read(tmp_path, *lines)
    built = events.build(together, PROJECT.slices, datetime(2026, 2, 1, tzinfo=UTC))

    tables = (together.items, together.impressions, together.interactions, together.rejects)
    seen = sorted(line for table in tables for line in table["line"])
    assert seen == [number for number, line in enumerate(lines, start=1) if line.strip()]
    kept = built.items.height + built.impressions.height + built.interactions.height
    assert kept + built.rejects.height == len(seen)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            alone = read(tmp_path, line)
            for table in ("items", "impressions", "interactions", "rejects"):
                row = getattr(together, table).filter(pl.col("line") == number).drop("line")
                assert row.equals(getattr(alone, table).drop("line"))
