import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features import schemas
from features.config.project import Project
from features.config.sections import ItemFields
from features.errors import TableError
from features.events import validation as events
from features.events.validation import Events
from features.sources import RawEvents, read
from features.sources.raw import gather

START = datetime(2026, 1, 5, tzinfo=UTC)
NOW = datetime(2026, 2, 1, tzinfo=UTC)
AT = datetime(2026, 1, 6, 12, tzinfo=UTC)


def project(**slices: Any) -> Project:
    return Project.model_validate(
        {
            "name": "app",
            "source": {"format": "metarank", "path": "log"},
            "slices": {"start": START, "end": "2026-01-15T00:00:00Z"} | slices,
        }
    )


def item(name: str = "a", at: datetime | None = AT, title: str | None = "T") -> dict[str, Any]:
    fields = [] if title is None else [{"name": "title", "value": title}]
    return {"event": "item", "item": name, "timestamp": at and at.isoformat(), "fields": fields}


def ranking(
    name: str = "r", at: datetime = AT, user: str | None = "u", items: Any = ("a", "b")
) -> dict[str, Any]:
    shown = None if items is None else [{"id": name} for name in items]
    return {"event": "ranking", "id": name, "user": user, "timestamp": at.isoformat(), "items": shown}


def click(name: str = "c", at: datetime = AT, **changes: Any) -> dict[str, Any]:
    line = {"event": "interaction", "id": name, "item": "a", "ranking": "r", "type": "click", "user": "u"}
    return line | {"timestamp": at.isoformat()} | changes


def parse(folder: Path, *lines: object) -> RawEvents:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "log.jsonl").write_text("\n".join(texts))
    return read(project().reader, [folder / "log.jsonl"])


def build(folder: Path, *lines: object, now: datetime = NOW, **slices: Any) -> Events:
    return events.build(parse(folder, *lines), project(**slices).slices, now)


def reasons(built: Events) -> list[tuple[int, str]]:
    return [(line, reason) for line, reason in built.rejects.select("line", "reason").rows()]


def test_kept_rows_are_valid_and_sliced_by_when_they_were_known(tmp_path: Path) -> None:
    built = build(
        tmp_path, item(at=START - timedelta(days=300)), ranking(), click(known_at="2026-01-07T00:00:00Z")
    )

    schemas.Items.validate(built.items.drop("slice"))
    schemas.Impressions.validate(built.impressions.drop("slice"))
    schemas.Interactions.validate(built.interactions.drop("slice"))
    schemas.Rejects.validate(built.rejects.drop("slice"))
    assert built.items.select("slice", "known_at").rows() == [("2026-01-05", START - timedelta(days=300))]
    assert built.impressions["slice"].to_list() == ["2026-01-06"]
    assert built.interactions["slice"].to_list() == ["2026-01-07"]


def test_slices_may_be_minutes_long(tmp_path: Path) -> None:
    built = build(tmp_path, ranking(at=START + timedelta(minutes=3, seconds=59)), every="2m")

    assert built.impressions["slice"].to_list() == [
        project(every="2m").slices.key(START + timedelta(minutes=3))
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (item(name=""), "missing_field:item"),
        (item(at=None), "missing_field:timestamp"),
        (item(title=None), "missing_field:title"),
        (item(at=datetime(2026, 1, 15, tzinfo=UTC)), "outside_timetable"),
        (item(at=NOW + timedelta(days=31)), "in_future"),
        (ranking(name=""), "missing_field:id"),
        (ranking(user=None), "missing_field:user"),
        (ranking(items=None), "missing_field:items"),
        (ranking(items=()), "empty_list"),
        (ranking(items=("", None)), "empty_list"),
        (ranking() | {"items": [{"id": "a", "propensity": 0}]}, "bad_number:propensity"),
        (
            ranking() | {"items": [{"id": str(p), "propensity": p} for p in (0.5, "nan")]},
            "bad_number:propensity",
        ),
        (ranking(at=START - timedelta(microseconds=1)), "outside_timetable"),
        (ranking(at=datetime(2026, 1, 15, tzinfo=UTC)), "outside_timetable"),
        (ranking(at=NOW + timedelta(days=31)), "in_future"),
        (click(id=None), "missing_field:id"),
        (click(user=""), "missing_field:user"),
        (click(item=None), "missing_field:item"),
        (click(type=None), "missing_field:kind"),
        (click(timestamp=None), "missing_field:timestamp"),
        (click(timestamp="2031-01-01"), "in_future"),
        (click(timestamp="1999-01-01"), "outside_timetable"),
        (click(known_at="2026-01-06T11:59:59Z"), "known_before_happened"),
        (click(item="z", ranking="seen"), "item_not_shown"),
        (click(ranking="seen", user="other"), "user_mismatch"),
        ('{"broken', "broken_json"),
    ],
)
def test_a_refused_row_has_one_clear_reason(tmp_path: Path, line: object, reason: str) -> None:
    built = build(tmp_path, ranking("seen"), line)

    assert reasons(built) == [(2, reason)]
    assert built.impressions["impression_id"].to_list() == ["seen"]


