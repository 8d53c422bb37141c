"""Fit the ranker and its ablation, score a slice with every scorer, evaluate the scores."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from features.config.sections import Evaluation, Labels, Promotion
from features.config.sections import Ranker as RankerConfig
from features.events.point_in_time import BORN_AT, see, versions
from features.ranking_dataset import INTEREST, feature_columns, text_columns
from features.state import MomentState, SliceEvents
from features.state.histories import SKIPPED
from models.evaluation import baselines
from models.evaluation.baselines import Baseline, baselines_of
from models.evaluation.evaluate import EvaluationResult, evaluate, impression_values
from models.evaluation.metrics import metrics_of
from models.evaluation.segments import segments
from models.ranker import Ranker, fit
from models.ranker.shards import Shard, fit_shard

if TYPE_CHECKING:
    from models.interest.workers import Workers

_RANKERS = ("full", "behaviour_only", "text_only")
"""The ranker; its ablation without text; the interest score alone."""

_PROBABILITIES = {"full": "click_probability", "behaviour_only": "probability_without_text"}
"""Scorers with click probabilities → their columns in `score_slice`."""


def scorers(config: Evaluation) -> tuple[str, ...]:
    """Everything that is evaluated: the ranker, its ablations, the baselines."""
    return (*_RANKERS, *baselines_of(config))


def fit_rankers(
    dataset: pl.DataFrame, ranker: RankerConfig, labels: Labels, seed: int
) -> tuple[Ranker, Ranker]:
    """Fit the ranker on every feature of `dataset`, and its ablation without text. Raises as `ranker.fit`."""
    # One after the other: LightGBM crashed when two threads of a process fitted at the same time (docs/log.md).
    full, behaviour_only = (
        fit(dataset, columns, ranker, labels, seed) for columns in _with_and_without_text(dataset)
    )
    return full, behaviour_only


def fit_rankers_together(
    shard: Shard, ranker: RankerConfig, labels: Labels, seed: int, workers: "Workers", meeting: str
) -> tuple[Ranker, Ranker]:
    """As `fit_rankers`, on the shards of all workers; every worker calls it. Raises as `fit_shard`."""
    full, behaviour_only = (
        fit_shard(shard, columns, ranker, labels, seed, workers, meeting)
        for columns in _with_and_without_text(shard.rows)
    )
    return full, behaviour_only


def _with_and_without_text(dataset: pl.DataFrame) -> tuple[list[str], list[str]]:
    columns = feature_columns(dataset)
    texts = text_columns(columns)
    return columns, [name for name in columns if name not in texts]


@dataclass(frozen=True)
class Background:
    """What evaluation needs to know of a slice's candidates, independent of the ranker."""

    measured: pl.DataFrame
    """Features of the baselines (`baselines.lookup`)."""
    baselines: Mapping[str, Baseline]
    versions: pl.DataFrame
    """Item versions that may be visible in the slice."""
    users: pl.Series
    """Ids of users that are not new."""
    items: pl.Series
    """Ids of items that are not new."""
    clicks: pl.DataFrame
    """`user_id, history_clicks`: the clicks in each user's history before the slice."""


def background(
    before: MomentState, events: SliceEvents, config: Evaluation, fitted: MomentState | None = None
) -> Background:
    """Look up the background of a slice's events in the state before the slice.

    New users and items are those missing from `fitted`, the state that the models were fitted up to; by default the
    state before the slice.
    """
    known, compared = fitted or before, baselines_of(config)
    return Background(
        baselines.lookup(before, events, compared),
        compared,
        versions(before.items, events.items),
        known.counts("user")["user_id"],
        known.counts("item")["item_id"],
        before.moments.filter(pl.col("action") != SKIPPED).group_by("user_id").len("history_clicks"),
    )


def score_slice(
    dataset: pl.DataFrame, full: Ranker, behaviour_only: Ranker, known: Background, seed: int
) -> pl.DataFrame:
    """Keys, `label`, `clicked`, one Float64 column per scorer, and the columns of segments; rows as in `dataset`.

    Adds `click_probability` (of the full ranker), `probability_without_text`, `new_user`, `new_item`, `history_clicks`
    of the user, and each item's `attributes` and `item_hours` since publication when it was shown (null if it was
    unknown). Without an interest score, `text_only` is 0.
    """
    keys = ("impression_id", "user_id", "item_id", "position", "label", "clicked", "as_of")
    baseline_scores = baselines.scores(dataset, known.measured, seed, known.baselines).drop(
        "impression_id", "item_id"
    )
    rank_score, without_text = full.score(dataset), behaviour_only.score(dataset)
    # The item version known strictly before the impression.
    version = see(dataset.select("item_id", "as_of"), known.versions, "as_of")["version"]
    published = known.versions.select(BORN_AT).to_series().gather(version)
    clicks = dataset.select("user_id").join(known.clicks, on="user_id", how="left", maintain_order="left")
    return pl.concat([dataset.select(keys), baseline_scores], how="horizontal").with_columns(
        full=rank_score,
        behaviour_only=without_text,
        text_only=dataset[INTEREST].cast(pl.Float64).fill_null(0.0),
        click_probability=full.probability(rank_score),
        probability_without_text=behaviour_only.probability(without_text),
        new_user=~pl.col("user_id").is_in(known.users.implode()),
        new_item=~pl.col("item_id").is_in(known.items.implode()),
        attributes=known.versions["attributes"].gather(version),
        item_hours=(pl.col("as_of") - published).dt.total_seconds() / 3600,
        history_clicks=clicks["history_clicks"].fill_null(0).cast(pl.Int64),
    )


def evaluate_slice(
    scored: pl.DataFrame, attributes: Sequence[str], config: Evaluation, promotion: Promotion, seed: int
) -> EvaluationResult:
    """Evaluate every scorer on the same impressions: all, and each segment with `evaluation.min_impressions`.

    A baseline is left out if some rows were scored before the project file named it.
    """
    return evaluate(
        scored,
        [name for name in scorers(config) if name in _RANKERS or _is_scored(scored, name)],
        segments(scored, attributes, config, promotion.guard),
        listwise=metrics_of(config),
        probabilities=_PROBABILITIES,
        min_impressions=config.min_impressions,
        seed=seed,
        resamples=promotion.resamples,
        confidence=promotion.confidence,
    )


def promotion_values(
    dataset: pl.DataFrame,
    scored: pl.DataFrame,
    champion: Ranker | None,
    attributes: Sequence[str],
    config: Evaluation,
    guard: Collection[str],
) -> pl.DataFrame:
    """Per-impression values of `challenger` (the scorer `full`), of `champion` if any, and of the baselines.

    Segments: all and, with a champion, each guarded segment that `scored` has.
    """
    columns = {"challenger": scored["full"]}
    probabilities = {"challenger": "click_probability"}
    guarded = {}
    if champion:
        scores = dataset.select("impression_id", "item_id").with_columns(champion=champion.score(dataset))
        columns["champion"] = scored.join(
            scores, on=["impression_id", "item_id"], how="left", maintain_order="left"
        )["champion"]
        scored = scored.with_columns(champion_probability=champion.probability(columns["champion"]))
        probabilities["champion"] = "champion_probability"
        available = segments(scored, attributes, config, guard)
        guarded = {name: available[name] for name in guard if name in available}
    return impression_values(
        scored.with_columns(**columns),
        [*columns, *baselines_of(config)],
        guarded,
        metrics_of(config),
        probabilities,
    )


def _is_scored(scored: pl.DataFrame, name: str) -> bool:
    return name in scored.columns and not scored[name].has_nulls()
