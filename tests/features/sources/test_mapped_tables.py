import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features import sources
from features.config.project import Project
from features.config.sections import Context
from features.errors import SourceError
from features.events.validation import build
from features.ranking_dataset import labelled
from features.sources import RawEvents

START = datetime(2026, 1, 5, tzinfo=UTC)
AT = datetime(2026, 1, 6, 12, tzinfo=UTC)
NOW = datetime(2026, 2, 1, tzinfo=UTC)
SECONDS = int(AT.timestamp())


def project(folder: Path, shape: str, **mapping: Any) -> Project:
    return Project.model_validate(
        {
            "name": "app",
            "source": {
                "format": "tables",
                "path": "log",
                "known_after": "5m",
                "tables": {"shape": shape, **mapping},
            },
            "slices": {"start": START, "end": "2026-01-15T00:00:00Z"},
            "items": {"numeric": ["length"], "categorical": ["genres"]},
            "folder": folder,
        }
    )


def read(folder: Path, log: str, shape: str, name: str = "log.csv", **mapping: Any) -> RawEvents:
    (folder / name).write_text(log)
    return sources.read(project(folder, shape, **mapping).reader, [folder / name])


def shown(raw: RawEvents) -> list[list[str]]:
    return [[c["item_id"] for c in row] for row in raw.impressions["candidates"]]


@pytest.mark.parametrize(
    ("items", "clicked"),
    [("a b c", "b"), ('"[""a"", ""b"", ""c""]"', '"[""b""]"'), ('"[""a"", ""b"", ""c""]"', "b")],
)
def test_lists_in_csv_are_spaced_or_json(tmp_path: Path, items: str, clicked: str) -> None:
    raw = read(
        tmp_path,
        f"user_id,timestamp,item_id,clicked\nu,{SECONDS},{items},{clicked}\n",
        "lists",
        clicked="clicked",
    )

    assert shown(raw) == [["a", "b", "c"]]
    assert raw.interactions.select("item_id", "impression_id", "happened_at", "known_at").rows() == [
        ("b", raw.impressions["impression_id"][0], AT, AT + timedelta(minutes=5))
    ]


@pytest.mark.parametrize(
    ("shape", "log"),
    [
        ("lists", "u,{at},a b,b,0.9 0.1\n"),
        ("candidates", "u,{at},a,0,0.9\nu,{at},b,1,0.1\n"),
    ],
)
def test_a_logs_own_propensities_are_read(tmp_path: Path, shape: str, log: str) -> None:
    header, bad = "user_id,timestamp,item_id,clicked,p\n", "v,{at},a,0,x y\n"
    text = header + (log + bad).format(at=SECONDS)
    raw = read(tmp_path, text, shape, clicked="clicked", propensity="p")
    assert [(c["item_id"], c["propensity"]) for c in raw.impressions["candidates"][0]] == [
        ("a", 0.9),
        ("b", 0.1),
    ]
    assert raw.rejects["reason"].str.contains("propensity").to_list() == [True]
    assert raw.impressions.height == 1


def test_lists_in_parquet_are_lists(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "who": [7, 8],
            "when": [AT, AT],
            "shown": [[1, 2], [3]],
            "took": [[2], []],
            "imp": ["x", "y"],
            "line": [1, 1],
        }
    )
    frame.write_parquet(tmp_path / "log.parquet")
    setting = project(
        tmp_path, "lists", user="who", at="when", item="shown", clicked="took", impression="imp", kind="like"
    )

    raw = sources.read(setting.reader, [tmp_path / "log.parquet"])

    assert raw.impressions.select("impression_id", "user_id", "shown_at").rows() == [
        ("x", "7", AT),
        ("y", "8", AT),
    ]
    assert shown(raw) == [["1", "2"], ["3"]]
    assert raw.interactions.select("interaction_id", "kind").rows() == [("x/2", "like")]


def test_rows_of_one_impression_become_its_candidates_with_grades(tmp_path: Path) -> None:
    log = "imp,user_id,timestamp,item_id,grade\n" + "".join(
        f"{imp},u,{SECONDS},{item},{grade}\n"
        for imp, item, grade in [(1, "a", 0), (1, "b", 2), (2, "c", 1), (1, "d", 4)]
    )

    raw = read(tmp_path, log, "candidates", clicked="grade", impression="imp", threshold=1)

    assert raw.impressions["impression_id"].to_list() == ["1", "2"]
    assert shown(raw) == [["a", "b", "d"], ["c"]]
    assert raw.interactions.select("impression_id", "item_id", "value").rows() == [
        ("1", "b", 2.0),
        ("1", "d", 4.0),
    ]