def test_unknown_items_and_unknown_impressions_are_kept(tmp_path: Path) -> None:
    built = build(
        tmp_path, ranking(items=("never", "described")), click(ranking="elsewhere"), click("d", ranking=None)
    )

    assert built.rejects.is_empty()
    assert built.impressions["candidates"].list.len().to_list() == [2]
    assert built.interactions["impression_id"].to_list() == ["elsewhere", None]


def test_a_repeated_candidate_keeps_its_first_position(tmp_path: Path) -> None:
    built = build(tmp_path, ranking(items=("a", "b", "a", None, "c")))

    assert [(c["item_id"], c["position"]) for c in built.impressions["candidates"][0]] == [
        ("a", 1),
        ("b", 2),
        ("c", 5),
    ]
    assert built.rejects.is_empty()


def test_the_first_known_of_repeated_ids_is_kept(tmp_path: Path) -> None:
    later = AT + timedelta(hours=1)

    built = build(
        tmp_path,
        *(item(title="first"), item(title="again"), item(title="new", at=later)),
        *(ranking(at=later), ranking()),
        *(click(at=later), click(), click()),
    )

    assert built.items["title"].to_list() == ["first", "new"]
    assert built.impressions["shown_at"].to_list() == [AT]
    assert built.interactions["happened_at"].to_list() == [AT]
    assert reasons(built) == [
        (2, "duplicate_id"),
        (4, "duplicate_id"),
        (6, "duplicate_id"),
        (8, "duplicate_id"),
    ]


def test_rejects_belong_to_the_slice_of_their_own_time_or_of_the_row_before(tmp_path: Path) -> None:
    day = timedelta(days=1)

    built = build(
        tmp_path,
        '{"before any row',
        *(ranking("r1", AT), '{"after r1', ranking("r2", AT + day), '{"after r2'),
        *(click(user=None, at=AT + 2 * day), ranking("r3", START - day), ranking("r4", NOW - day)),
    )

    assert built.rejects.sort("line").select("line", "slice").rows() == [
        (1, "2026-01-05"),
        (3, "2026-01-06"),
        (5, "2026-01-07"),
        (6, "2026-01-08"),
        (7, "2026-01-05"),
        (8, "2026-01-14"),
    ]


def test_without_an_end_a_future_row_stays_in_the_same_slice_whenever_it_is_read(
    tmp_path: Path,
) -> None:
    lines = (ranking(at=AT), ranking("r2", at=datetime(2099, 1, 1, tzinfo=UTC)))

    first = build(tmp_path, *lines, now=AT + timedelta(days=1), end=None)
    second = build(tmp_path, *lines, now=AT + timedelta(days=9), end=None)

    assert first.rejects["slice"].to_list() == ["2026-01-06"]
    assert second.rejects.equals(first.rejects)


def test_the_order_of_lines_does_not_change_the_tables(tmp_path: Path) -> None:
    lines = [item(f"i{n}", AT - timedelta(minutes=n)) for n in range(20)]
    lines += [ranking(f"r{n}", AT + timedelta(minutes=n % 3)) for n in range(20)]
    lines += [click(f"c{n}", AT + timedelta(minutes=n % 5), ranking=f"r{n}") for n in range(20)]

    forwards, backwards = build(tmp_path, *lines), build(tmp_path, *reversed(lines))

    assert forwards.items.equals(backwards.items)
    assert forwards.impressions.equals(backwards.impressions)
    assert forwards.interactions.equals(backwards.interactions)
    times = forwards.interactions.select("slice", "known_at", "interaction_id")
    assert times.equals(times.sort(pl.all()))


def test_a_long_row_is_cut_in_rejects(tmp_path: Path) -> None:
    built = build(tmp_path, ranking(), '{"event": "' + "x" * 9000)

    assert built.rejects["raw"].str.len_chars().to_list() == [4000]


def test_lost_rows_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_deduplicate", lambda frame, *_: (frame.head(0), gather().rejects))

    with pytest.raises(TableError, match="1 rows were read, but 0"):
        build(tmp_path, ranking())


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "-Infinity", "red"])
def test_a_non_finite_value_becomes_null_and_the_click_is_kept(tmp_path: Path, value: str) -> None:
    as_text, as_number = click("c1", value=value), json.dumps(click("c2")).replace("}", ', "value": 1e400}')

    built = build(tmp_path, ranking(), as_text, as_number, click("c3", value=2))

    assert built.interactions["value"].to_list() == [None, None, 2.0]
    assert built.rejects.is_empty()


def test_an_item_with_too_many_values_is_refused_alone(tmp_path: Path) -> None:
    lines = [item("a"), item("b"), item("c")]
    for line, count in zip(lines, (1, 1000, 1001), strict=True):
        line["fields"].append({"name": "tags", "value": [f"v{n}" for n in range(count)]})
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    declared = project().model_copy(update={"items": ItemFields(categorical=("tags",))})

    built = events.build(read(declared.reader, [tmp_path / "log.jsonl"]), declared.slices, NOW)

    assert built.items["item_id"].to_list() == ["a", "b"]
    assert reasons(built) == [(3, "too_many_values:over 1000 in attributes")]
