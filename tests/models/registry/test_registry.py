"""The registry on a real MLflow database: register, load, retry, relocate."""

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from features.errors import ModelError, TrackingError
from models.registry.registry import CHALLENGER, CHAMPION, Registry


def test_versions_have_tags_metrics_and_aliases(registry, register):
    first = register("2026-01-05")
    second = register("2026-01-06")
    registry.tag("ranker", second, "decision", "promoted: +0.02")

    versions = registry.versions("ranker")

    assert [(one["version"], one["slice"]) for one in versions] == [
        (first, "2026-01-05"),
        (second, "2026-01-06"),
    ]
    assert [one["aliases"] for one in versions] == [[], [CHALLENGER]]
    assert versions[1]["metrics"] == {"ndcg@10": 0.61}
    expected = {
        "interest_version": "4",
        "table.events": "12",
        "dagster_run": "run-1",
        "decision": "promoted: +0.02",
    }
    assert expected.items() <= versions[1]["tags"].items()


def test_a_ranker_is_loaded_by_version_and_by_alias(registry, register, ranker, example):
    version = register("2026-01-05")

    for key in (version, CHALLENGER):
        loaded = registry.load_ranker(key)
        assert loaded.columns == ranker.columns
        assert loaded.calibration == ranker.calibration
        assert loaded.score(example).equals(ranker.score(example))


def test_a_retry_returns_the_existing_version(registry, register):
    first = register("2026-01-05", run="run-1")
    newer = register("2026-01-06", run="run-1")
    again = register("2026-01-05", run="run-1")
    rerun = register("2026-01-05", run="run-2")

    assert again == first
    assert [one["version"] for one in registry.versions("ranker")] == [first, newer, rerun]


def test_a_late_retry_leaves_challenger_on_the_newer_version(registry, register):
    register("2026-01-05")
    newer = register("2026-01-06")

    register("2026-01-05")

    assert registry.alias("ranker", CHALLENGER) == newer


def test_a_retry_sets_a_missing_alias(registry, register):
    version = register("2026-01-05")
    mlflow.MlflowClient(registry.tracking_uri).delete_registered_model_alias("newsroom-ranker", CHALLENGER)

    register("2026-01-05")

    assert registry.alias("ranker", CHALLENGER) == version


@pytest.mark.parametrize(
    "step", ["log_artifacts", "log_text", "create_registered_model", "create_model_version"]
)
def test_a_failure_while_registering_leaves_no_version_and_a_failed_run(
    registry, register, monkeypatch, step
):
    def broken(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(mlflow.MlflowClient, step, broken)
    with pytest.raises(TrackingError, match=r"could not be used: OSError: disk full\. Start the server"):
        register("2026-01-05")
    monkeypatch.undo()

    assert registry.versions("ranker") == []
    assert registry.alias("ranker", CHALLENGER) is None
    client = mlflow.MlflowClient(registry.tracking_uri)
    experiment = client.get_experiment_by_name("newsroom").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]
    assert register("2026-01-05") == "1"


def test_missing_files_of_a_version_are_reported(registry, register):
    version = register("2026-01-05")
    for part in ("rankers", "MLmodel"):
        for path in Path(registry.artifact_location.removeprefix("file://")).rglob(part):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(
            ModelError, match=r"files of a version of newsroom are missing .* run the slices again"
        ):
            registry.load_ranker(version)


def test_a_damaged_database_is_reported(registry, register):
    register("2026-01-05")
    file = Path(registry.tracking_uri.removeprefix("sqlite:///"))
    other = file.with_name("damaged.db")
    other.write_bytes(b"garbage" * 100)

    with pytest.raises(TrackingError, match=r"damaged\.db is damaged .*not a database.*restore it"):
        replace(registry, tracking_uri=f"sqlite:///{other}").versions("ranker")


@pytest.mark.parametrize("text", ["²", "٣", "", "other-ranker/1", "-1"])
def test_an_invalid_version_is_refused(registry, register, text):
    register("2026-01-05")
    with pytest.raises(ModelError, match="has no version or alias"):
        registry.promote(text)


def test_an_unreachable_server_is_reported_quickly_at_registration(registry, ranker, example):
    gone = replace(registry, tracking_uri="http://127.0.0.1:9")
    started = time.monotonic()

    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 could not be used.*correct its address"):
        gone.register_ranker(ranker, "2026-01-05", "run-1", {}, {}, {}, example)

    assert time.monotonic() - started < 20


def test_the_latest_version_is_of_an_earlier_slice_and_of_the_same_run(registry, register):
    early = register("2026-01-05", run="run-1")
    mine = register("2026-01-06", run="run-1")
    others = register("2026-01-06", run="run-2")
    register("2026-01-07", run="run-2")

    assert registry.latest("ranker", "2026-01-07", "run-1") == (mine, "2026-01-06")
    assert registry.latest("ranker", "2026-01-07", "run-2") == (others, "2026-01-06")
    # A run without a version gets the newest, never one fitted on the slice.
    assert registry.latest("ranker", "2026-01-07", "run-3") == (others, "2026-01-06")
    assert registry.latest("ranker", "2026-01-07") == (others, "2026-01-06")
    assert registry.latest("ranker", "2026-01-06", "run-2") == (early, "2026-01-05")
    assert registry.latest("ranker", "2026-01-05") is None


def test_missing_versions_and_columns_are_reported(registry, register, example):
    assert registry.alias("ranker", CHAMPION) is None
    assert registry.versions("interest") == []
    with pytest.raises(
        ModelError, match="newsroom-ranker has no version or alias 'champion': it has no version yet"
    ):
        registry.load_ranker(CHAMPION)
    version = register("2026-01-05")
    with pytest.raises(ModelError, match=rf"no version or alias '9': its latest version is {version}"):
        registry.promote("9")
    with pytest.raises(ModelError, match="lacks columns that the ranker was fitted on: interest_score"):
        register("2026-01-06", example=example.drop("interest_score"))


