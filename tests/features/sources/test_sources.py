import gzip
import json
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features import schemas, sources
from features.config import project as projects
from features.config.project import Project
from features.errors import SourceError
from features.events import labels
from features.events import validation as events
from features.sources.raw import SCHEMAS

REPOSITORY = Path(__file__).parents[3]
START = datetime(2026, 1, 5, tzinfo=UTC)
SECONDS = int(datetime(2026, 1, 6, 12, tzinfo=UTC).timestamp())
NOW = datetime(2026, 2, 1, tzinfo=UTC)


def project(format: str, **source: Any) -> Project:
    return Project.model_validate(
        {
            "name": "app",
            "source": {"format": format, "path": "log"} | source,
            "slices": {"start": START, "end": "2026-01-15T00:00:00Z"},
        }
    )


def metarank_rows() -> list[str]:
    lines: list[dict[str, Any]] = []
    for n in range(40):
        user = {"user": f"u{n % 5}", "timestamp": (SECONDS + n) * 1000}
        lines.append({"event": "ranking", "id": f"r{n}", "items": [{"id": "a"}, {"id": "b"}]} | user)
        lines.append(
            {"event": "interaction", "id": f"c{n}", "ranking": f"r{n}", "item": "a", "type": "click"} | user
        )
    return [json.dumps(line) for line in lines]


def mind_rows() -> list[str]:
    return [f"{n}\tu{n % 5}\t1/6/2026 12:{n:02}:00 PM\tN8 N9\tN1-0 N2-1" for n in range(40)]


def table_rows(cells: str) -> Callable[[], list[str]]:
    return lambda: [cells.format(n=n, user=f"u{n % 5}", at=SECONDS + n, item=f"i{n % 7}") for n in range(40)]


READERS: dict[str, tuple[Project, str, str, Callable[[], list[str]]]] = {
    "metarank": (project("metarank"), "log.jsonl", "", metarank_rows),
    "newsroom": (project("newsroom"), "log.jsonl", "", metarank_rows),
    "mind": (project("mind"), "behaviors.tsv", "", mind_rows),
    "lists": (
        project("tables", tables={"shape": "lists", "clicked": "took"}),
        "log.csv",
        "user_id,timestamp,item_id,took\n",
        table_rows("{user},{at},a b {item},{item}"),
    ),
    "candidates": (
        project("tables", tables={"shape": "candidates", "clicked": "took"}),
        "log.csv",
        "user_id,timestamp,item_id,took\n",
        table_rows("{user},{at},{item},1"),
    ),
    "interactions": (
        project("tables", tables={"shape": "interactions", "sampled": 4}),
        "log.csv",
        "user_id,timestamp,item_id\n",
        table_rows("{user},{at},{item}"),
    ),
    "ratings": (
        project("tables", tables={"shape": "ratings", "clicked": "grade", "threshold": 3}),
        "log.csv",
        "user_id,timestamp,item_id,grade\n",
        table_rows("{user},{at},{item},{n}"),
    ),
}


def write(folder: Path, name: str, text: bytes) -> Path:
    (folder / name).write_bytes(text)
    return folder / name


@pytest.fixture(params=list(READERS))
def log(request: pytest.FixtureRequest) -> tuple[Project, str, str, list[str]]:
    setting, name, header, rows = READERS[request.param]
    return setting, name, header, rows()


Log = tuple[Project, str, str, list[str]]


def test_every_reader_gives_the_same_columns(tmp_path: Path, log: Log) -> None:
    setting, name, header, rows = log

    raw = sources.read(setting.reader, [write(tmp_path, name, (header + "\n".join(rows)).encode())])

    for table, schema in SCHEMAS.items():
        assert getattr(raw, table).schema == schema
    assert raw.impressions.height == 40
    assert raw.interactions.height >= 36
    assert raw.rejects.is_empty()
    assert set(raw.impressions["source"]) == {name}
    first = 2 if header else 1
    assert raw.quote(raw.impressions)["raw"].to_list() == [rows[n - first] for n in raw.impressions["line"]]


