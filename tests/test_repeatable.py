"""Runs are reproducible: equal logs, project file and seed give equal metrics."""

import json
from collections.abc import Callable
from pathlib import Path

from pipelines.deployment import Deployment
from pipelines.running import materialise


def test_two_runs_with_one_seed_write_the_same_metrics(
    small_newsroom: Callable[..., Deployment], tmp_path: Path
) -> None:
    two_days = (
        "source.newsroom.days=2",
        "slices.end=2026-01-07T00:00:00Z",
    )
    metrics = []
    for name in ("one", "other"):
        deployment = small_newsroom(tmp_path / name, *two_days)
        materialise(deployment, None, None)
        metrics.append((deployment.settings.report("newsroom") / "metrics.json").read_bytes())
    assert metrics[0] == metrics[1]
    assert json.loads(metrics[0])["impressions"] > 0