def test_ratings_are_impressions_of_one_item(tmp_path: Path) -> None:
    rows = [
        f"u::{item}::{grade}::{SECONDS}\n"
        for item, grade in (("a", "3.5"), ("b", "4"), ("c", ""), ("d", "?"))
    ]
    log = "".join(["user_id::item_id::r::timestamp\n", *rows]).replace("::", "\t")

    raw = read(tmp_path, log, "ratings", "log.tsv", clicked="r", threshold=3.5)

    assert shown(raw) == [["a"], ["b"], ["c"]]
    assert shown(replace(raw, impressions=labelled(raw.impressions))) == [["a"], ["b"]]
    assert raw.rejects["reason"].to_list() == ["bad_number:clicked"]
    assert raw.impressions["impression_id"].n_unique() == 3
    assert raw.interactions.select("item_id", "value").rows() == [("b", 4.0)]


@pytest.mark.parametrize(
    "written", [SECONDS, SECONDS * 1000, SECONDS * 10**6, SECONDS * 10**9, "2026-01-06T12:00:00"]
)
def test_the_size_of_an_epoch_gives_its_unit(tmp_path: Path, written: object) -> None:
    raw = read(tmp_path, f"user_id,timestamp,item_id,r\nu,{written},a,1\n", "ratings", clicked="r")

    assert raw.impressions["shown_at"][0] == AT


def test_items_are_read_from_beside_the_log(tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text(
        "key,title,length,genres,source\n1,Heat,170,Crime|Drama,x\n2,Up,?,,y\n"
    )
    log = f"user_id,timestamp,item_id,r\nu,{SECONDS},1,1\n"

    raw = read(tmp_path, log, "ratings", clicked="r", items_path="films.csv", item_key="key")

    first, second = raw.items.iter_rows(named=True)
    assert (first["item_id"], first["title"], first["known_at"]) == (
        "1",
        "Heat",
        START - timedelta(microseconds=1),
    )
    assert first["numbers"] == [{"name": "length", "value": 170.0}]
    assert [a["value"] for a in first["attributes"]] == ["Crime", "Drama"]
    assert (second["numbers"], second["attributes"]) == ([], [])


def test_rows_describe_their_items_from_just_before(tmp_path: Path) -> None:
    rows = [f"{user},{SECONDS + later},p,1,Hello,5,a|b\n" for user, later in (("u", 0), ("v", 9))]
    log = "user_id,timestamp,item_id,r,title,length,genres\n" + "".join(rows)
    raw = read(tmp_path, log, "ratings", clicked="r", items_in_log=True)

    assert shown(raw) == [["p"], ["p"]]
    item = raw.items.row(0, named=True)
    assert (raw.items.height, item["title"], item["known_at"]) == (1, "Hello", AT - timedelta(microseconds=1))
    assert item["numbers"] == [{"name": "length", "value": 5.0}]
    assert [one["value"] for one in item["attributes"]] == ["a", "b"]
    with pytest.raises(ValueError, match="items_in_log needs rows of one item and no items_path"):
        read(tmp_path, log, "ratings", clicked="r", items_in_log=True, items_path="films.csv")


def test_ids_alone_work_without_items(tmp_path: Path) -> None:
    raw = read(tmp_path, f"user_id,timestamp,item_id,r\nu,{SECONDS},a,1\n", "ratings", clicked="r")

    assert raw.items.is_empty()
    assert raw.impressions.height == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f",{SECONDS},a,1", "missing_field:user"),
        ("u,soon,a,1", "bad_timestamp"),
        ("u,,a,1", "missing_field:timestamp"),
        (f"u,{SECONDS},,1", "missing_field:item"),
        (f"u,{SECONDS},a,good", "bad_number:clicked"),
        (f"u,{SECONDS}", "missing_field:item"),
        (f"u,{SECONDS},a,1,2,3", "broken_row:6 columns, not 4"),
    ],
)
def test_a_bad_row_is_one_reject(tmp_path: Path, row: str, reason: str) -> None:
    log = f"user_id,timestamp,item_id,r\nu,{SECONDS},b,1\n{row}\nu,{SECONDS},c,1\n"

    raw = read(tmp_path, log, "ratings", clicked="r")

    assert raw.rejects.select("line", "reason").rows() == [(3, reason)]
    assert shown(raw) == [["b"], ["c"]]


def test_a_broken_list_is_a_reject(tmp_path: Path) -> None:
    lines = [
        {"user_id": "u", "timestamp": SECONDS, "item_id": value, "clicked": ["a"]}
        for value in (["a"], "[1,", [])
    ]

    raw = read(tmp_path, "\n".join(map(json.dumps, lines)) + "\n{", "lists", "log.jsonl", clicked="clicked")

    assert raw.rejects.sort("line").select("line", "reason").rows() == [
        (2, "bad_list:items"),
        (3, "empty_list"),
        (4, "broken_json"),
    ]
    assert shown(raw) == [["a"]]


