"""One slice's candidates under every scorer, and the judgement over them: the same for run and evaluate."""

import polars as pl

from features.project import Project
from features.ranking_dataset import INTEREST, feature_columns, text_columns
from features.state import MomentState
from models import baselines
from models.evaluation import Judgement, judge
from models.ranker import Ranker, fit

SCORERS = ("full", "behaviour_only", "text_only", *baselines.BASELINES)
"""The ranker, the ranker without text, the interest score alone, and what learns nothing."""

SEGMENTS = {"new_users": pl.col("new_user"), "new_items": pl.col("new_item")}
"""Users first met, and items first shown, in the judged stretch."""


def fit_rankers(dataset: pl.DataFrame, project: Project) -> tuple[Ranker, Ranker]:
    """The ranker on every feature of `dataset`, and its ablation without text. Raises as `ranker.fit` does."""
    columns = feature_columns(dataset)
    without_text = [name for name in columns if name not in text_columns(columns)]
    full, behaviour_only = (
        fit(dataset, chosen, project.ranker, project.labels, project.seed)
        for chosen in (columns, without_text)
    )
    return full, behaviour_only


def score_slice(
    dataset: pl.DataFrame, full: Ranker, behaviour_only: Ranker, before: MomentState, project: Project
) -> pl.DataFrame:
    """Keys, `label`, `clicked`, one Float64 column a scorer, `new_user` and `new_item`; rows as in `dataset`.

    `before` is the moment state at the start of the judged stretch. Where no interest version existed, the
    score is 0 for all candidates.
    """
    keys = ("impression_id", "user_id", "item_id", "position", "label", "clicked", "as_of")
    plain = baselines.scores(dataset, project.seed).drop("impression_id", "item_id")
    known = {
        key: before.totals[grain][key].implode() for key, grain in (("user_id", "user"), ("item_id", "item"))
    }
    return pl.concat([dataset.select(keys), plain], how="horizontal").with_columns(
        full=full.score(dataset),
        behaviour_only=behaviour_only.score(dataset),
        text_only=dataset[INTEREST].cast(pl.Float64).fill_null(0.0),
        new_user=~pl.col("user_id").is_in(known["user_id"]),
        new_item=~pl.col("item_id").is_in(known["item_id"]),
    )


def judge_slice(scored: pl.DataFrame, project: Project) -> Judgement:
    """Every scorer on the same impressions, in all, on new users and on new items."""
    rule = project.promotion
    return judge(
        scored,
        SCORERS,
        SEGMENTS,
        seed=project.seed,
        resamples=rule.resamples,
        confidence=rule.confidence,
    )


def promotion_values(dataset: pl.DataFrame, scored: pl.DataFrame, champion: Ranker | None) -> pl.DataFrame:
    """Per-impression values of `challenger` (the scorer `full`), `champion` if any, and the baselines."""
    columns = {"challenger": scored["full"]}
    if champion:
        scores = dataset.select("impression_id", "item_id").with_columns(champion=champion.score(dataset))
        columns["champion"] = scored.join(
            scores, on=["impression_id", "item_id"], how="left", maintain_order="left"
        )["champion"]
    return judge(scored.with_columns(**columns), [*columns, *baselines.BASELINES]).values
