"""What must hold of each table, as asset checks. A blocking one stops what comes after."""

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
from features.errors import MomentRankError, ProjectError
from models.evaluation.metrics import POOLED_AUC
from pipelines.dagster_names import asset_key, resource
from pipelines.deployment import Deployment
from pipelines.lake import STATE
from pipelines.monitoring.monitors import MONITORS, Finding, Monitor, View
from pipelines.triggers.partitions import spanned


@dataclass(frozen=True)
class Rule:
    """A sentence about a table that holds or does not."""

    asset: str
    name: str
    sentence: str
    failing: Callable[[pl.DataFrame], int]
    """Counts what breaks the rule; 0 holds."""
    columns: tuple[str, ...] | None = None
    """What is read of the table; None for all."""
    table: str | None = None
    """The lake's table, where it has another name than the asset."""


def _repeats(*keys: str) -> Callable[[pl.DataFrame], int]:
    return lambda table: int(table.select("slice", *keys).is_duplicated().sum())


def _rows(broken: pl.Expr) -> Callable[[pl.DataFrame], int]:
    return lambda table: table.filter(broken).height


def _infinite(table: pl.DataFrame) -> int:
    return int(table.select(pl.sum_horizontal(cs.float().is_infinite().sum())).item())


def _negative(table: pl.DataFrame) -> int:
    return table.filter(pl.any_horizontal(cs.float() < 0)).height


def _none(table: pl.DataFrame) -> int:
    return int(table.is_empty())


def _one_outcome(table: pl.DataFrame) -> int:
    return int(table["clicked"].n_unique() < 2)


def _partial(table: pl.DataFrame) -> int:
    """Scorers and attributes whose shares neither add up to one nor are all unknown."""
    sums = table.group_by("slice", "scorer", "attribute").agg(_SHARES.sum())
    return sums.filter(pl.any_horizontal((_SHARES != 0) & ((_SHARES - 1).abs() > 1e-6))).height


def _not_better(than: str) -> Callable[[pl.DataFrame], int]:
    def failing(table: pl.DataFrame) -> int:
        headline = "ndcg@10" if "ndcg@10" in table["metric"] else POOLED_AUC
        means = table.filter(segment="all", metric=headline).group_by("scorer").agg(pl.col("mean").mean())
        found = dict(means.iter_rows())
        return int(bool(found) and (found["full"] or 0.0) <= (found[than] or 0.0))

    return failing


_LISTED = ("impression_id", "item_id")
_SHARES = cs.starts_with("of_")
_OFF_UNIT = (pl.col("vector").list.eval(pl.element() ** 2).list.sum() - 1).abs() > 1e-3

BLOCKING: Sequence[Rule] = (
    Rule(
        "impressions", "once", "an impression is stored once", _repeats("impression_id"), ("impression_id",)
    ),
    Rule(
        "interactions",
        "known_after",
        "nothing is known before it happened",
        _rows(pl.col("known_at") < pl.col("happened_at")),
    ),
    Rule("candidates", "once", "an item stands once in a list", _repeats(*_LISTED), _LISTED),
    Rule("item_vectors", "unit_length", "vectors have unit length", _rows(_OFF_UNIT)),
    Rule("features", "finite", "no feature is infinite", _infinite),
    Rule(
        "interest_scores",
        "never_saw_its_slice",
        "the scoring version was fitted on earlier slices only",
        _rows(pl.col("interest_slice") >= pl.col("slice")),
    ),
    Rule("ranking_dataset", "once", "every candidate has one row", _repeats(*_LISTED), _LISTED),
    Rule(
        "evaluation",
        "never_saw_its_slice",
        "the ranker evaluated was fitted on earlier slices only",
        _rows(pl.col("ranker_slice") >= pl.col("slice")),
        ("ranker_slice",),
        table="evaluation_scores",
    ),
    Rule("moment_state", "counted", "no counter is below zero", _negative, table=f"{STATE}/item"),
    Rule(
        "promotion",
        "not_worse",
        "who was promoted was not below whom they replaced",
        _rows(pl.col("promoted") & (pl.col("difference") < 0)),
    ),
    Rule(
        "promotion",
        "guarded",
        "who was promoted lost no guarded segment, and its probabilities can be believed",
        _rows(pl.col("promoted") & ((pl.col("guard_slack") < 0) | (pl.col("calibration_slack") < 0))),
    ),
    Rule(
        "promotion",
        "earlier",
        "the challenger was fitted on earlier slices only",
        _rows(pl.col("challenger_slice") >= pl.col("slice")),
    ),
    Rule("exposure", "whole", "the shares of an attribute add up to one", _partial),
    Rule("ranked_lists", "once", "no list holds an item twice", _repeats("user_id", "item_id")),
)
"""A slice that breaks one of these is wrong: what comes after it is not run."""

