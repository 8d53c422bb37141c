"""Rules that each table must satisfy, as Dagster asset checks. A failed blocking check stops what depends on it."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
import polars as pl
import polars.selectors as cs
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from features.config.project import Project
from features.config.sections import Checks
from features.errors import MomentRankError, ProjectError
from models.evaluation.experiment import MIN_RATIO_P
from models.evaluation.metrics import MetricSet
from pipelines.dagster_names import asset_key, resource
from pipelines.deployment import Deployment
from pipelines.lake import STATE, Lake
from pipelines.monitoring.monitors import Finding, Monitor, View, monitors_of
from pipelines.triggers.partitions import partition_range


@dataclass(frozen=True)
class Rule:
    """A condition on a table."""

    asset: str
    name: str
    description: str
    failing: Callable[[pl.DataFrame], int]
    """Counts the violations."""
    columns: tuple[str, ...] | None = None
    """Columns to read; None for all."""
    table: str | None = None
    """Table in the lake, if not named as the asset."""


def _duplicates(*keys: str) -> Callable[[pl.DataFrame], int]:
    return lambda table: int(table.select("slice", *keys).is_duplicated().sum())


def _rows(invalid: pl.Expr) -> Callable[[pl.DataFrame], int]:
    return lambda table: table.filter(invalid).height


def _infinite(table: pl.DataFrame) -> int:
    return int(table.select(pl.sum_horizontal(cs.float().is_infinite().sum())).item())


def _negative(table: pl.DataFrame) -> int:
    return table.filter(pl.any_horizontal(cs.float() < 0)).height


def _not_one(table: pl.DataFrame) -> int:
    """Scorers and attributes whose shares neither sum to one nor are all null."""
    sums = table.group_by("slice", "scorer", "attribute").agg(_SHARES.sum())
    return sums.filter(pl.any_horizontal((_SHARES != 0) & ((_SHARES - 1).abs() > 1e-6))).height


def _not_better_than(baseline: str) -> Callable[[pl.DataFrame], int]:
    def failing(table: pl.DataFrame) -> int:
        headline = MetricSet.among(table["metric"].unique()).headline
        rows = table.filter(segment="all", metric=headline).group_by("scorer").agg(pl.col("mean").mean())
        means = dict(rows.iter_rows())
        return int(bool(means) and (means["full"] or 0.0) <= (means[baseline] or 0.0))

    return failing


_CANDIDATE = ("impression_id", "item_id")
_SHARES = cs.starts_with("share_of_")
_OFF_UNIT = (pl.col("vector").list.eval(pl.element() ** 2).list.sum() - 1).abs() > 1e-3

BLOCKING: Sequence[Rule] = (
    Rule(
        "impressions",
        "unique",
        "impression ids are unique",
        _duplicates("impression_id"),
        ("impression_id",),
    ),
    Rule(
        "interactions",
        "known_at",
        "no interaction is known before it happened",
        _rows(pl.col("known_at") < pl.col("happened_at")),
    ),
    Rule("candidates", "unique", "an impression shows each item once", _duplicates(*_CANDIDATE), _CANDIDATE),
    Rule("item_vectors", "unit_length", "vectors have unit length", _rows(_OFF_UNIT)),
    Rule("features", "finite", "no feature is infinite", _infinite),
    Rule(
        "interest_scores",
        "fitted_earlier",
        "the scoring model was fitted on earlier slices only",
        _rows(pl.col("interest_slice") >= pl.col("slice")),
    ),
    Rule("ranking_dataset", "unique", "every candidate has one row", _duplicates(*_CANDIDATE), _CANDIDATE),
    Rule(
        "evaluation",
        "fitted_earlier",
        "the evaluated ranker was fitted on earlier slices only",
        _rows(pl.col("ranker_slice") >= pl.col("slice")),
        ("ranker_slice",),
        table="evaluation_scores",
    ),
    Rule("moment_state", "non_negative", "no counter is below zero", _negative, table=f"{STATE}/item"),
    Rule(
        "promotion",
        "not_worse",
        "no promoted challenger scored below the champion",
        _rows(pl.col("promoted") & (pl.col("difference") < 0)),
    ),
    Rule(
        "promotion",
        "guarded",
        "no promoted challenger lost on a guarded segment or is badly calibrated",
        _rows(pl.col("promoted") & ((pl.col("guard_slack") < 0) | (pl.col("calibration_slack") < 0))),
    ),
    Rule(
        "promotion",
        "fitted_earlier",
        "the challenger was fitted on earlier slices only",
        _rows(pl.col("challenger_slice") >= pl.col("slice")),
    ),
    Rule("exposure", "shares_sum", "the shares of an attribute sum to one", _not_one),
    Rule("ranked_lists", "unique", "no list has an item twice", _duplicates("user_id", "item_id")),
)
"""A slice that fails one of these is wrong: what depends on it does not run."""

WARNING: Sequence[Rule] = (
    Rule(
        "impressions",
        "not_empty",
        "the slice has impressions",
        lambda table: int(table.is_empty()),
        ("impression_id",),
    ),
    Rule(
        "candidates",
        "both_outcomes",
        "some candidates were clicked, and not all",
        lambda table: int(table["clicked"].n_unique() < 2),
        ("clicked",),
    ),
    Rule(
        "experiment",
        "sample_ratio",
        "the users by arm match experiment.challenger_share",
        _rows(pl.col("ratio_p") < MIN_RATIO_P),
        ("ratio_p",),
    ),
    Rule("evaluation", "beats_random", "the ranker beats random order", _not_better_than("random")),
    Rule(
        "evaluation",
        "beats_popularity",
        "the ranker beats order by popularity",
        _not_better_than("popularity"),
    ),
)
"""A failure is worth a look; the run goes on."""


def declared(config: Checks) -> list[tuple[Rule | Monitor, str]]:
    """Every check with its level, `warn` or `block`, as set in `[checks.level]`; checks that are `off` are left out.

    Raises ProjectError if `[checks.level]` names an unknown check.
    """
    defaults: list[tuple[Rule | Monitor, str]] = [
        *((rule, "block") for rule in BLOCKING),
        *((rule, "warn") for rule in WARNING),
        *((monitor, monitor.level) for monitor in monitors_of(config)),
    ]
    names = [f"{check.asset}.{check.name}" for check, _ in defaults]
    for name in config.level:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0)
            raise ProjectError(f"checks.level: no check is called {name!r}; the nearest is {near[0]!r}")
    levels = (
        (check, config.level.get(name, level)) for name, (check, level) in zip(names, defaults, strict=True)
    )
    return [(check, level) for check, level in levels if level != "off"]


def build(project: Project) -> list[dg.AssetChecksDefinition]:
    """The project's asset checks."""
    return [_asset_check(project, check, level == "block") for check, level in declared(project.checks)]


