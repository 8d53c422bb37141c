"""Slices of a run by hand. tests/test_end_to_end.py runs them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from features.errors import ProjectError
from pipelines.deployment import Deployment
from pipelines.running import materialise
from pipelines.triggers.partitions import partition_range


@pytest.fixture
def defined(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Mocked definitions; nothing is run."""
    definitions = Mock()
    monkeypatch.setattr("pipelines.definitions.define", definitions)
    instance = Mock(__enter__=Mock(), __exit__=Mock(return_value=None))
    monkeypatch.setattr("dagster.DagsterInstance.get", Mock(return_value=instance))
    monkeypatch.setattr("pipelines.liveness.fail_dead", Mock())
    return definitions


def ran(defined: Mock) -> tuple[str, str] | None:
    job = defined.return_value.resolve_job_def.return_value
    return partition_range(job.execute_in_process.call_args.kwargs["tags"])


@pytest.fixture
def endless(tmp_path: Path, small_newsroom: Callable[..., Deployment]) -> Deployment:
    """Three past days of logs, in slices without an end."""
    deployment = small_newsroom(tmp_path)
    slices = deployment.project.slices.model_copy(update={"end": None})
    return replace(deployment, project=deployment.project.model_copy(update={"slices": slices}))


def test_without_an_end_slices_end_with_the_log(endless: Deployment, defined: Mock) -> None:
    assert materialise(endless, None, None) == "2026-01-07"
    assert ran(defined) == ("2026-01-05", "2026-01-07")


def test_a_named_slice_may_be_after_the_end_of_the_logs(endless: Deployment, defined: Mock) -> None:
    materialise(endless, "2026-01-10", "2026-01-11")
    assert ran(defined) == ("2026-01-10", "2026-01-11")
    with pytest.raises(ProjectError, match="has not ended"):
        materialise(endless, None, "2099-01-08")


def test_settings_are_checked_before_the_registry_is_opened(
    endless: Deployment, defined: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Mock()
    monkeypatch.setattr("models.registry.registry.Registry.prepare", opened)
    features = endless.project.features.model_copy(update={"select": ("nothing",)})
    wrong = replace(endless, project=endless.project.model_copy(update={"features": features}))
    with pytest.raises(ProjectError, match="no feature is called 'nothing'"):
        materialise(wrong, None, None)
    assert not opened.called
    assert not defined.called
