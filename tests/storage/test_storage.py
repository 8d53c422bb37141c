"""The whole chain on PostgreSQL and an S3-compatible store, also from a second home."""

import gzip
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipelines.lake import Lake

NEWSROOM = Path(__file__).parents[2] / "projects" / "newsroom.toml"
SMALL = (
    "source.newsroom.days=2",
    "source.newsroom.users=30",
    "source.newsroom.articles_a_day=12",
    "source.newsroom.impressions_a_day=80",
    "source.newsroom.list_size=8",
    "slices.end=2026-01-07T00:00:00Z",
    "interest.epochs=1",
    "interest.max_tokens=16",
    "ranker.num_iterations=20",
    "ranker.early_stopping_round=5",
    "promotion.resamples=200",
    "lists.users=5",
    "lists.pool=20",
)
SLICES = ["2026-01-05", "2026-01-06"]
TABLES = (
    "items",
    "impressions",
    "interactions",
    "candidates",
    "features",
    "interest_scores",
    "ranking_dataset",
)
_COMMAND = "from pipelines.cli.commands import main; main()"


def momentrank(home: Path, stores: dict[str, str], command: str, *arguments: str) -> str:
    """Run a command in its own process, with the stores in its environment; return its output."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _COMMAND,
            command,
            str(NEWSROOM),
            *(f"--set={one}" for one in SMALL),
            *arguments,
        ],
        env=os.environ | stores | {"MOMENTRANK_HOME": str(home), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, stores: dict[str, str]) -> Path:
    """Home of the small newsroom after a run over its two days."""
    made = tmp_path_factory.mktemp("home")
    momentrank(made, stores, "run")
    return made


@pytest.fixture(scope="module")
def lake(home: Path, stores: dict[str, str], store: SimpleNamespace) -> Lake:
    return Lake(f"{stores['MOMENTRANK_LAKE']}/newsroom", store.options)


def rows(database: str, query: str) -> list[tuple[Any, ...]]:
    import psycopg2

    connection = psycopg2.connect(database)
    with connection.cursor() as cursor:
        cursor.execute(query)
        rows = cursor.fetchall()
    connection.close()
    return rows


def objects(store: SimpleNamespace, prefix: str) -> list[str]:
    pages = store.client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


def test_tables_are_in_the_bucket_and_not_at_home(home: Path, lake: Lake, store: SimpleNamespace) -> None:
    for table in (*TABLES, "moment_state/item"):
        assert lake.slices(table) == SLICES, table
        assert objects(store, f"lake/newsroom/{table}/_delta_log/"), table
    assert lake.read("ranking_dataset").height == lake.read("candidates").height > 0
    assert not (home / "lake").exists()


def test_versions_are_in_postgres_and_their_files_in_the_bucket(
    home: Path, stores: dict[str, str], store: SimpleNamespace
) -> None:
    versions = rows(stores["MOMENTRANK_TRACKING_URI"], "SELECT name, storage_location FROM model_versions")

    assert {name for name, _ in versions} == {"newsroom-ranker", "newsroom-interest"}
    for _, location in versions:
        assert location.startswith("s3://bucket/artifacts/")
        assert any(key.endswith("/MLmodel") for key in objects(store, location.removeprefix("s3://bucket/")))
    assert not any((home / "mlartifacts").iterdir())
    assert not (home / "mlflow.db").exists()


def test_dagster_keeps_its_runs_in_postgres(home: Path, stores: dict[str, str]) -> None:
    runs = rows(stores["MOMENTRANK_DAGSTER_POSTGRES"], "SELECT status FROM runs")

    assert runs
    assert {status for (status,) in runs} == {"SUCCESS"}
    assert not [*(home / "dagster").rglob("*.db")]
    assert "hidden-password" not in (home / "dagster" / "dagster.yaml").read_text(encoding="utf-8")


def test_a_slice_run_again_from_another_home_gives_the_same_tables(
    lake: Lake, stores: dict[str, str], tmp_path: Path
) -> None:
    before = {table: (lake.version(table), lake.read(table)) for table in TABLES}

    momentrank(tmp_path, stores, "run", "--from", SLICES[1])

    for table, (version, frame) in before.items():
        assert lake.version(table) > version, table
        assert_frame_equal(lake.read(table), frame)


def test_a_user_is_ranked_for_from_an_empty_home(lake: Lake, stores: dict[str, str], tmp_path: Path) -> None:
    (user, *_) = lake.read("impressions")["user_id"].unique().sort()

    shown = momentrank(tmp_path, stores, "rank", "--user", user, "-k", "3")

    assert f"{user}, by ranker version" in shown
    assert sum(line.startswith("│ ") for line in shown.splitlines()) >= 3


def test_two_writers_at_once_lose_nothing(store: SimpleNamespace) -> None:
    def write(writer: str) -> None:
        for number in range(5):
            slice = f"{writer}-{number}"
            Lake("s3://bucket/writers", store.options).write("table", slice, pl.DataFrame({"n": [number]}))

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(write, "ab")] == [None, None]

    written = Lake("s3://bucket/writers", store.options)
    assert written.slices("table") == [f"{writer}-{number}" for writer in "ab" for number in range(5)]
    assert written.read("table")["n"].to_list() == [0, 1, 2, 3, 4] * 2


def test_two_first_writers_of_a_slice_leave_one_of_them(
    store: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, both, write = Lake("s3://bucket/firsts", store.options), threading.Barrier(2), Lake._write_file
    lake.write("table", "before", pl.DataFrame({"n": [0]}))

    def together(*given: Any) -> int:
        both.wait(10)  # both have opened the table, and neither has committed
        return write(*given)

    monkeypatch.setattr(Lake, "_write_file", together)
    with ThreadPoolExecutor(2) as pool:
        results = [*pool.map(lambda n: lake.write("table", "new", pl.DataFrame({"n": [n] * 3})), (1, 2))]

    last = 1 if results[0].version > results[1].version else 2
    assert lake.read("table", ["new"])["n"].to_list() == [last] * 3


def test_a_table_of_the_bucket_is_read_with_the_keys_of_the_environment(
    lake: Lake, store: SimpleNamespace
) -> None:
    program = "import sys; from pipelines.lake import Lake; print(Lake(sys.argv[1]).read('items').height)"

    printed = subprocess.run(
        [sys.executable, "-c", program, lake.root],
        env=os.environ | store.options,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    assert json.loads(printed.stdout) == lake.read("items").height


def content(name: str, data: bytes) -> bytes:
    """Return the bytes of a file or object, plus its decompressed content."""
    if name.endswith(".parquet"):
        return data + pl.read_parquet(data, hive_partitioning=False).write_ndjson().encode()
    return data + gzip.decompress(data) if name.endswith(".gz") else data


def locations_of(user: str, home: Path, stores: dict[str, str], store: SimpleNamespace) -> list[str]:
    """Return every object, file and database table that contains the id, except the source logs."""
    locations = []
    for key in objects(store, ""):
        data = store.client.get_object(Bucket="bucket", Key=key)["Body"].read()
        locations += [key] if user.encode() in content(key, data) else []
    for path in (
        path for path in home.rglob("*") if path.is_file() and home / "newsroom" not in path.parents
    ):
        locations += [str(path)] if user.encode() in content(path.name, path.read_bytes()) else []
    for address in (stores["MOMENTRANK_DAGSTER_POSTGRES"], stores["MOMENTRANK_TRACKING_URI"]):
        for (table,) in rows(address, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
            count = rows(
                address, f"""SELECT count(*) FROM "{table}" AS one WHERE one::text LIKE '%{user}%'"""
            )
            locations += [f"{address} {table}"] if count != [(0,)] else []
    return locations


def test_a_forgotten_person_is_in_no_object_no_database_and_no_file(
    home: Path, lake: Lake, stores: dict[str, str], store: SimpleNamespace
) -> None:
    user = lake.read("impressions")["user_id"].mode().sort()[0]
    others = lake.read("impressions").filter(pl.col("user_id") != user)
    assert any(
        key.startswith("lake/newsroom/impressions/") for key in locations_of(user, home, stores, store)
    )

    output = momentrank(home, stores, "forget", "--user", user, "--yes")

    assert "rows deleted" in output
    assert locations_of(user, home, stores, store) == []
    assert lake.read("impressions").equals(others)
