"""The registry over a real MLflow database: what is registered loads, moves, rolls back, is never doubled."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import lightgbm
import mlflow
import numpy as np
import pandas
import polars as pl
import pytest

from features.errors import ModelError, TrackingError
from models.interest.config import InterestConfig
from models.interest.items import ItemArrays
from models.interest.scoring import embed
from models.interest.serving import ServedInterest
from models.interest.serving import example as example_requests
from models.interest.version import InterestModel
from models.ranker import Ranker
from models.registry import CHALLENGER, CHAMPION, Registry

COLUMNS = ("item_ctr_1d", "user_clicks_7d", "interest_score")
PICKLES = {".pkl", ".pickle", ".skops", ".joblib", ".pt", ".bin"}
PICKLE_MAGIC = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with a fresh database: creating one takes two seconds, copying it none."""
    folder = tmp_path_factory.mktemp("prepared")
    Registry("world", f"sqlite:///{folder}/mlflow.db", None).prepare()
    return folder / "mlflow.db"


@pytest.fixture
def registry(prepared: Path, tmp_path: Path) -> Registry:
    shutil.copy(prepared, tmp_path / "mlflow.db")
    return Registry("newsroom", f"sqlite:///{tmp_path}/mlflow.db", f"file://{tmp_path}/mlartifacts")


@pytest.fixture(scope="module")
def example() -> pl.DataFrame:
    random = np.random.default_rng(3)
    values = random.random((200, len(COLUMNS))).astype(np.float32)
    return pl.DataFrame(values, schema=list(COLUMNS)).with_columns(impression_id=pl.lit("i1"))


@pytest.fixture(scope="module")
def ranker(example: pl.DataFrame) -> Ranker:
    values = example.select(COLUMNS).to_numpy()
    dataset = lightgbm.Dataset(values, label=values[:, 0] + values[:, 2])
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}, dataset, 8)
    return Ranker(booster, COLUMNS, {"best_iteration": 8, "importance": dict.fromkeys(COLUMNS, 1.0)})


def _register(
    registry: Registry, ranker: Ranker, example: pl.DataFrame, slice: str, run: str = "run-1"
) -> str:
    return registry.register_ranker(
        ranker,
        slice,
        run,
        metrics={"ndcg@10": 0.61, "auc": None},
        tags={"interest_version": 4, "table.events": "12"},
        params={"leaves": 31},
        example=example.head(5),
        figures={"importance": b"\x89PNG\r\n"},
    )


def test_plain_mlflow_loads_the_champion_and_predicts(registry, ranker, example):
    registry.promote(_register(registry, ranker, example, "2026-01-05"))

    mlflow.set_tracking_uri(registry.tracking_uri)
    model = mlflow.pyfunc.load_model("models:/newsroom-ranker@champion")
    rows = example.select(pl.col(COLUMNS).cast(pl.Float64)).to_pandas()

    np.testing.assert_allclose(model.predict(rows), ranker.score(example).to_numpy())
    assert model.metadata.signature.inputs.input_names() == list(COLUMNS)
    assert model.input_example.shape == (5, len(COLUMNS))


def test_a_version_carries_its_tags_metrics_and_aliases(registry, ranker, example):
    first = _register(registry, ranker, example, "2026-01-05")
    second = _register(registry, ranker, example, "2026-01-06")
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


def test_our_ranker_comes_back_by_version_and_by_alias(registry, ranker, example):
    version = _register(registry, ranker, example, "2026-01-05")

    for key in (version, CHALLENGER):
        loaded = registry.load_ranker(key)
        assert loaded.columns == COLUMNS
        assert loaded.score(example).equals(ranker.score(example))


def test_a_retry_returns_the_version_that_is_there(registry, ranker, example):
    first = _register(registry, ranker, example, "2026-01-05", run="run-1")
    newer = _register(registry, ranker, example, "2026-01-06", run="run-1")
    again = _register(registry, ranker, example, "2026-01-05", run="run-1")
    rerun = _register(registry, ranker, example, "2026-01-05", run="run-2")

    assert again == first
    assert [one["version"] for one in registry.versions("ranker")] == [first, newer, rerun]
    assert registry.version_for("ranker", "2026-01-05") == rerun
    assert registry.version_for("ranker", "2026-01-07") is None


