"""Deployment: a lost registry, unknown users, shared folders."""

from io import StringIO
from pathlib import Path
from unittest.mock import Mock

import polars as pl
import pytest

from features.errors import ModelError, ProjectError
from pipelines.cli import commands as cli
from pipelines.deployment import Deployment
from pipelines.settings.settings import load
from pipelines.terminal import Terminal


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path))
    settings = load()
    return Deployment(settings.open_project(), settings)


def test_a_lost_registry_is_an_error(deployment: Deployment) -> None:
    deployment.lake.write("evaluation_scores", "2026-01-06", pl.DataFrame({"full": [0.5]}))
    registry = Mock(versions=Mock(return_value=[]))
    registry.name.return_value = "newsroom-ranker"
    deployment.__dict__["registry"] = registry
    with pytest.raises(
        ModelError, match=r"2026-01-06 was evaluated by a version of newsroom-ranker, .* has none"
    ):
        deployment.require_versions("2026-01-07")
    deployment.require_versions("2026-01-05")
    registry.versions.return_value = [{"version": "1"}]
    deployment.require_versions("2026-01-07")


def test_an_unknown_user_is_ranked_as_new_with_a_note(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = StringIO()
    monkeypatch.setattr(cli, "out", Terminal(file=page, width=200))
    deployment.lake.write("impressions", "2026-01-06", pl.DataFrame({"user_id": ["anna"]}))
    deployment.lake.write("interactions", "2026-01-06", pl.DataFrame({"user_id": ["bert"]}))

    assert [cli._stored_id(deployment.lake, deployment.privacy, user) for user in ("anna", "bert")] == [
        "anna",
        "bert",
    ]
    assert page.getvalue() == ""
    assert cli._stored_id(deployment.lake, deployment.privacy, "[/b]") == "[/b]"
    assert page.getvalue().startswith("user '[/b]' is in no log and is ranked as a new user")


def test_a_cluster_needs_a_shared_folder(deployment: Deployment) -> None:
    def on_a_cluster(scratch: str) -> Deployment:
        settings = deployment.settings.model_copy(update={"engine": "ray", "scratch": scratch})
        return Deployment(deployment.project, settings)

    assert on_a_cluster("/shared").fits("2026-01-06") == Path("/shared/newsroom/fits/2026-01-06")
    with pytest.raises(ProjectError, match="MOMENTRANK_SCRATCH is s3://bucket/scratch"):
        on_a_cluster("s3://bucket/scratch").fits("2026-01-06")
