"""`momentrank estimate`: the click rate that a ranker version would have had on traffic that it was not fitted on."""

from typing import NamedTuple

import polars as pl

from features.errors import ModelError
from models.evaluation.off_policy import OffPolicy, estimate
from models.registry.quality import Table
from models.registry.registry import Registry
from pipelines.slice_tables import SliceTables


class Estimated(NamedTuple):
    """A version, the slices of the traffic, and the estimates."""

    version: str
    slices: list[str]
    estimates: OffPolicy


def estimate_version(
    tables: SliceTables, registry: Registry, version_or_alias: str, k: int, newest: int
) -> Estimated:
    """Estimate a ranker version's click rate in the first `k` positions, and log it to MLflow with the version.

    The traffic is the `newest` slices after those that the version was fitted on. Raises ModelError if there are none,
    and what `off_policy.estimate` raises.
    """
    lake, project = tables.lake, tables.project
    version = registry.alias("ranker", version_or_alias) or version_or_alias
    ranker = registry.load_ranker(version)
    (fitted,) = (row["slice"] for row in registry.versions("ranker") if row["version"] == version)
    slices = [key for key in lake.slices("ranking_dataset") if key > fitted][-newest:]
    if not slices:
        raise ModelError(
            f"ranker version {version} was fitted on slices up to {fitted}, and no later one has been run: "
            "estimate an earlier version, or run the next slice"
        )
    dataset = lake.read("ranking_dataset", slices)
    score = ranker.score(dataset)
    keys = ("impression_id", "user_id", "item_id", "position", "propensity", "clicked")
    log = dataset.select(keys).with_columns(score=score, click_probability=ranker.probability(score))
    estimates = estimate(log, k, seed=project.seed, resamples=project.promotion.resamples)
    table = Table("ranking_dataset", lake.version("ranking_dataset"), lake.location("ranking_dataset"))
    registry.log_quality(version, project.slices.number(slices[-1]), _metrics(estimates.table), table)
    return Estimated(version, slices, estimates)


def _metrics(table: pl.DataFrame) -> dict[str, float]:
    """For each estimator, for example `dr`: `off_policy/dr`, `off_policy/dr_low` and `off_policy/dr_high`."""
    ends = {"click_rate": "", "low": "_low", "high": "_high"}
    return {
        f"off_policy/{row['estimator']}{suffix}": row[end]
        for row in table.iter_rows(named=True)
        for end, suffix in ends.items()
    }