def test_every_readers_rows_pass_the_schemas_and_get_labels(tmp_path: Path, log: Log) -> None:
    setting, name, header, rows = log
    raw = sources.read(setting.reader, [write(tmp_path, name, (header + "\n".join(rows)).encode())])

    built = events.build(raw, setting.slices, NOW)

    assert built.rejects.is_empty()
    schemas.Impressions.validate(built.impressions.drop("slice"))
    schemas.Interactions.validate(built.interactions.drop("slice"))
    frame = labels.attribute(built.impressions, built.interactions, setting.labels)
    schemas.Candidates.validate(frame)
    assert frame["clicked"].sum() >= 36
    assert (built.interactions["known_at"] >= built.interactions["happened_at"]).all()


def test_every_reader_accounts_for_every_line_of_a_damaged_log(tmp_path: Path, log: Log) -> None:
    setting, name, header, rows = log
    draw = random.Random(7)
    damaged = [row[: draw.randrange(1, len(row))] if n % 3 == 0 else row for n, row in enumerate(rows)]
    damaged[4] = damaged[4].replace("u", "\ud800", 1)
    text = (header + "\n".join(damaged)).encode("utf-8", "surrogatepass")

    raw = sources.read(setting.reader, [write(tmp_path, name, text)])
    built = events.build(raw, setting.slices, NOW)

    tables = [raw.items, raw.impressions, raw.interactions, raw.rejects]
    lines = {line for table in tables for line in table["line"]}
    first = 2 if header else 1
    # Rows of one list that share an instant and a user would merge; the rows above do not.
    assert lines == set(range(first, first + len(rows)))
    assert raw.rejects.height > 0
    assert raw.rejects["reason"].is_in(["invalid_utf8"]).any()
    out = built.items.height + built.impressions.height + built.interactions.height + built.rejects.height
    assert out == raw.height


