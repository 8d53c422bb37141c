"""What must hold of each table, as asset checks. A blocking one stops what comes after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg
import polars as pl
import polars.selectors as cs

from pipelines.deployment import STATE, Deployment


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


def _above(most: int) -> Callable[[pl.DataFrame], int]:
    return lambda table: max(0, table.height - most)


def _unknown(table: pl.DataFrame) -> int:
    share = table["item_age_hours"].is_null().mean()
    return int(isinstance(share, float) and share > 0.05)


def _not_better(than: str) -> Callable[[pl.DataFrame], int]:
    def failing(table: pl.DataFrame) -> int:
        means = table.filter(segment="all", metric="ndcg@10").group_by("scorer").agg(pl.col("mean").mean())
        found = dict(means.iter_rows())
        return int(bool(found) and (found["full"] or 0.0) <= (found[than] or 0.0))

    return failing


_LISTED = ("impression_id", "item_id")
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
    Rule("moment_state", "counted", "no counter is below zero", _negative, table=f"{STATE}/item"),
    Rule(
        "promotion",
        "not_worse",
        "who was promoted was not below whom they replaced",
        _rows(pl.col("promoted") & (pl.col("difference") < 0)),
    ),
    Rule("ranked_lists", "once", "no list holds an item twice", _repeats("user_id", "item_id")),
)
"""A slice that breaks one of these is wrong: what comes after it is not run."""

WARNING: Sequence[Rule] = (
    Rule("items", "titled", "every item version has a title", _rows(pl.col("title") == ""), ("title",)),
    Rule("impressions", "some", "lists were shown in the slice", _none, ("impression_id",)),
    Rule("candidates", "clicked", "something was taken, and not everything", _one_outcome, ("clicked",)),
    Rule("rejects", "few", "at most 1,000 rows of a run are refused", _above(1000), ("reason",)),
    Rule("features", "known_items", "at most 5 % of candidates are unknown", _unknown, ("item_age_hours",)),
    Rule("evaluation", "beats_random", "the ranker orders better than chance", _not_better("random")),
    Rule("evaluation", "beats_popularity", "it orders better than popularity", _not_better("popularity")),
)
"""Worth a person's look; the run goes on."""


def _slices(context: dg.AssetCheckExecutionContext, deployment: Deployment, table: str) -> list[str]:
    """The run's slices that the table has."""
    tags = context.run.tags
    one = tags.get("dagster/partition", "")
    first = tags.get("dagster/asset_partition_range_start", one)
    last = tags.get("dagster/asset_partition_range_end", one)
    kept = deployment.lake.slices(table)
    return [key for key in kept if first <= key <= last] if first else kept[-1:]


def _check(rule: Rule, blocking: bool) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=rule.asset, name=rule.name, description=rule.sentence, blocking=blocking)
    def check(
        context: dg.AssetCheckExecutionContext, deployment: dg.ResourceParam[Deployment]
    ) -> dg.AssetCheckResult:
        table = rule.table or rule.asset
        slices = _slices(context, deployment, table)
        columns = None if rule.columns is None else [*rule.columns, "slice"]
        failing = rule.failing(deployment.lake.read(table, slices, columns)) if slices else 0
        severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(
            passed=failing == 0,
            severity=severity,
            metadata={"failing": failing, "slices": len(slices)},
            description=f"{rule.sentence}: {'holds' if not failing else f'broken {failing} times'}",
        )

    return check


CHECKS = [
    *(_check(rule, blocking=True) for rule in BLOCKING),
    *(_check(rule, blocking=False) for rule in WARNING),
]