def test_invalid_utf8_and_a_truncated_gz_reject_their_rows_only(tmp_path: Path) -> None:
    rows = b"".join(b"u%d,%d,a,1\n" % (number * 7919, SECONDS) for number in range(500))
    content = b"user_id,timestamp,item_id,r\n\xff,1,a,1\n" + rows
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(content)[:-40])

    raw = sources.read(project(tmp_path, "ratings", clicked="r").reader, [tmp_path / "log.csv.gz"])

    assert raw.impressions.height > 400
    assert set(raw.rejects["reason"]) == {"invalid_utf8", "truncated_gzip"}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"user": "who"}, "no column 'who'"),
        ({"items_path": "none.csv"}, "MOMENTRANK_DATA"),
        ({"clicked": None}, "clicked"),
    ],
)
def test_a_wrong_mapping_is_an_error(tmp_path: Path, mapping: Mapping[str, Any], message: str) -> None:
    log = f"user_id,timestamp,item_id,r\nu,{SECONDS},a,1\n"

    with pytest.raises(SourceError, match=message):
        read(tmp_path, log, "ratings", **({"clicked": "r"} | dict(mapping)))


@pytest.mark.parametrize("name", ["[old] logs", "user_id=7"])
def test_parquet_is_read_from_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame(
        {"user_id": ["u"], "timestamp": [SECONDS], "item_id": [["a", "b"]], "clicked": [["b"]]}
    )
    frame.write_parquet(tmp_path / name / "log.parquet", mkdir=True)

    raw = sources.read(
        project(tmp_path, "lists", clicked="clicked").reader, [tmp_path / name / "log.parquet"]
    )

    assert shown(raw) == [["a", "b"]]
    assert raw.impressions["user_id"].to_list() == ["u"]


def test_a_broken_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.parquet").write_bytes(b"PAR1 and no more")

    with pytest.raises(SourceError, match="not a readable Parquet file"):
        sources.read(project(tmp_path, "ratings", clicked="r").reader, [tmp_path / "log.parquet"])


@pytest.mark.parametrize("grade", ["nan", "inf", "1e400"])
def test_a_grade_that_is_no_finite_number_is_one_reject(tmp_path: Path, grade: str) -> None:
    log = f"user_id,timestamp,item_id,r\nu,{SECONDS},a,{grade}\nu,{SECONDS},b,1\n"
    setting = project(tmp_path, "ratings", clicked="r")

    built = build(read(tmp_path, log, "ratings", clicked="r"), setting.slices, NOW)

    assert built.rejects.select("line", "reason").rows() == [(2, "bad_number:clicked")]
    assert built.interactions["value"].to_list() == [1.0]