WARNING: Sequence[Rule] = (
    Rule("impressions", "some", "lists were shown in the slice", _none, ("impression_id",)),
    Rule("candidates", "clicked", "something was taken, and not everything", _one_outcome, ("clicked",)),
    Rule("evaluation", "beats_random", "the ranker orders better than chance", _not_better("random")),
    Rule("evaluation", "beats_popularity", "it orders better than popularity", _not_better("popularity")),
)
"""Worth a person's look; the run goes on."""


def declared(project: Project) -> list[tuple[Rule | Monitor, str]]:
    """Every check with what it does, `warn` or `block`, as `[checks.level]` has it; those that are off left out.

    Raises ProjectError for a level of a check that there is not.
    """
    every: list[tuple[Rule | Monitor, str]] = [
        *((rule, "block") for rule in BLOCKING),
        *((rule, "warn") for rule in WARNING),
        *((monitor, monitor.level) for monitor in MONITORS),
    ]
    names = [f"{check.asset}.{check.name}" for check, _ in every]
    for name in project.checks.level:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0)
            raise ProjectError(f"checks.level: no check is called {name!r}; the nearest is {near[0]!r}")
    levels = (
        (check, project.checks.level.get(f"{check.asset}.{check.name}", level)) for check, level in every
    )
    return [(check, level) for check, level in levels if level != "off"]


def build(project: Project) -> list[dg.AssetChecksDefinition]:
    """The project's asset checks."""
    return [_check(project, check, level == "block") for check, level in declared(project)]


def _slices(context: dg.AssetCheckExecutionContext, deployment: Deployment, table: str) -> list[str]:
    """The run's slices that the table has."""
    run, kept = spanned(context.run.tags), deployment.lake.slices(table)
    return [key for key in kept if run[0] <= key <= run[1]] if run else kept[-1:]


def _check(project: Project, check: Rule | Monitor, blocking: bool) -> dg.AssetChecksDefinition:
    table = (check.table if isinstance(check, Rule) else None) or check.asset
    asset, key = asset_key(project, check.asset), resource(project)

    @dg.asset_check(  # type: ignore[arg-type]  # what Dagster itself yields, in place of a result
        asset=asset,
        name=check.name,
        description=check.sentence,
        blocking=blocking,
        required_resource_keys={key},
    )
    def checked(
        context: dg.AssetCheckExecutionContext,
    ) -> Iterator[dg.Output[None] | dg.AssetCheckEvaluation]:
        deployment: Deployment = getattr(context.resources, key)
        slices = _slices(context, deployment, table)
        found = _found(check, deployment, slices) if slices else Finding(True, "no slice was written")
        yield dg.Output(None)
        # Not an AssetCheckResult: of a range of slices Dagster would list every partition there is to make this of it.
        yield dg.AssetCheckEvaluation(
            asset_key=asset,
            check_name=check.name,
            passed=found.holds,
            severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
            metadata={**found.figures, "slices": len(slices)},
            description=f"{check.sentence}: {found.said}",
            blocking=blocking,
            target_materialization_data=_newest(context.instance, asset, slices[-1:]),
        )

    return checked


def _newest(
    instance: dg.DagsterInstance, asset: dg.AssetKey, slices: Sequence[str]
) -> AssetCheckEvaluationTargetMaterializationData | None:
    """The newest materialization of an asset's slices, which its page shows a check beside."""
    wanted = dg.AssetRecordsFilter(asset, asset_partitions=slices or None)
    for found in instance.fetch_materializations(wanted, limit=1).records:
        return AssetCheckEvaluationTargetMaterializationData(
            storage_id=found.storage_id, run_id=found.run_id, timestamp=found.timestamp
        )
    return None


def _found(check: Rule | Monitor, deployment: Deployment, slices: Sequence[str]) -> Finding:
    if isinstance(check, Monitor):
        try:
            return check.look(View(deployment, slices))
        except MomentRankError as error:
            # It warns of what it cannot look at, and stops nothing by that unless it blocks.
            return Finding(False, f"could not be looked at: {error}")
    columns = None if check.columns is None else [*check.columns, "slice"]
    failing = check.failing(deployment.lake.read(check.table or check.asset, slices, columns))
    said = "holds" if not failing else f"broken {failing} times"
    return Finding(failing == 0, said, {"failing": float(failing)})