def test_every_reader_gives_the_same_rows_however_a_file_is_cut(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, name, header, rows = log
    path = write(tmp_path, name, (header + "\n".join([*rows[:20], rows[20][:9], *rows[21:]])).encode())
    complete = sources.read(setting.reader, [path])

    monkeypatch.setattr(sources.files, "_BLOCK", 200)
    pieces = [
        *sources.chunks(
            few(setting, 9).reader, *sources.log_files(setting.reader, [path]), past=sources.Past()
        )
    ]

    assert len(pieces) > 3
    for table in SCHEMAS:
        actual = pl.concat(getattr(piece, table) for piece in pieces)
        expected = getattr(complete, table)
        key = ["line", *({"impression_id", "interaction_id"} & {*expected.columns})]
        assert actual.sort(key).equals(expected.sort(key))


@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_an_impression_across_two_chunks_is_one_impression(tmp_path: Path, size: int) -> None:
    setting = project("tables", tables={"shape": "candidates", "clicked": "took"})
    frame = pl.DataFrame(
        [(f"u{n // 4}", SECONDS + n // 4, f"i{n}", n % 4 == 1) for n in range(30)],
        schema=["user_id", "timestamp", "item_id", "took"],
        orient="row",
    )
    frame.write_parquet(tmp_path / "log.parquet")
    complete = sources.read(setting.reader, [tmp_path / "log.parquet"])

    cut = sources.read(few(setting, size).reader, [tmp_path / "log.parquet"])

    assert cut.impressions["candidates"].list.len().to_list() == [4] * 7 + [2]
    assert cut.impressions.equals(complete.impressions)
    assert cut.interactions.equals(complete.interactions)
    assert cut.quote(cut.impressions)["raw"].str.contains("user_id").all()


def few(setting: Project, rows: int) -> Project:
    """The project with another `source.chunk_rows`."""
    return setting.model_copy(update={"source": setting.source.model_copy(update={"chunk_rows": rows})})


def test_every_reader_is_deterministic(tmp_path: Path, log: Log) -> None:
    setting, name, header, rows = log
    path = write(tmp_path, name, (header + "\n".join(rows)).encode())

    first, second = sources.read(setting.reader, [path]), sources.read(setting.reader, [path])

    for table in SCHEMAS:
        assert getattr(first, table).equals(getattr(second, table))


def test_every_reader_keeps_earlier_rows_when_rows_are_appended(tmp_path: Path, log: Log) -> None:
    setting, name, header, rows = log
    half = len(rows) // 2

    before = sources.read(setting.reader, [write(tmp_path, name, (header + "\n".join(rows[:half])).encode())])
    after = sources.read(setting.reader, [write(tmp_path, name, (header + "\n".join(rows)).encode())])

    for table, key in (("impressions", "impression_id"), ("interactions", "interaction_id")):
        past = getattr(after, table).join(getattr(before, table), on=["source", "line", key], how="semi")
        order = pl.col("line", key)
        assert past.sort(order).equals(getattr(before, table).sort(order))


def test_every_reader_reads_gz(tmp_path: Path, log: Log) -> None:
    setting, name, header, rows = log
    text = (header + "\n".join(rows)).encode()
    plain = sources.read(setting.reader, [write(tmp_path, name, text)])

    packed_name = name if name == "behaviors.tsv" else f"{name}.gz"
    packed = sources.read(setting.reader, [write(tmp_path, packed_name, gzip.compress(text))])

    assert packed.impressions.drop("source").equals(plain.impressions.drop("source"))


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\n"])
def test_a_log_without_a_readable_row_is_an_error(tmp_path: Path, log: Log, content: bytes) -> None:
    setting, name, header, _ = log

    raw = sources.read(setting.reader, [write(tmp_path, name, header.encode() * bool(content) + content)])
    with pytest.raises(SourceError, match="no readable row"):
        sources.require_rows(raw.height, raw.rejects, setting.source.format)


def test_a_file_of_another_type_is_an_error(tmp_path: Path, log: Log) -> None:
    setting, _, _, _ = log

    with pytest.raises(SourceError, match="unknown type"):
        sources.read(setting.reader, [write(tmp_path, "log.xlsx", b"x")])


def test_a_folder_without_logs_is_an_error(tmp_path: Path, log: Log) -> None:
    setting, _, _, _ = log
    write(tmp_path, "notes.txt", b"x")

    with pytest.raises(SourceError, match="holds no log"):
        sources.read(setting.reader, [tmp_path])


def test_a_path_is_found_in_the_first_folder_that_has_it(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    path = write(tmp_path / "two", "log.jsonl", b"{}")

    assert sources.resolve("log.jsonl", [tmp_path / "one", tmp_path / "two"]) == [path]
    assert sources.resolve(str(path), [tmp_path / "one"]) == [path]


def test_the_error_for_a_missing_path_lists_the_paths_tried(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as error:
        sources.resolve("log.jsonl", [tmp_path / "one", tmp_path / "two"])

    for expected in ("one/log.jsonl", "two/log.jsonl", "MOMENTRANK_DATA", "source.path"):
        assert expected in str(error.value)


def ranklens() -> Path:
    folders = [Path(os.environ[name]) for name in ("MOMENTRANK_DATA",) if name in os.environ]
    for folder in [*folders, REPOSITORY.parent / "shared" / "data"]:
        if (folder / "ranklens" / "events.jsonl.gz").exists():
            return folder
    pytest.skip("the RankLens set is neither in MOMENTRANK_DATA nor in ../shared/data")


def test_ranklens_is_read_whole() -> None:
    folder = ranklens()
    setting = projects.load(REPOSITORY / "projects" / "ranklens.toml")
    raw = sources.read(setting.reader, sources.resolve("ranklens/events.jsonl.gz", [folder]))

    built = events.build(raw, setting.slices, NOW)

    assert (built.items.height, built.impressions.height, built.interactions.height) == (2512, 7911, 36768)
    assert built.rejects.is_empty()
    assert labels.attribute(built.impressions, built.interactions, setting.labels).height == 7911 * 24
    shown = built.impressions.explode("candidates").unnest("candidates")["item_id"].unique()
    assert len(set(shown) - set(built.items["item_id"])) == 8
