"""The registry over a real MLflow database: what is registered loads, moves, rolls back, is never doubled."""

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


def test_a_version_carries_its_tags_metrics_and_aliases(registry, register):
    first = register("2026-01-05")
    second = register("2026-01-06")
    registry.tag("ranker", second, "decision", "promoted: +0.02")

    listed = registry.versions("ranker")

    assert [(one["version"], one["slice"]) for one in listed] == [
        (first, "2026-01-05"),
        (second, "2026-01-06"),
    ]
    assert [one["aliases"] for one in listed] == [[], [CHALLENGER]]
    assert listed[1]["metrics"] == {"ndcg@10": 0.61}
    expected = {
        "interest_version": "4",
        "table.events": "12",
        "dagster_run": "run-1",
        "decision": "promoted: +0.02",
    }
    assert expected.items() <= listed[1]["tags"].items()


def test_our_ranker_comes_back_by_version_and_by_alias(registry, register, ranker, example):
    version = register("2026-01-05")

    for key in (version, CHALLENGER):
        loaded = registry.load_ranker(key)
        assert loaded.columns == ranker.columns
        assert loaded.calibration == ranker.calibration
        assert loaded.score(example).equals(ranker.score(example))


def test_a_retry_returns_the_version_that_is_there(registry, register):
    first = register("2026-01-05", run="run-1")
    newer = register("2026-01-06", run="run-1")
    again = register("2026-01-05", run="run-1")
    rerun = register("2026-01-05", run="run-2")

    assert again == first
    assert [one["version"] for one in registry.versions("ranker")] == [first, newer, rerun]


def test_a_late_retry_leaves_challenger_with_the_newer_version(registry, register):
    register("2026-01-05")
    newer = register("2026-01-06")

    register("2026-01-05")

    assert registry.alias("ranker", CHALLENGER) == newer


def test_a_retry_mends_an_alias_that_was_not_reached(registry, register):
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
    with pytest.raises(TrackingError, match=r"could not be used: OSError: disk full\. Start that server"):
        register("2026-01-05")
    monkeypatch.undo()

    assert registry.versions("ranker") == []
    assert registry.alias("ranker", CHALLENGER) is None
    client = mlflow.MlflowClient(registry.tracking_uri)
    experiment = client.get_experiment_by_name("newsroom").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]
    assert register("2026-01-05") == "1"


def test_a_version_whose_files_are_lost_says_so(registry, register):
    version = register("2026-01-05")
    for part in ("rankers", "MLmodel"):
        for lost in Path(registry.artifact_location.removeprefix("file://")).rglob(part):
            shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
        with pytest.raises(
            ModelError, match=r"files of a version of newsroom are lost .* run the slices again"
        ):
            registry.load_ranker(version)


def test_a_damaged_database_says_so(registry, register):
    register("2026-01-05")
    file = Path(registry.tracking_uri.removeprefix("sqlite:///"))
    other = file.with_name("damaged.db")
    other.write_bytes(b"garbage" * 100)

    with pytest.raises(TrackingError, match=r"damaged\.db is damaged .*not a database.*put it back"):
        replace(registry, tracking_uri=f"sqlite:///{other}").versions("ranker")


@pytest.mark.parametrize("text", ["²", "٣", "", "other-ranker/1", "-1"])
def test_what_is_no_version_is_refused(registry, register, text):
    register("2026-01-05")
    with pytest.raises(ModelError, match="has no version or alias"):
        registry.promote(text)


def test_a_server_that_is_gone_at_registration_is_said_quickly(registry, ranker, example):
    gone = replace(registry, tracking_uri="http://127.0.0.1:9")
    started = time.monotonic()

    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 could not be used.*mend its address"):
        gone.register_ranker(ranker, "2026-01-05", "run-1", {}, {}, {}, example)

    assert time.monotonic() - started < 20


def test_the_latest_version_is_of_an_earlier_slice_and_of_the_own_run(registry, register):
    early = register("2026-01-05", run="run-1")
    mine = register("2026-01-06", run="run-1")
    others = register("2026-01-06", run="run-2")
    register("2026-01-07", run="run-2")

    assert registry.latest("ranker", "2026-01-07", "run-1") == (mine, "2026-01-06")
    assert registry.latest("ranker", "2026-01-07", "run-2") == (others, "2026-01-06")
    # A run that made none takes the newest, and never one that saw the slice.
    assert registry.latest("ranker", "2026-01-07", "run-3") == (others, "2026-01-06")
    assert registry.latest("ranker", "2026-01-07") == (others, "2026-01-06")
    assert registry.latest("ranker", "2026-01-06", "run-2") == (early, "2026-01-05")
    assert registry.latest("ranker", "2026-01-05") is None


def test_what_is_not_there_is_said_so(registry, register, example):
    assert registry.alias("ranker", CHAMPION) is None
    assert registry.versions("interest") == []
    with pytest.raises(
        ModelError, match="newsroom-ranker has no version or alias 'champion': it has no version yet"
    ):
        registry.load_ranker(CHAMPION)
    version = register("2026-01-05")
    with pytest.raises(ModelError, match=rf"no version or alias '9': its versions go up to {version}"):
        registry.promote("9")
    with pytest.raises(ModelError, match="lacks columns that the ranker was fitted on: interest_score"):
        register("2026-01-06", example=example.drop("interest_score"))


