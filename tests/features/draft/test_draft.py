import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.config.project import load
from features.draft import Draft, as_name, draft_project, name_of
from features.draft import sample as sampling
from features.errors import SourceError
from features.sources import read

LOG = "user,when,item,clicked\n" + "".join(
    f"u{row % 7},2026-01-{1 + row // 20:02}T{10 + row % 10}:00:00Z,{row % 9},{row % 2}\n"
    for row in range(120)
)


def draft(folder: Path, **files: str | bytes) -> Draft:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return draft_project([folder], [], "logs", folder)


def guess(drafted: Draft, key: str) -> object:
    return {guess.key: guess.value for guess in drafted.guesses}[key]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no log: expected files that end in"),
        ({"x__dat": b"\0\1\2"}, "holds no log: expected files that end in"),
        ({"x__csv": b"\x93\0\1\2" * 99}, "is neither text nor Parquet"),
        ({"x__parquet": b"PAR1 and no more"}, "is not a readable Parquet file"),
        ({"x__csv": "only\n1\n2\n"}, "has one column, 'only'"),
        ({"x__csv": ""}, "has no rows"),
        ({"x__csv": "user,time,item\n"}, "has no rows"),
        ({"x__json": '[{"user": 1}]'}, "is one JSON array: write one object a line"),
        ({"items__csv": "sku,name\n1,A red hat\n2,A blue hat\n"}, "found no column whose values are times"),
        ({"x__jsonl": '{"event": "item", "item": "1", "timestamp": "1700000000000"}\n'}, "and no ranking"),
    ],
)
def test_files_that_are_not_a_log_are_one_clear_error(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        draft(tmp_path, **files)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no file or folder .*nowhere"):
        draft_project([tmp_path / "nowhere"], [], "logs", tmp_path)


def test_titles_in_a_script_without_spaces_are_found_whatever_their_column_is_called(tmp_path: Path) -> None:
    subjects, endings = (
        ("股市", "足球联赛", "新手机"),
        ("今天大幅上涨引发关注", "在最后一刻逆转取胜", "明天可能推迟举行"),
    )
    items = "".join(
        f"{n},{subjects[n % 3]}{endings[n // 3]},{'财经体育科技'[n % 3 * 2 :][:2]}\n" for n in range(9)
    )

    drafted = draft(tmp_path, log__csv=LOG, items__csv=f"商品,标题,栏目\n{items}")

    assert guess(drafted, "items.title") == "标题"
    assert guess(drafted, "items.categorical") == ("栏目",)


def test_undecided_keys_are_marked_and_the_file_is_valid(tmp_path: Path) -> None:
    # No column of the posts is recognisable as the item.
    posts = "".join(f"{row},a{row % 7},2026-01-05T10:00:{row % 60:02}Z,some text here\n" for row in range(99))
    drafted = draft(tmp_path, posts__csv="number,author,at,words\n" + posts)

    assert [edit.key for edit in drafted.edits] == ["source.tables.item"]
    assert "# EDIT: Which column is the item? One of number, author, at, words" in drafted.text
    (tmp_path / "logs.toml").write_text(drafted.text)
    assert load(tmp_path / "logs.toml").source.format == "tables"


def test_columns_are_found_by_content_if_names_say_nothing(tmp_path: Path) -> None:
    log = "".join(
        f"{1_700_000_000 + row * 700},{row % 11},{100 + row % 23},{row / 7}\n" for row in range(300)
    )
    things = "".join(f"{100 + number},Thing number {number} of many\n" for number in range(23))
    drafted = draft(tmp_path, a__csv="c1,c2,c3,c4\n" + log, b__csv="k,l\n" + things)

    columns = ("at", "user", "item", "item_key", "items_path")
    guesses = [guess(drafted, f"source.tables.{name}") for name in columns]
    assert guesses == ["c1", "c2", "c3", "k", "b.csv"]
    assert guess(drafted, "items.title") == "l"
    uncertain = {entry.key for entry in drafted.guesses if entry.confidence == "low"}
    assert {"source.tables.user", "source.tables.item"} <= uncertain


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        ("visitorid,event_time,sku,is_click", ("visitorid", "event_time", "sku")),
        ("Kunde,Zeitpunkt,Artikel,geklickt", ("Kunde", "Zeitpunkt", "Artikel")),
        ("usuario,fecha,producto,clic", ("usuario", "fecha", "producto")),
        ("客户,时间,商品,clicked", ("客户", "时间", "商品")),
    ],
)
def test_names_of_other_languages(tmp_path: Path, names: str, roles: tuple[str, ...]) -> None:
    drafted = draft(tmp_path, log__csv=LOG.replace("user,when,item,clicked", names))

    assert tuple(guess(drafted, f"source.tables.{role}") for role in ("user", "at", "item")) == roles


def test_rows_that_share_an_impression_are_candidates(tmp_path: Path) -> None:
    rows = "".join(
        f"r{row // 5},u{row // 5 % 7},2026-01-05T{row // 50:02}:{row // 5 % 10:02}:00Z,i{row % 23},{1 + row % 5},"
        f"{int(row % 5 == row // 5 % 5)}\n"
        for row in range(500)
    )
    drafted = draft(tmp_path, log__csv="request_id,user_id,ts,item_id,position,click\n" + rows)

    shape, impression, clicked = (
        guess(drafted, f"source.tables.{name}") for name in ("shape", "impression", "clicked")
    )
    assert (shape, impression, clicked) == ("candidates", "request_id", "click")
    assert "are they sorted by position within an impression?" in drafted.text
    (tmp_path / "logs.toml").write_text(drafted.text)
    raw = read(load(tmp_path / "logs.toml").reader, [tmp_path / "log.csv"])
    assert (raw.impressions.height, raw.interactions.height, raw.rejects.height) == (100, 100, 0)


