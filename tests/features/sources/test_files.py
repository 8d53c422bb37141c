"""Difficult files: gz bombs, other encodings, JSON arrays, hidden files, globs. Memory stays bounded."""

import gzip
import json
import tracemalloc
import zlib
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import SourceError
from features.sources import decoding, files
from features.sources.files import MAX_LINE, Block, Lines, cut, cut_json_lines, find, resolve, split


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def bomb(megabytes: int) -> bytes:
    """A gz of one line of that many zeros, then a line of text."""
    packer = zlib.compressobj(wbits=31)
    packed = [packer.compress(b"0" * (1 << 20)) for _ in range(megabytes)]
    return b"".join([*packed, packer.compress(b"\nnext\n"), packer.flush()])


def read_lines(path: Path) -> Lines:
    blocks = [split(block) for block in cut(path, "log")]
    none = split(Block("log", 1, b""))
    return Lines(
        *(pl.concat(getattr(part, name) for part in [none, *blocks]) for name in ("rows", "rejects"))
    )


@pytest.mark.parametrize("packed", [True, False])
def test_a_line_that_is_too_long_is_one_reject_and_the_next_is_read(tmp_path: Path, packed: bool) -> None:
    content = b"first\n" + b"0" * (5 * MAX_LINE) + b"\nnext\n"
    path = write(tmp_path / "log.jsonl", gzip.compress(content) if packed else content)

    lines = read_lines(path)

    assert lines.rows.select("line", "raw").rows() == [(1, "first"), (3, "next")]
    assert lines.rejects.select("line", "reason").rows() == [(2, "line_too_long")]
    assert lines.rejects["raw"].str.len_chars().to_list() == [4000]


def test_a_line_is_too_long_by_its_bytes_wherever_blocks_end(tmp_path: Path) -> None:
    content = b"0" * MAX_LINE + b"\n" + b"1" * (MAX_LINE + 1) + b"\nlast\n"

    lines = read_lines(write(tmp_path / "log.jsonl", content))

    assert lines.rows["line"].to_list() == [1, 3]
    assert lines.rejects.select("line", "reason").rows() == [(2, "line_too_long")]


@given(st.lists(st.text("a ", max_size=20), max_size=12), st.booleans())
def test_every_line_is_a_row_a_reject_or_blank_wherever_blocks_end(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], packed: bool
) -> None:
    content = "\n".join(lines).encode()
    path = write(tmp_path_factory.mktemp("log") / "log", gzip.compress(content) if packed else content)
    numbered = list(enumerate(lines, start=1))

    with pytest.MonkeyPatch.context() as small:
        small.setattr(files, "MAX_LINE", 8)
        small.setattr(files, "_BLOCK", 16)
        small.setattr(decoding, "_UNPACKED", 5)
        split_lines = read_lines(path)

    assert split_lines.rows.select("line", "raw").rows() == [
        (n, line) for n, line in numbered if line.strip() and len(line) <= 8
    ]
    assert split_lines.rejects["line"].to_list() == [n for n, line in numbered if len(line) > 8]


def test_a_gz_bomb_takes_no_more_memory_than_a_block(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl.gz", bomb(megabytes=200))
    tracemalloc.start()
    try:
        blocks = [(block.first, block.problem) for block in cut(path, "log")]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert path.stat().st_size < 300_000
    assert blocks == [(1, "line_too_long"), (2, None)]
    assert peak < 40 << 20


def test_a_gz_bomb_of_short_lines_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_LARGE", 1 << 20)
    path = write(tmp_path / "log.jsonl.gz", gzip.compress(b"{}\n" * (1 << 20)))

    with pytest.raises(SourceError, match="more than 500 times its size"):
        list(cut(path, "log"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-8"])
def test_text_is_read_in_its_encoding(tmp_path: Path, encoding: str) -> None:
    rows = [json.dumps({"title": "Étude № 1 🎻"}, ensure_ascii=False), "{}"]
    path = write(tmp_path / "log.jsonl", "\r\n".join(rows).encode(encoding))

    assert read_lines(path).rows["raw"].to_list() == rows


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}]', '\n[\n  {"a": 1}\n]'])
def test_the_error_for_a_json_array_shows_how_to_convert_it(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "log.json", text.encode())

    with pytest.raises(SourceError, match=r"jq -c '\.\[\]' log\.json > log\.jsonl"):
        list(cut_json_lines(path, "log"))


def test_hidden_files_in_a_folder_are_left_out(tmp_path: Path) -> None:
    for name in (".DS_Store", "._log.csv", ".old/log.csv", "__MACOSX/._log.csv", "log.csv"):
        write(tmp_path / "logs" / name, b"x")

    assert find([tmp_path / "logs"], [".csv"]) == [("log.csv", tmp_path / "logs" / "log.csv")]


def test_a_glob_is_the_files_that_match_it(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", ".hidden.csv", "notes.txt", "deep/c.csv"):
        write(tmp_path / "logs" / name, b"x")
    logs = tmp_path / "logs"

    assert resolve("logs/*.csv", [tmp_path / "other", tmp_path]) == [logs / "a.csv", logs / "b.csv"]
    assert resolve(f"{logs}/*.csv", [tmp_path / "other"]) == [logs / "a.csv", logs / "b.csv"]
    assert resolve("logs/**/*.csv", [tmp_path]) == [logs / "a.csv", logs / "b.csv", logs / "deep" / "c.csv"]
    with pytest.raises(SourceError, match=r"no file or folder 'logs/\*\.jsonl'"):
        resolve("logs/*.jsonl", [tmp_path])


def test_a_name_that_looks_like_a_glob_is_first_a_name(tmp_path: Path) -> None:
    path = write(tmp_path / "log [1].csv", b"x")

    assert resolve("log [1].csv", [tmp_path]) == [path]