def test_a_report_is_kept_with_its_run(registry, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<p>good</p>")

    run = registry.log_report(page, "2026-01-05")

    kept = mlflow.MlflowClient(registry.tracking_uri).download_artifacts(run, "report.html")
    assert Path(kept).read_text() == "<p>good</p>"


def test_preparing_twice_changes_nothing(registry, register):
    version = register("2026-01-05")

    registry.prepare()

    assert registry.alias("ranker", CHALLENGER) == version


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9 could not be used"),
        ("http://someone:secret@127.0.0.1:9", "//…@127.0.0.1:9 could not be used"),
        ("sqlite:////dev/null/mlflow.db", "Start that server or mend its address"),
    ],
)
def test_an_unusable_store_is_said_quickly(address, said):
    started = time.monotonic()

    with pytest.raises(TrackingError) as raised:
        Registry("newsroom", address).prepare()

    assert said in str(raised.value)
    assert "secret" not in str(raised.value)
    assert time.monotonic() - started < 10


def test_a_file_that_is_no_database_is_said_quickly(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, whatever its name says " * 20)

    with pytest.raises(TrackingError, match="file is not a database"):
        Registry("newsroom", f"sqlite:///{tmp_path}/mlflow.db").prepare()


def test_registering_is_quiet(registry, register, capfd, recwarn):
    registry.prepare()

    register("2026-01-05")
    registry.load_ranker(CHALLENGER)

    assert capfd.readouterr() == ("", "")
    # Python shows no deprecation inside a library to a person.
    assert [one.message for one in recwarn if not issubclass(one.category, DeprecationWarning)] == []


def test_the_address_of_a_version_names_model_and_version(registry):
    other = replace(registry, project="films")

    assert (
        other.url("interest", "3", "http://host:5000/")
        == "http://host:5000/#/models/films-interest/versions/3"
    )


def test_ablations_are_kept_beside_their_ranker(registry, register, ranker):
    register("2026-01-05", ablations={"behaviour_only": replace(ranker, info={"best_iteration": 3})})

    assert registry.load_ranker(CHALLENGER, "behaviour_only").info["best_iteration"] == 3
    assert registry.load_ranker(CHALLENGER).info["best_iteration"] == 8


def test_a_card_is_the_description_and_is_amended_in_its_place(registry, register):
    version = register("2026-01-05", card="# card\n\n## Data\n\nso much\n\n## Quality\n\nunknown\n")

    registry.amend_card(version, "Quality", "good")
    registry.amend_card(version, "Quality", "better")

    client = mlflow.MlflowClient(registry.tracking_uri)
    found = client.get_model_version("newsroom-ranker", version)
    assert found.description == "# card\n\n## Data\n\nso much\n\n## Quality\n\nbetter\n"
    assert Path(client.download_artifacts(found.run_id, "card.md")).read_text() == found.description


def test_registered_rankers_hold_no_pickle(register, ranker, unpickled):
    register("2026-01-05", ablations={"behaviour_only": ranker})

    names = unpickled("momentrank_ranker_")

    assert {"booster-0.txt", "booster-1.txt", "ranker.json", "importance.png", "card.md"} <= names


def contents(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def at_home(registry: Registry, home: Path) -> Registry:
    return replace(
        registry,
        tracking_uri=f"sqlite:///{home}/mlflow.db",
        artifact_location=(home / "mlartifacts").as_uri(),
    )


def test_a_copied_home_works_without_the_original_and_writes_only_into_itself(
    registry, ranker, example, prepared, tmp_path
):
    original, copy = tmp_path / "original", tmp_path / "a copy é"
    original.mkdir()
    shutil.copy(prepared, original)
    first = at_home(registry, original)
    first.prepare()
    old = first.register_ranker(ranker, "2026-01-05", "run-1", {}, {}, {}, example, card="# card\n")
    with first.track("tuning", "2026-01-05", [], {}):
        pass  # a run without artifacts
    shutil.copytree(original, copy)
    before = contents(original)
    # A copy is opened by another process, which knows nothing of the original.
    _artifact_repos_cache.clear()

    second = at_home(registry, copy)
    second.prepare()
    new = second.register_ranker(ranker, "2026-01-06", "run-2", {}, {}, {}, example)
    second.amend_card(old, "Quality", "good")

    assert contents(original) == before
    shutil.rmtree(original)
    for version in (old, new):
        assert second.load_ranker(version).columns == ranker.columns
    assert str(original).encode() not in (copy / "mlflow.db").read_bytes()


def test_artifacts_that_stayed_behind_are_still_found_where_they_are(registry, register, ranker, tmp_path):
    version = register("2026-01-05")
    elsewhere = replace(registry, artifact_location=(tmp_path / "elsewhere").as_uri())

    elsewhere.prepare()

    assert elsewhere.load_ranker(version).columns == ranker.columns
    elsewhere.log_report(Path(__file__), "2026-01-05")
    assert [path.name for path in (tmp_path / "elsewhere").rglob("*.py")] == [Path(__file__).name]


def test_two_runs_that_open_a_new_store_at_one_instant_share_it(tmp_path):
    registry = Registry("newsroom", f"sqlite:///{tmp_path}/mlflow.db", f"file://{tmp_path}/mlartifacts")
    command = [sys.executable, "-c", f"from models.registry.registry import Registry; {registry!r}.prepare()"]

    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]

    assert [(one.communicate()[1], one.returncode)[1] for one in both] == [0, 0]
    assert registry.versions("ranker") == []
    assert [file.name for file in tmp_path.glob("mlflow.db*")] == ["mlflow.db"]