def test_json_lines_and_an_index_column_are_read(tmp_path: Path) -> None:
    rows = [
        {"who": f"u{n % 7}", "at": f"2026-01-05T10:{n % 60:02}:00Z", "shown": [n % 5, 7, 9], "clicked": [7]}
        for n in range(60)
    ]
    drafted = draft(
        tmp_path / "json", log__jsonl__gz=gzip.compress("\n".join(map(json.dumps, rows)).encode())
    )
    keys = ("shape", "item", "clicked")
    assert [guess(drafted, f"source.tables.{key}") for key in keys] == ["lists", "shown", "clicked"]

    lines = [f"{n},u{n % 7},2026-01-05T10:{n % 60:02}:00Z,{n % 5} 7 9,{n % 5}" for n in range(60)]
    drafted = draft(tmp_path / "csv", log__csv=",who,at,shown,clicked\n" + "\n".join(lines))
    assert [guess(drafted, f"source.tables.{key}") for key in keys] == ["lists", "shown", "clicked"]
    assert "source.tables.impression" not in [entry.key for entry in drafted.guesses]


def test_times_of_arrival_and_sessions(tmp_path: Path) -> None:
    rows = "".join(
        f"u{row % 7},s{row % 14},2026-01-05T10:{row % 60:02}:00Z,2026-01-05T10:{row % 60:02}:30Z,{row % 9}\n"
        for row in range(99)
    )
    drafted = draft(
        tmp_path, log__csv="user,visit_id,ingested_at,seen_at,item\n" + rows.replace(":00Z", ":40Z")
    )
    assert guess(drafted, "source.tables.session") == "visit_id"
    assert (guess(drafted, "source.tables.at"), guess(drafted, "source.tables.known_at")) == (
        "seen_at",
        "ingested_at",
    )
    assert guess(drafted, "source.known_after") == "0s"


def test_times_of_other_formats_are_declared(tmp_path: Path) -> None:
    rows = "".join(f"u{row % 7};{1 + row % 28:02}/12/2025 10:{row % 60:02};{row % 9}\n" for row in range(99))
    drafted = draft(tmp_path, log__csv="user;when;item\n" + rows)

    assert guess(drafted, "source.tables.time_format") == "%d/%m/%Y %H:%M"
    assert guess(drafted, "slices.start") == datetime(2025, 12, 1, tzinfo=UTC)


def test_kinds_and_delays_of_events(tmp_path: Path) -> None:
    start = 1_700_000_000_000
    events = [{"event": "item", "item": f"i{n}", "timestamp": start, "fields": [{"name": "name", "value": f"Hat {n}"}]}
              for n in range(5)]  # fmt: skip
    for n in range(40):
        at = start + n * 9_000_000
        shown = [{"id": f"i{k}"} for k in range(5)]
        events.append({"event": "ranking", "id": f"r{n}", "user": f"u{n % 3}", "timestamp": at, "items": shown,
                       "fields": [{"name": "surface", "value": ["home", "search"][n % 2]}]})  # fmt: skip
        events.append({"event": "interaction", "id": f"c{n}", "user": f"u{n % 3}", "ranking": f"r{n}",
                       "item": "i1", "type": "click" if n % 9 else "purchase", "timestamp": at + 400_000})  # fmt: skip
    drafted = draft(tmp_path, log__jsonl="\n".join(map(json.dumps, events)))

    assert guess(drafted, "labels.gains") == {"click": 1.0, "purchase": 10.0}
    assert guess(drafted, "labels.attribution") == "10m"
    assert guess(drafted, "context.categorical") == ("surface",)
    assert guess(drafted, "items.title") == "name"


def test_a_long_log_is_sampled_and_its_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "ROWS", 30)
    monkeypatch.setattr(sampling, "TAIL_ROWS", 10)
    drafted = draft(tmp_path, log__csv=LOG)
    assert "in a sample" in drafted.text  # the log is not in order of time
    assert guess(drafted, "slices.end") is None
    assert "# end =" in drafted.text

    header, *rows = LOG.splitlines()
    in_order = "\n".join([header, *sorted(rows, key=lambda row: row.split(",")[1])])
    drafted = draft(tmp_path, log__csv=in_order)
    assert guess(drafted, "slices.end") == datetime(2026, 1, 7, tzinfo=UTC)


def test_a_long_table_of_items_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "ROWS", 50)
    monkeypatch.setattr(sampling, "TAIL_ROWS", 30)
    log = "".join(f"u{row % 7},2026-01-05T10:00:{row:02},{900 - row}\n" for row in range(40))
    things = "".join(f"{number},Thing number {number}\n" for number in range(900))
    customers = "".join(f"u{number},Somebody or other\n" for number in range(7))
    drafted = draft(
        tmp_path,
        a__csv="user,time,item\n" + log,
        b__csv="id,name\n" + things,
        c__csv="user_id,full_name\n" + customers,
    )

    assert guess(drafted, "source.tables.items_path") == "b.csv"


def test_other_tables_in_the_folder_are_left_out_of_the_path(tmp_path: Path) -> None:
    items = "item,title\n" + "".join(f"{number},A hat number {number}\n" for number in range(9))
    (tmp_path / "logs").mkdir()
    assert guess(draft(tmp_path / "logs", log__csv=LOG), "source.path") == "."
    assert guess(draft(tmp_path / "logs", items__csv=items), "source.path") == "log.csv"


def test_a_name_is_made_from_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "My Shop 2" / "logs"
    folder.mkdir(parents=True)
    assert name_of(folder) == "my-shop-2"
    (tmp_path / "7").mkdir()
    assert name_of(tmp_path / "7") == "project-7"
    assert len(as_name("a long name " * 20)) <= 64  # what MLflow and folders can take
