"""A run is repeatable: the same logs, the same file and the same seed give the same figures."""

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
    written = []
    for name in ("one", "other"):
        made = small_newsroom(tmp_path / name, *two_days)
        materialise(made, None, None)
        written.append((made.settings.report("newsroom") / "metrics.json").read_bytes())
    assert written[0] == written[1]
    assert json.loads(written[0])["impressions"] > 0