def test_a_late_retry_leaves_challenger_with_the_newer_version(registry, ranker, example):
    _register(registry, ranker, example, "2026-01-05")
    newer = _register(registry, ranker, example, "2026-01-06")

    _register(registry, ranker, example, "2026-01-05")

    assert registry.alias("ranker", CHALLENGER) == newer


def test_a_retry_mends_an_alias_that_was_not_reached(registry, ranker, example):
    version = _register(registry, ranker, example, "2026-01-05")
    mlflow.MlflowClient(registry.tracking_uri).delete_registered_model_alias("newsroom-ranker", CHALLENGER)

    _register(registry, ranker, example, "2026-01-05")

    assert registry.alias("ranker", CHALLENGER) == version


def test_a_failure_while_logging_leaves_no_version_and_a_failed_run(registry, ranker, example, monkeypatch):
    def broken(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", broken)
    with pytest.raises(TrackingError, match="disk full"):
        _register(registry, ranker, example, "2026-01-05")
    monkeypatch.undo()

    assert registry.versions("ranker") == []
    client = mlflow.MlflowClient(registry.tracking_uri)
    experiment = client.get_experiment_by_name("newsroom").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]
    assert _register(registry, ranker, example, "2026-01-05") == "1"


def test_rollback_walks_back_through_the_champions(registry, ranker, example):
    first, second, third = (_register(registry, ranker, example, f"2026-01-0{day}") for day in (5, 6, 7))
    for version in (first, second, second, third):
        registry.promote(version)
    assert registry.alias("ranker", CHAMPION) == third

    assert registry.rollback() == second
    assert registry.rollback() == first
    assert registry.alias("ranker", CHAMPION) == first
    with pytest.raises(ModelError, match="nothing to roll back to"):
        registry.rollback()
    tags = {one["version"]: one["tags"] for one in registry.versions("ranker")}
    assert tags[third]["previous_champion"] == second
    assert "promoted_at" in tags[third]
    assert "rolled_back_at" in tags[third]


def test_what_is_not_there_is_said_so(registry, ranker, example):
    assert registry.alias("ranker", CHAMPION) is None
    assert registry.versions("interest") == []
    with pytest.raises(
        ModelError, match="newsroom-ranker has no version or alias 'champion': it has no version yet"
    ):
        registry.load_ranker(CHAMPION)
    version = _register(registry, ranker, example, "2026-01-05")
    with pytest.raises(ModelError, match=rf"no version or alias '9': its versions go up to {version}"):
        registry.promote("9")
    with pytest.raises(ModelError, match="lacks columns that the ranker was fitted on: interest_score"):
        _register(registry, ranker, example.drop("interest_score"), "2026-01-06")


def test_nothing_is_pickled(registry, ranker, example, tmp_path):
    _register(registry, ranker, example, "2026-01-05")

    files = [path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()]

    assert {"model.lgb", "booster.txt", "importance.png"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in PICKLES]
    assert not [path for path in files if path.read_bytes()[:2] in PICKLE_MAGIC]
    assert not [path for path in files if b"cloudpickle" in path.read_bytes()]


@pytest.fixture(scope="module")
def interest() -> InterestModel:
    """A small fresh model over the packaged encoder."""
    shape = {"tune": "frozen", "width": 8, "heads": 2, "layers": 1, "max_tokens": 12, "numbers": ("price",)}
    model = InterestModel(InterestConfig(**shape, actions=("click", "passed"), device="cpu"))
    items = ItemArrays.of_texts(["a storm at sea", "a cake", "high waves"])
    items = replace(items, number=np.ones((len(items), 1), dtype=np.float32))
    model.decoder.items.standardise(embed(model, items))
    return model


def _register_interest(
    registry: Registry, model: InterestModel, folder: Path, curves: Sequence[Mapping[str, float]] = ()
) -> str:
    model.save(folder)
    return registry.register_interest(
        folder,
        "2026-01-05",
        "run-1",
        metrics={"auc": 0.7},
        tags={"tables": "items@3"},
        params=model.config.as_dict(),
        example=example_requests(model.config),
        curves=curves,
    )