def _slices_of_run(context: dg.AssetCheckExecutionContext, lake: Lake, table: str) -> list[str]:
    """The run's slices that the table has; its newest slice if the run names none."""
    run, stored = partition_range(context.run.tags), lake.slices(table)
    return [key for key in stored if run[0] <= key <= run[1]] if run else stored[-1:]


def _asset_check(project: Project, check: Rule | Monitor, blocking: bool) -> dg.AssetChecksDefinition:
    table = (check.table if isinstance(check, Rule) else None) or check.asset
    asset, key = asset_key(project.name, check.asset), resource(project.name)

    @dg.asset_check(  # type: ignore[arg-type]  # yields Dagster's own events instead of a result
        asset=asset,
        name=check.name,
        description=check.description,
        blocking=blocking,
        required_resource_keys={key},
    )
    def checked(
        context: dg.AssetCheckExecutionContext,
    ) -> Iterator[dg.Output[None] | dg.AssetCheckEvaluation]:
        deployment: Deployment = getattr(context.resources, key)
        slices = _slices_of_run(context, deployment.lake, table)
        finding = (
            _evaluate(check, View(deployment.lake, project, slices, deployment.settings.cache))
            if slices
            else Finding(True, "no slice was written")
        )
        yield dg.Output(None)
        # Not an AssetCheckResult: for a range of slices, Dagster would list every partition to build the evaluation.
        yield dg.AssetCheckEvaluation(
            asset_key=asset,
            check_name=check.name,
            passed=finding.passed,
            severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
            metadata={**finding.figures, "slices": len(slices)},
            description=f"{check.description}: {finding.summary}",
            blocking=blocking,
            target_materialization_data=_newest(context.instance, asset, slices[-1:]),
        )

    return checked


def _newest(
    instance: dg.DagsterInstance, asset: dg.AssetKey, slices: Sequence[str]
) -> AssetCheckEvaluationTargetMaterializationData | None:
    """The newest materialization of the asset's slices: Dagster's page shows the check beside it."""
    query = dg.AssetRecordsFilter(asset, asset_partitions=slices or None)
    for record in instance.fetch_materializations(query, limit=1).records:
        return AssetCheckEvaluationTargetMaterializationData(
            storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
        )
    return None


def _evaluate(check: Rule | Monitor, view: View) -> Finding:
    if isinstance(check, Monitor):
        try:
            return check.evaluate(view)
        except MomentRankError as error:
            # A monitor that cannot be evaluated fails its check, not the run.
            return Finding(False, f"could not be evaluated: {error}")
    columns = None if check.columns is None else [*check.columns, "slice"]
    failing = check.failing(view.lake.read(check.table or check.asset, view.slices, columns))
    summary = f"{failing} violations" if failing else "holds"
    return Finding(failing == 0, summary, {"failing": float(failing)})