def test_a_report_is_logged_to_its_run(registry, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<p>good</p>")

    run = registry.log_report(page, "2026-01-05")

    path = mlflow.MlflowClient(registry.tracking_uri).download_artifacts(run, "report.html")
    assert Path(path).read_text() == "<p>good</p>"


def test_preparing_twice_changes_nothing(registry, register):
    version = register("2026-01-05")

    registry.prepare()

    assert registry.alias("ranker", CHALLENGER) == version


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9 could not be used"),
        ("http://someone:secret@127.0.0.1:9", "//…@127.0.0.1:9 could not be used"),
        ("sqlite:////dev/null/mlflow.db", "Start the server or correct its address"),
    ],
)
def test_an_unusable_store_is_reported_quickly(address, message):
    started = time.monotonic()

    with pytest.raises(TrackingError) as raised:
        Registry("newsroom", address).prepare()

    assert message in str(raised.value)
    assert "secret" not in str(raised.value)
    assert time.monotonic() - started < 10


def test_a_file_that_is_no_database_is_reported(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, whatever its name says " * 20)

    with pytest.raises(TrackingError, match="file is not a database"):
        Registry("newsroom", f"sqlite:///{tmp_path}/mlflow.db").prepare()


def test_registering_is_quiet(registry, register, capfd, recwarn):
    registry.prepare()

    register("2026-01-05")
    registry.load_ranker(CHALLENGER)

    assert capfd.readouterr() == ("", "")
    # Python hides deprecation warnings inside libraries.
    assert [one.message for one in recwarn if not issubclass(one.category, DeprecationWarning)] == []


def test_the_address_of_a_version_names_model_and_version(registry):
    other = replace(registry, project="films")

    assert (
        other.url("interest", "3", "http://host:5000/")
        == "http://host:5000/#/models/films-interest/versions/3"
    )


def test_ablations_are_registered_with_their_ranker(registry, register, ranker):
    register("2026-01-05", ablations={"behaviour_only": replace(ranker, info={"best_iteration": 3})})

    assert registry.load_ranker(CHALLENGER, "behaviour_only").info["best_iteration"] == 3
    assert registry.load_ranker(CHALLENGER).info["best_iteration"] == 8


def test_a_card_is_the_description_and_can_be_amended(registry, register):
    version = register("2026-01-05", card="# card\n\n## Data\n\nso much\n\n## Quality\n\nunknown\n")

    registry.amend_card(version, "Quality", "good")
    registry.amend_card(version, "Quality", "better")

    client = mlflow.MlflowClient(registry.tracking_uri)
    registered = client.get_model_version("newsroom-ranker", version)
    assert registered.description == "# card\n\n## Data\n\nso much\n\n## Quality\n\nbetter\n"
    assert Path(client.download_artifacts(registered.run_id, "card.md")).read_text() == registered.description


def test_registered_rankers_hold_no_pickle(register, ranker, unpickled):
    register("2026-01-05", ablations={"behaviour_only": ranker})

    names = unpickled("momentrank_ranker_")

    assert {"booster-0.txt", "booster-1.txt", "ranker.json", "importance.png", "card.md"} <= names


def contents(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def registry_in(registry: Registry, home: Path) -> Registry:
    return replace(
        registry,
        tracking_uri=f"sqlite:///{home}/mlflow.db",
        artifact_location=(home / "mlartifacts").as_uri(),
    )


def test_a_copied_home_works_without_the_original_and_leaves_it_unchanged(
    registry, ranker, example, prepared, tmp_path
):
    original, copy = tmp_path / "original", tmp_path / "a copy é"
    original.mkdir()
    shutil.copy(prepared, original)
    first = registry_in(registry, original)
    first.prepare()
    old = first.register_ranker(ranker, "2026-01-05", "run-1", {}, {}, {}, example, card="# card\n")
    with first.track("tuning", "2026-01-05", [], {}):
        pass  # a run without artifacts
    shutil.copytree(original, copy)
    before = contents(original)
    # As in another process, which has not opened the original.
    _artifact_repos_cache.clear()

    second = registry_in(registry, copy)
    second.prepare()
    new = second.register_ranker(ranker, "2026-01-06", "run-2", {}, {}, {}, example)
    second.amend_card(old, "Quality", "good")

    assert contents(original) == before
    shutil.rmtree(original)
    for version in (old, new):
        assert second.load_ranker(version).columns == ranker.columns
    assert str(original).encode() not in (copy / "mlflow.db").read_bytes()


def test_artifacts_that_were_not_moved_are_found_at_their_old_address(registry, register, ranker, tmp_path):
    version = register("2026-01-05")
    elsewhere = replace(registry, artifact_location=(tmp_path / "elsewhere").as_uri())

    elsewhere.prepare()

    assert elsewhere.load_ranker(version).columns == ranker.columns
    elsewhere.log_report(Path(__file__), "2026-01-05")
    assert [path.name for path in (tmp_path / "elsewhere").rglob("*.py")] == [Path(__file__).name]


def test_two_processes_can_create_a_store_at_once(tmp_path):
    registry = Registry("newsroom", f"sqlite:///{tmp_path}/mlflow.db", f"file://{tmp_path}/mlartifacts")
    command = [sys.executable, "-c", f"from models.registry.registry import Registry; {registry!r}.prepare()"]

    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]

    assert [(one.communicate()[1], one.returncode)[1] for one in processes] == [0, 0]
    assert registry.versions("ranker") == []
    assert [file.name for file in tmp_path.glob("mlflow.db*")] == ["mlflow.db"]
