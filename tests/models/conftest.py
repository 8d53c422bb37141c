import json
import os
import pickle
import pickletools
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest
import yaml

from models.ranker import Ranker
from models.ranker.calibration import Calibration
from models.registry.registry import Registry

COLUMNS = ("item_ctr_1d", "user_clicks_7d", "interest_score")

Register = Callable[..., str]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared database to copy: creating one takes two seconds."""
    folder = tmp_path_factory.mktemp("prepared")
    Registry("world", f"sqlite:///{folder}/mlflow.db", None).prepare()
    return folder / "mlflow.db"


@pytest.fixture
def registry(prepared: Path, tmp_path: Path) -> Registry:
    shutil.copy(prepared, tmp_path / "mlflow.db")
    return Registry("newsroom", f"sqlite:///{tmp_path}/mlflow.db", f"file://{tmp_path}/mlartifacts")


@pytest.fixture(scope="session")
def example() -> pl.DataFrame:
    """200 candidates in two impressions."""
    values = np.random.default_rng(3).random((200, len(COLUMNS))).astype(np.float32)
    return pl.DataFrame(values, schema=list(COLUMNS)).with_columns(
        impression_id=pl.lit("i") + (pl.int_range(200) % 2).cast(pl.String),
        item_id=pl.lit("item-") + pl.int_range(200).cast(pl.String),
    )


@pytest.fixture(scope="session")
def ranker(example: pl.DataFrame) -> Ranker:
    """Two small boosters with a made-up calibration."""
    values = example.select(COLUMNS).to_numpy()
    boosters = tuple(
        lightgbm.train(
            {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, "seed": seed},
            lightgbm.Dataset(values, label=values[:, 0] + values[:, 2]),
            8,
        )
        for seed in (1, 2)
    )
    info = {
        "best_iteration": 8,
        "objective": "lambdarank",
        "validation_metric": "ndcg@10",
        "validation": 0.61,
        "rows": 200,
        "impressions": 2,
        "slices": ["2026-01-04", "2026-01-05"],
        "importance": dict(zip(COLUMNS, (3.0, 0.0, 1.0), strict=True)),
    }
    return Ranker(boosters, COLUMNS, info, Calibration((0.0, 2.0), (0.01, 0.4)))


@pytest.fixture
def register(registry: Registry, ranker: Ranker, example: pl.DataFrame) -> Register:
    """Register the small ranker for a slice; returns its version."""

    def registered(slice: str, run: str = "run-1", **more: object) -> str:
        arguments = {
            "ranker": ranker,
            "metrics": {"ndcg@10": 0.61, "auc": None},
            "tags": {"interest_version": 4, "table.events": "12"},
            "params": {"leaves": 31},
            "example": example.head(5),
            "figures": {"importance": b"\x89PNG\r\n"},
        }
        return registry.register_ranker(slice=slice, dagster_run=run, **(arguments | more))

    return registered


TEXT = {".json", ".txt", ".md", ".yaml", ".py", ""}
"""Suffixes of text among the artifacts: `MLmodel` has none."""


@pytest.fixture
def unpickled(tmp_path: Path) -> Callable[..., set[str]]:
    """Assert that no registered file is or loads a pickle; returns the names of all files."""

    def scan(prefix: str) -> set[str]:
        files = [path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()]
        for path in files:
            content = path.read_bytes()
            assert path.suffix in {*TEXT, ".safetensors", ".png"}, path
            # Pickles of protocol 2 and up begin with this opcode; older ones are not UTF-8 or parse to the end.
            assert content[:1] != pickle.PROTO, path
            if path.suffix in TEXT:
                content.decode("utf-8")
                with pytest.raises((ValueError, pickle.UnpicklingError, IndexError, KeyError)):
                    list(pickletools.genops(content))
        models = [yaml.safe_load(path.read_text()) for path in files if path.name == "MLmodel"]
        assert models
        for model in models:
            assert list(model["flavors"]) == ["python_function"]
            flavour = model["flavors"]["python_function"]
            assert flavour["loader_module"].startswith(prefix)
            assert not {"python_model", "cloudpickle_version", "artifacts"} & set(flavour)
        return {path.name for path in files}

    return scan


FOREIGN = """
def __getattr__(name):
    raise AssertionError(f"{__name__}.{name} belongs to this application")
"""
LOADED = """
import sys

sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.modules.update(dict.fromkeys(("polars", "dagster", "deltalake", "dataframely")))  # as if not installed

import features, models, pipelines
import json, mlflow, os, pandas

mlflow.set_tracking_uri(sys.argv[1])
rows = pandas.DataFrame(json.loads(sys.argv[2]))
loaded = [mlflow.pyfunc.load_model(name) for name in sys.argv[3:]]
predictions = [model.predict(rows) for model in loaded]
assert all(sys.modules[name].__path__[0] == f"{os.getcwd()}/{name}" for name in ("features", "models", "pipelines"))
print(json.dumps([a if isinstance(a, list) else a.to_dict("list") for a in predictions]))
"""


@dataclass(frozen=True)
class Application:
    """A foreign project folder, with packages `models`, `features` and `pipelines` that fail on any use."""

    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Environment of a process without telemetry that loads no pickle."""
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        quiet = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        return inherited | quiet | more

    def predict(self, registry: Registry, rows: list[Mapping[str, Any]], *models: str) -> list[Any]:
        """Predictions of each model, all loaded in one process in this folder by plain MLflow."""
        done = subprocess.run(
            [sys.executable, "-c", LOADED, registry.tracking_uri, json.dumps(rows), *models],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def application(tmp_path: Path) -> Application:
    folder = tmp_path / "application"
    for package in ("models", "features", "pipelines"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(FOREIGN)
    return Application(folder)
