"""Parts of a slice: drafted by several workers, published at once and read by bucket."""

import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from features.buckets import bucket
from features.errors import TableError
from pipelines.lake import Lake, Part, WriteResult


def in_buckets(lake: Lake, slice: str, frame: pl.DataFrame, buckets: int, by: str = "user") -> list[Part]:
    """Draft a slice's parts, last bucket first, with pickled lakes, as workers do."""
    numbers = bucket(frame[by], buckets)
    workers = [pickle.loads(pickle.dumps(lake)) for _ in range(buckets)]
    parts = [
        worker.draft("t", slice, frame.filter(numbers == number), number, buckets)
        for number, worker in reversed([*enumerate(workers)])
    ]
    return [pickle.loads(pickle.dumps(part)) for part in parts]


def readers(*names: str) -> pl.DataFrame:
    return pl.DataFrame({"user": names, "n": range(len(names))})


def test_parts_are_invisible_until_published(tmp_path: Path) -> None:
    lake, rows = Lake(str(tmp_path)), readers(*"abcdefgh")
    lake.write("t", "s", readers("old"))
    parts = in_buckets(lake, "s", rows, 3)

    assert lake.read("t")["user"].to_list() == ["old"]
    result = lake.publish("t", "s", parts)

    assert result == WriteResult(8, lake.version("t"))
    assert lake.read("t").drop("slice").sort("n").equals(rows)


def test_a_slice_of_parts_is_read_by_bucket_then_in_the_order_written(tmp_path: Path) -> None:
    lake, rows = Lake(str(tmp_path)), readers(*"hgfedcba", None)
    for slice_ in ("b", "a"):
        lake.publish("t", slice_, in_buckets(lake, slice_, rows, 3))

    expected = rows.sort(bucket(rows["user"], 3), maintain_order=True)
    assert lake.read("t", ["a"]).drop("slice").equals(expected)
    assert lake.read("t", columns=["slice", "n"])["n"].to_list() == [*expected["n"], *expected["n"]]


@pytest.mark.parametrize("buckets", [1, 3, 4])
def test_a_bucket_has_the_same_rows_however_the_slices_were_written(tmp_path: Path, buckets: int) -> None:
    lake, rows = Lake(str(tmp_path)), readers(*"hgfedcbaabcdefgh")
    lake.write("t", "b", rows)
    lake.publish("t", "a", in_buckets(lake, "a", rows, 4))
    lake.publish("t", "c", in_buckets(lake, "c", rows, 3))

    for number in range(buckets):
        rows_of_bucket = lake.read_bucket("t", ["c", "a", "b"], "user", number, buckets)
        every = lake.read("t")
        assert rows_of_bucket.equals(every.filter(bucket(every["user"], buckets) == number))


def test_only_the_buckets_file_is_read(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    parts = in_buckets(lake, "s", readers(*"abcdefgh"), 3)
    lake.publish("t", "s", parts)
    for part in parts:
        if part.bucket != 1:
            (tmp_path / "t" / part.file).unlink()

    assert lake.read_bucket("t", ["s"], "user", 1, 3).height == next(p.rows for p in parts if p.bucket == 1)
    with pytest.raises(TableError, match="No such file"):
        lake.read_bucket("t", ["s"], "user", 0, 3)


def test_reading_by_another_key_than_the_bucketing_is_rejected(tmp_path: Path) -> None:
    lake, rows = Lake(str(tmp_path)), readers(*"abcdefgh").with_columns(item=pl.lit("one"))
    lake.publish("t", "s", in_buckets(lake, "s", rows, 3))

    its_bucket = bucket(pl.Series(["one"]), 3)[0]
    with pytest.raises(TableError, match="'t' is not bucketed by item"):
        lake.read_bucket("t", ["s"], "item", (its_bucket + 1) % 3, 3)
    with pytest.raises(TableError, match="no slice r"):
        lake.read_bucket("t", ["r", "s"], "user", 0, 3)


def test_parts_that_are_not_every_bucket_once_are_rejected(tmp_path: Path) -> None:
    lake, rows = Lake(str(tmp_path)), readers(*"abcdefgh")
    three, four, other = (in_buckets(lake, s, rows, n) for s, n in (("s", 3), ("s", 4), ("r", 3)))

    for parts, found in (
        ([], r"\(none\)"),
        ([*three, *four], "2 of 3 of s.* 3 of 4 of s"),
        (three[:2], "2 of 3 of s, 1 of 3 of s; expected each of 3 buckets once"),
        ([*three, three[0]], "2 of 3 of s.* 2 of 3 of s"),
        (other, "2 of 3 of r"),
    ):
        with pytest.raises(TableError, match=f"got the parts {found}"):
            lake.publish("t", "s", parts)
    with pytest.raises(TableError, match="bucket 3 of 3"):
        lake.draft("t", "s", rows, 3, 3)
    assert lake.slices("t") == []


def test_parts_with_different_columns_are_rejected(tmp_path: Path) -> None:
    lake, rows = Lake(str(tmp_path)), readers(*"ab")
    first = lake.draft("t", "s", rows, 0, 2)
    with pytest.raises(TableError, match="m: none in the table"):
        lake.draft("t", "s", rows.with_columns(m=1), 1, 2)
    assert lake.draft("t", "s", rows.select("n", "user"), 1, 2).columns == first.columns
    shutil.rmtree(tmp_path / "t")
    second = lake.draft("t", "s", rows.select("n", "user"), 1, 2)

    with pytest.raises(TableError, match="with the table's present columns: draft the slice again"):
        lake.publish("t", "s", [first, second])


def test_drafts_of_a_killed_writer_are_invisible_and_purged(tmp_path: Path) -> None:
    program = (
        "import os, sys, polars as pl; from pipelines.lake import Lake; lake = Lake(sys.argv[1])\n"
        "for n in range(3): lake.draft('t', 's', pl.DataFrame({'user': ['x'], 'n': [n]}), n, 3)\n"
        "os.kill(os.getpid(), 9)"
    )
    lake = Lake(str(tmp_path))
    lake.write("t", "r", readers("a"))

    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)

    assert killed.returncode == -9
    assert lake.slices("t") == ["r"]
    assert len([*tmp_path.glob("t/slice=s/*.parquet")]) == 3
    assert lake.purge("t", strays=True) == 3
    lake.publish("t", "s", in_buckets(lake, "s", readers(*"abc"), 2))
    assert lake.read("t", ["s"]).height == 3


def test_concurrent_publishers_of_a_slice_do_not_mix(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    drafted = [in_buckets(lake, "s", readers(*(f"{n}-{m}" for m in range(9))), 3) for n in range(4)]

    with ThreadPoolExecutor(4) as pool:
        results = [*pool.map(lambda parts: lake.publish("t", "s", parts), drafted)]

    writers = lake.read("t", ["s"])["user"].str.split("-").list.first().unique().to_list()
    last = max(range(4), key=lambda n: results[n].version)
    assert writers == [str(last)]
    assert lake.read("t").height == 9
