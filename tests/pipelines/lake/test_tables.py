"""The lake: slices are replaced atomically and read as written, in a folder or an object store."""

import re
import tempfile
import threading
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import TableError
from pipelines.lake import Lake

INSTANT = datetime(2026, 1, 5, 12, 30, 1, 123456, tzinfo=UTC)


def numbers(*values: int) -> pl.DataFrame:
    return pl.DataFrame({"n": values}, schema={"n": pl.Int64})


def test_a_rerun_replaces_the_slice_and_leaves_the_others(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write("candidates", "2026-01-05", numbers(3, 1, 2))
    lake.write("candidates", "2026-01-06", numbers(9))

    result = lake.write("candidates", "2026-01-05", numbers(5, 4))

    assert result.rows == 2
    assert result.version == lake.version("candidates")
    assert lake.read("candidates").rows() == [(5, "2026-01-05"), (4, "2026-01-05"), (9, "2026-01-06")]


@settings(max_examples=20, deadline=None)
@given(
    writes=st.lists(
        st.tuples(
            st.sampled_from(["2021-11-15-16:29", "2021-11-15-16:31", "b"]), st.lists(st.integers(-9, 9))
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_sequence_of_writes_ends_with_the_last_content_of_each_slice(
    writes: list[tuple[str, list[int]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        for slice_, values in writes:
            lake.write("moment_state/item", slice_, numbers(*values))
        last = dict(writes)

        assert lake.slices("moment_state/item") == sorted(last)
        assert lake.read("moment_state/item").rows() == [(n, s) for s in sorted(last) for n in last[s]]


def test_every_accepted_type_survives_the_round_trip(tmp_path: Path) -> None:
    entry = pl.Struct({"name": pl.String(), "value": pl.Float64()})
    schema = {
        "text": pl.String(),
        "flag": pl.Boolean(),
        "i8": pl.Int8(),
        "i32": pl.Int32(),
        "f32": pl.Float32(),
        "f64": pl.Float64(),
        "day": pl.Date(),
        "at": pl.Datetime("us", "UTC"),
        "vector": pl.List(pl.Float32()),
        "entries": pl.List(entry),
        "one": entry,
        "bytes": pl.Binary(),
    }
    one = {"name": "é", "value": 0.5}
    full = ("a", True, 1, -2, 0.5, float("inf"), date(2026, 1, 5), INSTANT, [1.0, None], [one], one, b"\x00")
    frame = pl.DataFrame(
        [full, (None,) * len(schema), ("", False, 0, 0, 0.0, 0.0, None, None, [], [], None, b"")],
        schema=schema,
        orient="row",
    )
    lake = Lake(str(tmp_path))

    lake.write("items", "2026-01-05", frame)

    back = lake.read("items", ["2026-01-05"])
    assert back.drop("slice").schema == frame.schema
    assert back.drop("slice").equals(frame)


def test_a_large_slice_of_many_chunks_keeps_its_order(tmp_path: Path) -> None:
    parts = [numbers(*range(start, start - 100_000, -1)) for start in range(1_000_000, 0, -100_000)]
    frame = pl.concat(parts, rechunk=False)
    lake = Lake(str(tmp_path))

    lake.write("candidates", "b", frame)
    lake.write("candidates", "a", numbers(7))

    assert lake.read("candidates")["n"].equals(pl.concat([numbers(7), frame])["n"])


def test_an_empty_slice_exists_and_an_unwritten_one_does_not(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write("rejects", "2026-01-05", numbers())

    assert lake.has("rejects", "2026-01-05")
    assert lake.read("rejects", ["2026-01-05"]).schema == {"n": pl.Int64, "slice": pl.String}
    assert not lake.has("rejects", "2026-01-06")
    assert not lake.has("items", "2026-01-05")


def test_a_missing_table_or_slice_names_the_command_that_creates_it(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    with pytest.raises(TableError, match=r"'candidates' does not exist.*momentrank run PROJECT"):
        lake.read("candidates")
    lake.write("candidates", "2026-01-06", numbers(1))

    with pytest.raises(TableError, match=r"'candidates' has no slice 2026-01-05, 2026-01-07") as caught:
        lake.read("candidates", ["2026-01-05", "2026-01-06", "2026-01-07"])
    assert "momentrank run PROJECT --from 2026-01-05 --until 2026-01-07" in str(caught.value)


def test_columns_are_selected_and_a_missing_one_is_named(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write("t", "b", numbers(1).with_columns(text=pl.lit("x")))
    lake.write("t", "a", numbers(2).with_columns(text=pl.lit("y")))

    assert lake.read("t", columns=["text"]).to_dict(as_series=False) == {"text": ["y", "x"]}
    with pytest.raises(TableError, match=r"no column label; it has n, text, slice"):
        lake.read("t", columns=["n", "label"])


def test_differing_columns_are_rejected_and_nothing_is_lost(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write("features", "a", numbers(1).with_columns(item_ctr_1d=0.5))

    with pytest.raises(
        TableError,
        match=r"item_ctr_1d: .*double.* in the table, none in the slice; item_ctr_7d: none in the table",
    ):
        lake.write("features", "b", numbers(1).with_columns(item_ctr_7d=0.5))
    lake.write("features", "b", numbers(2).with_columns(item_ctr_1d=0.1).select("item_ctr_1d", "n"))

    assert lake.read("features").rows() == [(1, 0.5, "a"), (2, 0.1, "b")]


@pytest.mark.parametrize(
    "dtype", [pl.UInt32(), pl.Categorical(), pl.Datetime("ns"), pl.List(pl.UInt8()), pl.Null()]
)
def test_types_that_delta_would_change_are_rejected(tmp_path: Path, dtype: pl.DataType) -> None:
    with pytest.raises(TableError, match=r"column 'c' of table 't' is .*cast it"):
        Lake(str(tmp_path)).write("t", "a", pl.DataFrame({"c": []}, schema={"c": dtype}))


def test_names_outside_the_lake_are_rejected(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(TableError, match="slice name"):
        lake.write("t", "../../a", numbers(1))
    with pytest.raises(TableError, match="table name"):
        lake.write("../t", "a", numbers(1))


def test_rows_of_another_slice_are_rejected(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write("t", "a", numbers(1).with_columns(slice=pl.lit("a")))

    with pytest.raises(TableError, match=r"rows of other slices: \['b'\]"):
        lake.write("t", "a", numbers(1, 2).with_columns(slice=pl.Series(["a", "b"])))
    assert lake.read("t").rows() == [(1, "a")]


def test_a_deleted_slice_counts_as_never_computed(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for slice_ in ("a", "b"):
        lake.write("t", slice_, numbers(1))

    lake.delete("t", "a")

    assert lake.slices("t") == ["b"]
    with pytest.raises(TableError, match="no slice a"):
        lake.delete("t", "a")


def test_writers_of_different_and_equal_slices_all_succeed(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    failures: list[Exception] = []

    def write(writer: int) -> None:
        try:
            for turn in range(3):
                lake.write("t", f"own-{writer}", numbers(turn))
                lake.write("t", "shared", numbers(writer))
        except TableError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    own = lake.read("t", [f"own-{writer}" for writer in range(4)])
    assert own["n"].to_list() == [2, 2, 2, 2]
    assert lake.read("t", ["shared"]).height == 1


def test_concurrent_writers_of_a_new_slice_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, both, write = Lake(str(tmp_path)), threading.Barrier(2), Lake._write_file
    lake.write("t", "before", numbers(0))

    def together(*args: Any) -> int:
        both.wait(10)  # neither sees the other's file when it commits
        return write(*args)

    monkeypatch.setattr(Lake, "_write_file", together)
    threads = [threading.Thread(target=lake.write, args=("t", "new", numbers(n))) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert lake.read("t", ["new"]).height == 1


def test_any_delta_reader_reads_the_tables(tmp_path: Path) -> None:
    lake = Lake(tmp_path.as_uri() + "/lake")
    lake.write("events/items", "2021-11-15-16:29", numbers(4, 2))

    table = DeltaTable(tmp_path / "lake" / "events" / "items").to_pyarrow_table()

    assert table.to_pydict() == {"n": [4, 2], "slice": ["2021-11-15-16:29"] * 2}
    assert lake.scan("events/items").filter(pl.col("n") > 2).collect().rows() == [(4, "2021-11-15-16:29")]


class ObjectStore(BaseHTTPRequestHandler):
    """The part of S3's protocol that Delta and Polars use, over a dictionary; records the signing keys."""

    objects: dict[str, bytes] = {}  # noqa: RUF012 - one server per test run
    signers: set[str] = set()  # noqa: RUF012

    def do_PUT(self) -> None:
        key, body = self._key(), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("If-None-Match") == "*" and key in self.objects:
            return self._answer(412)
        self.objects[key] = body
        return self._answer(200, headers={"ETag": '"1"'})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        query = parse_qs(urlparse(self.path).query)
        if "list-type" in query:
            return self._list(query["prefix"][0], query.get("start-after", [""])[0])
        body = self.objects.get(self._key())
        if body is None:
            return self._answer(404)
        requested = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not requested:
            return self._answer(200, body, {"ETag": '"1"', "Last-Modified": "Mon, 05 Jan 2026 00:00:00 GMT"})
        first = int(requested[1]) if requested[1] else max(0, len(body) - int(requested[2]))
        last = min(int(requested[2]), len(body) - 1) if requested[1] and requested[2] else len(body) - 1
        headers = {
            "ETag": '"1"',
            "Last-Modified": "Mon, 05 Jan 2026 00:00:00 GMT",
            "Content-Range": f"bytes {first}-{last}/{len(body)}",
        }
        return self._answer(206, body[first : last + 1], headers)

    def _list(self, prefix: str, after: str) -> None:
        entries = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-01-05T00:00:00.000Z</LastModified>"
            f"<ETag>1</ETag><Size>{len(self.objects[key])}</Size></Contents>"
            for key in sorted(self.objects)
            if key.startswith(prefix) and key > after
        )
        page = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        self._answer(200, page.encode())

    def _key(self) -> str:
        return unquote(urlparse(self.path).path).removeprefix("/bucket/")

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.signers.update(re.findall(r"Credential=(\w+)/", self.headers.get("Authorization", "")))
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_an_object_store_gets_the_storage_options() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ObjectStore)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = {
        "aws_access_key_id": "MOMENTKEY",
        "aws_secret_access_key": "secret",
        "aws_region": "eu-central-1",
        "aws_endpoint_url": f"http://127.0.0.1:{server.server_port}",
        "aws_allow_http": "true",
    }
    lake = Lake("s3://bucket/lake", options)

    lake.write("moment_state/item", "2021-11-15-16:29", numbers(3, 1))
    lake.write("moment_state/item", "2021-11-15-16:31", numbers())
    lake.write("moment_state/item", "2021-11-15-16:29", numbers(2, 8, 5))

    assert lake.slices("moment_state/item") == ["2021-11-15-16:29", "2021-11-15-16:31"]
    assert lake.read("moment_state/item")["n"].to_list() == [2, 8, 5]
    assert ObjectStore.signers == {"MOMENTKEY"}
    server.shutdown()