def test_plain_mlflow_loads_an_interest_version_and_scores_texts(registry, interest, tmp_path):
    version = _register_interest(registry, interest, tmp_path / "version")
    shutil.rmtree(tmp_path / "version")

    mlflow.set_tracking_uri(registry.tracking_uri)
    model = mlflow.pyfunc.load_model(f"models:/newsroom-interest/{version}")
    past = [
        {"text": "a storm at sea", "action": "click", "at": 10.0},
        {"text": "a cake", "action": "passed", "at": 20.0},
    ]
    rows = [
        {"history": past, "candidates": ["high waves", "a pie", "a cake"], "at": 30.0},
        {"history": past[::-1], "candidates": ["high waves"], "at": 30.0},
        {"history": [], "candidates": ["high waves"], "at": None},
    ]
    found = model.predict(pandas.DataFrame(rows))

    assert [len(scores) for scores in found] == [3, 1, 1]
    assert found == ServedInterest(interest).predict(pandas.DataFrame(rows))
    assert all(0 < score < 1 for scores in found for score in scores)
    assert max(found[0]) - min(found[0]) > 1e-3
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-6)
    assert model.metadata.signature.inputs.required_input_names() == ["history", "candidates"]
    assert len(model.predict(model.input_example)) == 2


def test_an_interest_version_comes_back_and_is_not_pickled(registry, interest, tmp_path):
    _register_interest(registry, interest, tmp_path / "version")

    back = registry.interest_folder(CHALLENGER)
    assert InterestModel.load(back).config == interest.config
    assert (back / "tokenizer" / "tokenizer.json").exists()
    files = [path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in PICKLES]
    assert not [path for path in files if path.read_bytes()[:2] in PICKLE_MAGIC]
    assert not [path for path in files if b"cloudpickle" in path.read_bytes()]


def test_an_interest_version_carries_its_curves_and_its_exact_configuration(registry, interest, tmp_path):
    curves = [
        {
            "step": step,
            "loss": 1 / step,
            "learning_rate": step * 1e-4,
            "gradient_norm": 1.0,
            "held_out_loss": None,
        }
        for step in range(1, 1501)
    ]

    version = _register_interest(registry, interest, tmp_path / "version", curves)
    again = _register_interest(registry, interest, tmp_path / "version", curves)

    assert again == version
    client = mlflow.MlflowClient(registry.tracking_uri)
    run = client.get_model_version("newsroom-interest", version).run_id
    for name in ("loss", "learning_rate"):
        points = [(point.step, point.value) for point in client.get_metric_history(run, name)]
        assert points == [(row["step"], row[name]) for row in curves]
    told = client.get_run(run).data.params
    assert told == {name: str(value) for name, value in interest.config.as_dict().items()}
    measured = registry.versions("interest")[0]["metrics"]
    assert measured == {"auc": 0.7, "loss": 1 / 1500, "learning_rate": 0.15, "gradient_norm": 1.0}


def test_a_report_is_kept_with_its_run(registry, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<p>good</p>")

    run = registry.log_report(page, "2026-01-05")

    kept = mlflow.MlflowClient(registry.tracking_uri).download_artifacts(run, "report.html")
    assert Path(kept).read_text() == "<p>good</p>"


def test_preparing_twice_changes_nothing(registry, ranker, example):
    version = _register(registry, ranker, example, "2026-01-05")

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


def test_registering_is_quiet(registry, ranker, interest, example, tmp_path, capfd, recwarn):
    registry.prepare()

    _register(registry, ranker, example, "2026-01-05")
    _register_interest(registry, interest, tmp_path / "version")
    registry.load_ranker(CHALLENGER)
    registry.interest_folder(CHALLENGER)

    assert capfd.readouterr() == ("", "")
    # Python shows no deprecation inside a library to a person.
    assert [one.message for one in recwarn if not issubclass(one.category, DeprecationWarning)] == []


def test_the_address_of_a_version_names_model_and_version(registry):
    other = replace(registry, project="films")

    assert (
        other.url("interest", "3", "http://host:5000/")
        == "http://host:5000/#/models/films-interest/versions/3"
    )


def test_ablations_are_kept_beside_their_ranker(registry, ranker, example):
    other = replace(ranker, info={"best_iteration": 3})
    registry.register_ranker(
        ranker, "2026-01-05", "run-1", {}, {}, {}, example, ablations={"behaviour_only": other}
    )

    assert registry.load_ranker(CHALLENGER, "behaviour_only").info["best_iteration"] == 3
    assert registry.load_ranker(CHALLENGER).info["best_iteration"] == 8
