"""A home may have any name: tables, model versions, Dagster's records and reports work."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import mlflow
import polars as pl
import pytest

from models.registry.registry import Registry
from pipelines.compute.scratch import Scratch
from pipelines.lake import Lake
from pipelines.settings import settings

NAMES = (
    "My Projects", "Projekté", "日本", "k=v", "slice=3", "a#b", "100%", "it's", 'q"q',
    "{x}", "[x]", "(x)", "<x>", "a*b", "a+b", "a&b", "a;b", "a:b", "a@b", "a,b", "~x", "$HOME", "-x",
)  # fmt: skip
ALL_AT_ONCE = """all é's "{of}" [them] #1 = 100% + & <more>; $HOME"""


@pytest.mark.parametrize("name", [*NAMES, ALL_AT_ONCE])
def test_tables_are_read(tmp_path: Path, name: str) -> None:
    lake, keys = Lake(str(tmp_path / name / "lake")), ["2026-01-05", "2026-01-05-12:00"]
    rows = pl.DataFrame({"user_id": ["a", "b"], "n": [1, 2]})
    lake.write("state/users", keys[0], rows)
    lake.publish("state/users", keys[1], [lake.draft("state/users", keys[1], rows)])
    both = pl.concat([rows.with_columns(slice=pl.lit(key)) for key in keys])

    assert lake.read("state/users").equals(both)
    assert lake.scan("state/users").collect().equals(both)
    assert lake.scan("state/users", keys[1:]).filter(n=2).collect().rows() == [("b", 2, keys[1])]
    assert lake.scan("state/users", []).collect().equals(both.clear())
    assert lake.scan_slice("state/users", keys[0]).collect().equals(rows)
    buckets = [lake.read_bucket("state/users", keys, "user_id", bucket, 2) for bucket in range(2)]
    assert pl.concat(buckets).sort("slice", "n").equals(both)
    assert lake.tables() == ["state/users"]
    assert Lake((tmp_path / name / "lake").as_uri()).scan("state/users").collect().equals(both)
    lake.delete("state/users", keys[0])
    assert lake.purge("state/users", strays=True) == 1
    assert lake.read("state/users").height == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_workers_exchange_data(tmp_path: Path, name: str) -> None:
    rows = pl.DataFrame({"n": [1, 2]})

    for root in (str(tmp_path / name), (tmp_path / name).as_uri()):
        scratch = Scratch(root)
        scratch.write("a/b", {"rows": rows})
        assert scratch.read("a/b", "rows").equals(rows)


def test_versions_runs_and_reports_are_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DAGSTER_HOME", *settings.PROCESS_ENVIRONMENT):
        monkeypatch.setenv(variable, os.environ.get(variable, ""))
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path / ALL_AT_ONCE))
    loaded = settings.load()
    settings.initialise_dagster(loaded)
    page = loaded.report("newsroom") / "report.html"
    page.parent.mkdir()
    page.write_text("<p>good</p>")

    @dg.asset
    def numbers() -> None:
        return None

    registry = Registry("newsroom", loaded.tracking_uri, loaded.artifacts)
    registry.prepare()
    run = registry.log_report(page, "2026-01-05")
    with dg.DagsterInstance.get() as instance:
        dg.materialize([numbers], instance=instance)
        assert instance.get_latest_materialization_event(numbers.key)

    assert Path(mlflow.MlflowClient().download_artifacts(run, "report.html")).read_text() == "<p>good</p>"
    assert [path.name for path in loaded.mlartifacts.rglob("*.html")] == ["report.html"]
    with closing(sqlite3.connect(loaded.home / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    assert [path.name for path in tmp_path.iterdir()] == [ALL_AT_ONCE]
