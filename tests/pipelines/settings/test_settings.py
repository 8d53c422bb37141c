"""Settings: defaults under one folder, bad values name their variable, Dagster is initialised once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from features.errors import ProjectError
from pipelines.settings import settings
from pipelines.settings.settings import REPOSITORY


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.startswith("MOMENTRANK_"):
            monkeypatch.delenv(name)
    for name in ("DAGSTER_HOME", *settings.PROCESS_ENVIRONMENT):
        # Set, then deleted: monkeypatch then also undoes what `prepare` sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_everything_is_written_under_home_by_default(tmp_path: Path) -> None:
    home = tmp_path / ".momentrank"

    loaded = settings.load()

    assert loaded.home == home
    assert loaded.lake == str(home / "lake")
    assert loaded.scratch == str(home / "scratch")
    assert (loaded.engine, loaded.ray_address, loaded.ray_cores) == ("embedded", "", 1)
    assert loaded.executor == "in_process"
    assert loaded.tracking_uri == f"sqlite:///{home}/mlflow.db"
    assert loaded.newsroom("newsroom") == home / "newsroom" / "newsroom"
    assert loaded.report("newsroom") == home / "reports" / "newsroom"
    for folder in (loaded.mlartifacts, loaded.dagster_home, loaded.reports, loaded.checkpoints, loaded.cache):
        assert folder.parent == home
    assert loaded.storage_options == {}
    assert loaded.artifacts == loaded.mlartifacts.as_uri()
    assert loaded.dagster_postgres == ""
    assert loaded.overrides == ()
    assert loaded.webhook == ""
    assert (loaded.mlflow_url, loaded.dagster_url) == ("http://127.0.0.1:5000", "http://127.0.0.1:3000")


def test_the_project_is_found_here_then_in_the_repository(tmp_path: Path) -> None:
    assert settings.load().project == REPOSITORY / "projects" / "newsroom.toml"
    (tmp_path / "projects").mkdir()
    (tmp_path / "projects" / "newsroom.toml").touch()

    assert settings.load().project == tmp_path / "projects" / "newsroom.toml"


def test_logs_are_searched_in_the_named_folders_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("MOMENTRANK_DATA", f"b{os.pathsep}{tmp_path / 'a'}")

    assert settings.load().source_folders() == (
        tmp_path / "b",
        tmp_path / "a",
        tmp_path.parent / "shared" / "data",
        (REPOSITORY.parent / "shared" / "data").resolve(),
    )


def test_every_variable_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.toml").touch()
    monkeypatch.setenv("MOMENTRANK_HOME", "elsewhere")
    monkeypatch.setenv("MOMENTRANK_PROJECT", "own.toml")
    monkeypatch.setenv("MOMENTRANK_SET", 'ranker.num_leaves=15\n\nsource.path="a.jsonl"\n')
    monkeypatch.setenv("MOMENTRANK_TRACKING_URI", "http://tracking:5000")
    monkeypatch.setenv("MOMENTRANK_LAKE", "s3://bucket/lake")
    monkeypatch.setenv("MOMENTRANK_ARTIFACTS", "s3://bucket/artifacts")
    monkeypatch.setenv("MOMENTRANK_STORAGE_OPTIONS", '{"AWS_REGION": "eu-central-1"}')
    monkeypatch.setenv("MOMENTRANK_SCRATCH", "shared")
    monkeypatch.setenv("MOMENTRANK_ENGINE", "ray")
    monkeypatch.setenv("MOMENTRANK_RAY_ADDRESS", "[::1]:6379")
    monkeypatch.setenv("MOMENTRANK_RAY_CORES", "4")
    monkeypatch.setenv("MOMENTRANK_EXECUTOR", "multiprocess")
    monkeypatch.setenv("MOMENTRANK_MLFLOW_URL", "https://mlflow.example/")
    monkeypatch.setenv("MOMENTRANK_DAGSTER_URL", "https://dagster.example")
    monkeypatch.setenv("MOMENTRANK_WEBHOOK", "https://chat.example/hooks/1")

    loaded = settings.load()

    assert loaded.home == tmp_path / "elsewhere"
    assert loaded.project == tmp_path / "own.toml"
    assert loaded.overrides == ("ranker.num_leaves=15", 'source.path="a.jsonl"')
    assert loaded.tracking_uri == "http://tracking:5000"
    assert loaded.lake == "s3://bucket/lake"
    assert loaded.artifacts == "s3://bucket/artifacts"
    assert loaded.scratch == str(tmp_path / "shared")
    assert (loaded.engine, loaded.ray_address, loaded.ray_cores) == ("ray", "[::1]:6379", 4)
    assert loaded.executor == "multiprocess"
    assert loaded.storage_options == {"AWS_REGION": "eu-central-1"}
    assert (loaded.mlflow_url, loaded.dagster_url) == ("https://mlflow.example", "https://dagster.example")
    assert loaded.webhook == "https://chat.example/hooks/1"


def loaded_from(environment: dict[str, str], folder: Path) -> settings.Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        return settings.load()


def test_a_child_process_reads_the_same_default_settings(
    tmp_path: Path,
) -> None:
    loaded = settings.load()
    passed = settings.environment(loaded)

    assert not (tmp_path / settings.DEFAULT_DATA).exists()
    assert loaded_from(passed, tmp_path) == loaded
    unset = ("DATA", "TRACKING_URI", "ARTIFACTS", "LAKE", "SCRATCH", "WEBHOOK", "STORAGE_OPTIONS", "ENGINE")
    assert not {f"MOMENTRANK_{name}" for name in unset} & passed.keys()


def test_a_child_process_in_another_folder_reads_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("logs", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "own.toml").touch()
    for name, value in {
        "HOME": "home",
        "DATA": "logs",
        "PROJECT": "own.toml",
        "SET": "ranker.num_leaves=15\nseed=3",
        "TRACKING_URI": "sqlite:///own.db",
        "ARTIFACTS": "artifacts",
        "LAKE": "lake",
        "SCRATCH": "scratch",
        "DAGSTER_URL": "http://127.0.0.1:3001",
        "PSEUDONYM_KEY": "k",
    }.items():
        monkeypatch.setenv(f"MOMENTRANK_{name}", value)

    loaded = settings.load()

    assert loaded_from(settings.environment(loaded), tmp_path / "elsewhere") == loaded
    assert loaded.tracking_uri == f"sqlite:///{tmp_path}/own.db"


def test_several_projects_are_named_in_one_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in ("one.toml", "two: the second.toml")]
    for file in files:
        file.touch()
        monkeypatch.setenv("MOMENTRANK_PROJECT", str(file))
        assert settings.load().project == file
    monkeypatch.setenv("MOMENTRANK_PROJECT", f"{files[0]}:{REPOSITORY}/projects/mind.toml")

    loaded = settings.load_all()

    assert [one.project for one in loaded] == [files[0], REPOSITORY / "projects" / "mind.toml"]
    assert settings.load() == loaded[0]
    assert settings.environment(*loaded)["MOMENTRANK_PROJECT"] == os.environ["MOMENTRANK_PROJECT"]


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("MOMENTRANK_HOME", "a_file", "name a folder"),
        ("MOMENTRANK_HOME", "why?", "name a folder without them"),
        ("MOMENTRANK_LAKE", "my%20lake", "name a folder without them"),
        ("MOMENTRANK_DATA", "not_there", "name folders that exist"),
        ("MOMENTRANK_PROJECT", "not_there.toml", "name a project's TOML"),
        ("MOMENTRANK_SET", "ranker.num_leaves", "write key.path=value"),
        ("MOMENTRANK_TRACKING_URI", "./mlruns", "use sqlite:///FILE"),
        ("MOMENTRANK_DAGSTER_POSTGRES", "mysql://u:secret@db/runs", "write postgresql://"),
        ("MOMENTRANK_LAKE", "ftp://bucket/lake", "a URL that starts with file, s3"),
        ("MOMENTRANK_ARTIFACTS", "http://bucket", "a URL that starts with file, s3"),
        ("MOMENTRANK_STORAGE_OPTIONS", "{secret", "write for example"),
        ("MOMENTRANK_STORAGE_OPTIONS", '{"port": 9000}', "write for example"),
        ("MOMENTRANK_SCRATCH", "nfs://server/scratch", "a URL that starts with file, s3"),
        ("MOMENTRANK_ENGINE", "Ray", "should be 'embedded' or 'ray'"),
        ("MOMENTRANK_EXECUTOR", "threads", "should be 'in_process' or 'multiprocess'"),
        ("MOMENTRANK_RAY_ADDRESS", "ray://head:10001", "write HOST:PORT"),
        ("MOMENTRANK_RAY_ADDRESS", "head", "write HOST:PORT"),
        ("MOMENTRANK_RAY_CORES", "0", "should be greater than or equal to 1"),
        ("MOMENTRANK_MLFLOW_URL", "localhost:5000", "write, for example, http://127.0.0.1:5000"),
    ],
)
def test_a_bad_value_names_its_variable_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, remedy: str
) -> None:
    (tmp_path / "a_file").touch()
    monkeypatch.setenv(variable, value)

    with pytest.raises(ProjectError) as caught:
        settings.load()

    assert variable in str(caught.value)
    assert remedy in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_default_home_is_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "why?").mkdir()
    monkeypatch.chdir(tmp_path / "why?")

    with pytest.raises(
        ProjectError, match=r"MOMENTRANK_HOME is '\.momentrank': .*why\?/\.momentrank: name a folder"
    ):
        settings.load()


def test_postgres_addresses_name_the_driver_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMENTRANK_DAGSTER_POSTGRES", "postgresql://u:p@db/runs")
    monkeypatch.setenv("MOMENTRANK_TRACKING_URI", "postgres://u:p@db/mlflow")

    loaded = settings.load()

    assert loaded.dagster_postgres == "postgresql+psycopg2://u:p@db/runs"
    assert loaded.tracking_uri == "postgresql+psycopg2://u:p@db/mlflow"


def test_mlflow_gets_the_credentials_of_the_store_unless_it_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        # Set, then deleted: monkeypatch then also undoes what `prepare` sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "its-own")
    options = {"aws_access_key_id": "a", "AWS_SECRET_ACCESS_KEY": "b", "region": "eu-central-1"}
    monkeypatch.setenv("MOMENTRANK_STORAGE_OPTIONS", json.dumps(options))

    settings.prepare(settings.load())

    assert os.environ["AWS_ACCESS_KEY_ID"] == "a"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "its-own"
    assert os.environ["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert "AWS_ENDPOINT_URL" not in os.environ


def test_prepare_makes_the_folders_and_keeps_an_edited_dagster_yaml() -> None:
    loaded = settings.load()

    settings.prepare(loaded)
    instance = loaded.dagster_home / "dagster.yaml"
    written = yaml.safe_load(instance.read_text(encoding="utf-8"))
    instance.write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    settings.prepare(loaded)

    assert written["telemetry"] == written["nux"] == {"enabled": False}
    assert written["concurrency"] == {
        "runs": {"max_concurrent_runs": 2},
        "pools": {"default_limit": 1, "granularity": "run"},
    }
    assert written["run_monitoring"]["enabled"] is True
    assert instance.read_text(encoding="utf-8") == "telemetry: {enabled: false}\n"
    assert os.environ["DAGSTER_HOME"] == str(loaded.dagster_home)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_an_unwritable_home_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("MOMENTRANK_HOME", "a_file/home")

    with pytest.raises(ProjectError, match="set MOMENTRANK_HOME to a writable folder"):
        settings.prepare(settings.load())


def test_processes_may_initialise_dagster_at_once(tmp_path: Path) -> None:
    program = (
        "from pipelines.settings.settings import initialise_dagster, load\n"
        "settings = load()\n"
        "initialise_dagster(settings)\n"
        "from dagster import DagsterInstance\n"
        "with DagsterInstance.from_config(str(settings.dagster_home)) as instance:\n"
        "    print(instance.get_runs_count(), instance.telemetry_enabled)"
    )

    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in started]

    assert [process.returncode for process in started] == [0, 0], ended
    assert [out for out, _ in ended] == ["0 False\n"] * 2


def test_only_its_owner_can_read_a_new_home() -> None:
    before = os.umask(0)
    try:
        settings.prepare(settings.load())
    finally:
        os.umask(before)
    assert settings.load().home.stat().st_mode & 0o777 == 0o700