def test_bytes_in_parquet_are_text_and_invalid_cells_are_rejects(tmp_path: Path) -> None:
    rows = {
        "user_id": [b"u", b"\xff", b"v"],
        "timestamp": [b"2026-01-06 12:00:00+00"] * 3,
        "item_id": [b"a", b"b", b"c"],
        "r": [b"1", b"1", b"nan"],
        "blob": [[b"\xff"]] * 3,
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    item = {"item_id": [b"a"], "title": [b"One"], "length": [b"2"], "genres": [None], "blob": [b"\xff"]}
    pl.DataFrame(item).write_parquet(tmp_path / "items.parquet")
    setting = project(tmp_path, "ratings", clicked="r", items_path="items.parquet")

    raw = sources.read(setting.reader, [tmp_path / "log.parquet"])
    built = build(raw, setting.slices, NOW)

    assert raw.impressions.select("user_id", "shown_at").rows() == [("u", AT)]
    assert raw.items["title"].to_list() == ["One"]
    assert built.rejects.select("line", "reason").rows() == [
        (2, "missing_field:user"),
        (3, "bad_number:clicked"),
    ]


@pytest.mark.parametrize(
    ("shown_ids", "clicked"),
    [("a,b", "b"), ("a|b", "b"), ("{a,b}", "{b}"), ("['a', 'b']", "['b']"), (" a b ", "b")],
)
def test_lists_in_csv_are_read_as_databases_and_python_write_them(
    tmp_path: Path, shown_ids: str, clicked: str
) -> None:
    log = f'user_id,timestamp,item_id,clicked\nu,{SECONDS},"{shown_ids}","{clicked}"\n'

    raw = read(tmp_path, log, "lists", clicked="clicked")

    assert shown(raw) == [["a", "b"]]
    assert raw.interactions["item_id"].to_list() == ["b"]


def test_a_declared_separator_leaves_other_signs_in_the_ids(tmp_path: Path) -> None:
    log = f"user_id,timestamp,item_id,clicked\nu,{SECONDS},a|1 b|2,b|2\n"

    with pytest.raises(SourceError, match="separator"):
        read(tmp_path, log, "lists", clicked="clicked")
    raw = read(tmp_path, log, "lists", clicked="clicked", separator=" ")

    assert shown(raw) == [["a|1", "b|2"]]


def test_day_first_dates_are_read_if_declared(tmp_path: Path) -> None:
    log = "user_id,timestamp,item_id,r\nu,06/01/2026 12:00,a,True\n"

    assert read(tmp_path, log, "ratings", clicked="r").rejects["reason"].to_list() == ["bad_timestamp"]
    raw = read(tmp_path, log, "ratings", clicked="r", time_format="%d/%m/%Y %H:%M")

    assert raw.impressions["shown_at"].to_list() == [AT]
    assert raw.interactions["value"].to_list() == [1.0]


def test_ids_are_stripped(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title,length,genres\na ,One,1,x\n")
    log = f"user_id,timestamp,item_id,r\n u ,{SECONDS}, a,1\n"

    raw = read(tmp_path, log, "ratings", clicked="r", items_path="items.csv")

    assert raw.interactions.select("user_id", "item_id").rows() == [("u", "a")]
    assert raw.items["item_id"].to_list() == ["a"]


@pytest.mark.parametrize(
    ("user", "refused"),
    [(b"\xff", [(2, "invalid_utf8"), (3, "line_too_long")]), (b"v", [(3, "line_too_long")])],
)
def test_a_line_that_csv_cannot_hold_is_one_reject(
    tmp_path: Path, user: bytes, refused: list[tuple[int, str]]
) -> None:
    remainder = f",{SECONDS},a,1\nu,{SECONDS},{'x' * (5 << 20)},1\nu,{SECONDS},b,1\n"
    (tmp_path / "log.csv").write_bytes(b"user_id,timestamp,item_id,r\n" + user + remainder.encode())

    raw = sources.read(project(tmp_path, "ratings", clicked="r").reader, [tmp_path / "log.csv"])

    assert raw.rejects.sort("line").select("line", "reason").rows() == refused
    assert raw.impressions.height + len(refused) == 3


def test_json_rows_keep_the_requested_keys_and_quote_rejects_from_the_file(tmp_path: Path) -> None:
    rows = [
        {"user_id": "u", "timestamp": SECONDS, "item_id": n, "r": r, "more": "x"} for n, r in enumerate("10?")
    ]
    setting = project(tmp_path, "ratings", clicked="r")

    raw = read(tmp_path, "\n".join(map(json.dumps, rows)), "ratings", "log.jsonl", clicked="r")

    assert raw.impressions["raw"].null_count() == 2
    assert json.loads(build(raw, setting.slices, NOW).rejects["raw"][0]) == rows[2]


def test_booleans_are_numbers_of_items(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "item_id,title,length,genres\na,One,True,x\nb,Two,nan,x\nc,Three,1e400,x\n"
    )
    log = f"user_id,timestamp,item_id,r\nu,{SECONDS},a,1\n"

    raw = read(tmp_path, log, "ratings", clicked="r", items_path="items.csv")

    assert raw.items["numbers"].to_list() == [[{"name": "length", "value": 1.0}], [], []]


def test_an_excel_export_in_utf_16_is_read(tmp_path: Path) -> None:
    log = f"user_id\ttimestamp\titem_id\tr\r\nzoë\t{SECONDS}\ta\t1\r\n"
    (tmp_path / "log.tsv").write_bytes(log.encode("utf-16"))

    raw = sources.read(project(tmp_path, "ratings", clicked="r").reader, [tmp_path / "log.tsv"])

    assert raw.impressions["user_id"].to_list() == ["zoë"]


def test_each_file_is_read_in_its_own_way_whatever_files_are_beside_it(tmp_path: Path) -> None:
    for name, ids in (("a.csv", "a b"), ("b.csv", '"c,d"')):
        (tmp_path / name).write_text(f"user_id,timestamp,item_id,clicked\nu,{SECONDS},{ids},\n")

    raw = sources.read(project(tmp_path, "lists", clicked="clicked").reader, [tmp_path])

    assert shown(raw) == [["a", "b"], ["c", "d"]]


def test_a_querys_column_is_text_and_not_a_list_of_values(tmp_path: Path) -> None:
    declared = project(tmp_path, "candidates", clicked="clicked").model_copy(
        update={"context": Context(query="typed")}
    )
    log = f"user_id,timestamp,item_id,clicked,typed\nu,{SECONDS},a,0,red | blue Shoes\nv,{SECONDS},a,1,\n"
    (tmp_path / "log.csv").write_text(log)

    raw = sources.read(declared.reader, [tmp_path / "log.csv"])

    assert raw.impressions["context"].to_list() == [[{"name": "typed", "value": "red | blue shoes"}], []]
