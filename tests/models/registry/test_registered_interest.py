"""Versions of the interest model in a real MLflow database load in plain MLflow and have their curves."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas
import pytest

from models.interest.config import InterestConfig
from models.interest.item_arrays import ItemArrays
from models.interest.scoring import embed
from models.interest.serving import ServedInterest
from models.interest.serving import example as example_requests
from models.interest.version import InterestModel
from models.registry.registry import CHALLENGER, Registry


@pytest.fixture(scope="module")
def interest() -> InterestModel:
    """A small untrained model with the packaged encoder."""
    shape = {"tune": "frozen", "width": 8, "heads": 2, "layers": 1, "max_tokens": 12, "numbers": ("price",)}
    model = InterestModel(InterestConfig(**shape, actions=("click", "skipped"), device="cpu"))
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
        card="# a card",
    )


def test_plain_mlflow_loads_an_interest_version_and_scores_texts(registry, interest, tmp_path):
    version = _register_interest(registry, interest, tmp_path / "version")
    shutil.rmtree(tmp_path / "version")

    mlflow.set_tracking_uri(registry.tracking_uri)
    model = mlflow.pyfunc.load_model(f"models:/newsroom-interest/{version}")
    past = [
        {"text": "a storm at sea", "action": "click", "at": 10.0},
        {"text": "a cake", "action": "skipped", "at": 20.0},
    ]
    rows = [
        {"history": past, "candidates": ["high waves", "a pie", "a cake"], "at": 30.0},
        {"history": past[::-1], "candidates": ["high waves"], "at": 30.0},
        {"history": [], "candidates": ["high waves"], "at": None},
    ]
    predicted = model.predict(pandas.DataFrame(rows))

    assert [len(scores) for scores in predicted] == [3, 1, 1]
    assert predicted == ServedInterest(interest).predict(pandas.DataFrame(rows))
    assert all(0 < score < 1 for scores in predicted for score in scores)
    assert max(predicted[0]) - min(predicted[0]) > 1e-3
    assert predicted[1][0] == pytest.approx(predicted[0][0], abs=1e-6)
    assert model.metadata.signature.inputs.required_input_names() == ["history", "candidates"]
    assert len(model.predict(model.input_example)) == 2


def test_an_interest_version_is_loaded_without_pickles(registry, interest, tmp_path, unpickled):
    _register_interest(registry, interest, tmp_path / "version")

    folder = registry.interest_folder(CHALLENGER)
    assert InterestModel.load(folder).config == interest.config
    assert mlflow.MlflowClient().get_model_version("newsroom-interest", "1").description == "# a card"
    assert (folder / "tokenizer" / "tokenizer.json").exists()
    assert {"model.safetensors", "config.json"} <= unpickled("momentrank_interest_")


def test_an_interest_version_has_its_curves_and_configuration(registry, interest, tmp_path):
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
    params = client.get_run(run).data.params
    assert params == {name: str(value) for name, value in interest.config.as_dict().items()}
    metrics = registry.versions("interest")[0]["metrics"]
    assert metrics == {"auc": 0.7, "loss": 1 / 1500, "learning_rate": 0.15, "gradient_norm": 1.0}


def test_registering_is_quiet(registry, interest, tmp_path, capfd, recwarn):
    _register_interest(registry, interest, tmp_path / "version")
    registry.interest_folder(CHALLENGER)

    assert capfd.readouterr() == ("", "")
    # Python hides deprecation warnings inside libraries.
    assert [one.message for one in recwarn if not issubclass(one.category, DeprecationWarning)] == []
