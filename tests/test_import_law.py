"""The import rules: folders import one way, and each heavy library is imported in one place."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LINT, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for package in ("features", "models", "pipelines"):
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    return folder


def test_the_rules_hold() -> None:
    result = lint(REPOSITORY)

    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("file", "statement", "contract"),
    [
        ("features/schemas.py", "import models", "Layers: pipelines → models → features"),
        (
            "models/evaluation/metrics.py",
            "from pipelines import lake",
            "Layers: pipelines → models → features",
        ),
        ("features/schemas.py", "import dagster", "Only pipelines imports dagster"),
        ("models/evaluation/metrics.py", "import mlflow.pyfunc", "Only models/registry imports mlflow"),
        (
            "pipelines/settings/settings.py",
            "def open():\n    import mlflow",
            "Only models/registry imports mlflow",
        ),
        ("models/evaluation/metrics.py", "import lightgbm", "Only models/ranker imports lightgbm"),
        (
            "models/evaluation/metrics.py",
            "import torch",
            "Only models/interest imports torch and transformers",
        ),
        (
            "pipelines/lake/tables.py",
            "import transformers",
            "Only models/interest imports torch and transformers",
        ),
        (
            "pipelines/deployment.py",
            "def open():\n    import ray",
            "Only pipelines/compute/engine.py imports ray",
        ),
        (
            "pipelines/backtest.py",
            "from models.prequential import fit_rankers",
            "Assets and the backtest import the steps of the chain from pipelines/chain.py",
        ),
        (
            "pipelines/deployment.py",
            "from pipelines.privacy import retention",
            "No import cycles within a package",
        ),
        ("models/interest/__init__.py", "import polars", "models/interest takes arrays"),
        ("models/interest/__init__.py", "from features import errors", "models/interest takes arrays"),
    ],
)
def test_a_violation_is_found(copy: Path, file: str, statement: str, contract: str) -> None:
    target = copy / file
    original = target.read_text(encoding="utf-8")
    target.write_text(f"{original}\n{statement}\n", encoding="utf-8")

    result = lint(copy)
    target.write_text(original, encoding="utf-8")

    assert result.returncode == 1, result.stdout + result.stderr
    broken = [line for line in result.stdout.splitlines() if "BROKEN" in line]
    assert any(line.startswith(contract) for line in broken), result.stdout


def test_definitions_load_without_the_heavy_libraries(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pipelines.definitions import define\n"
        "from pipelines.deployment import Deployment\n"
        "from pipelines.settings.settings import load\n"
        "settings = load()\n"
        "define(Deployment(settings.open_project(), settings))\n"
        "print([m for m in ('torch', 'mlflow', 'lightgbm', 'transformers', 'matplotlib', 'ray') if m in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "MOMENTRANK_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
