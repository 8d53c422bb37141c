"""Label each candidate from the interactions inside its attribution window."""

from datetime import datetime, timedelta

import polars as pl

from features import schemas
from features.config.sections import Labels, Source


def attribute(impressions: pl.DataFrame, interactions: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """One row per candidate (`schemas.Candidates`), sorted by impression and position.

    An interaction counts for the candidate with its impression and item; without an impression id, for every
    impression of its user that showed the item. It must have happened in [shown_at, shown_at + attribution). The
    label is the greatest gain among those that count (times the value for kinds in `labels.graded`), else 0. Kinds
    without a declared gain do not count. `as_of` is `shown_at`.
    """
    shown = impressions.select("impression_id", "user_id", "candidates", as_of="shown_at").explode(
        "candidates"
    )
    shown = shown.unnest("candidates")
    gain = pl.col("kind").replace_strict(labels.gains, default=None, return_dtype=pl.Float64)
    grade = pl.when(pl.col("kind").is_in(labels.graded)).then("value").otherwise(1.0)
    positive = interactions.with_columns(gain=gain * grade).filter(pl.col("gain") > 0)
    positive = positive.select("impression_id", "user_id", "item_id", "happened_at", "gain")
    named = positive.filter(pl.col("impression_id").is_not_null()).drop("user_id")
    unnamed = positive.filter(pl.col("impression_id").is_null()).drop("impression_id")
    counted = pl.concat(
        [
            _within(shown.join(named, on=["impression_id", "item_id"]), labels.attribution),
            _within(shown.join(unnamed, on=["user_id", "item_id"]), labels.attribution),
        ]
    )
    best = counted.group_by("impression_id", "item_id").agg(label=pl.col("gain").max())
    graded = shown.join(best, on=["impression_id", "item_id"], how="left")
    label = pl.col("label").fill_null(0.0)
    return (
        graded.with_columns(label=label, clicked=label > 0)
        .select(schemas.Candidates.column_names())
        .sort("impression_id", "position")
    )


def timely(interactions: pl.DataFrame, source: Source) -> pl.DataFrame:
    """Keep interactions that arrived at most `known_after + allowed_lateness` after they happened."""
    return interactions.filter(
        pl.col("known_at") - pl.col("happened_at") <= source.known_after + source.allowed_lateness
    )


def reprocessed(
    impressions: pl.DataFrame, interactions: pl.DataFrame, since: datetime, labels: Labels
) -> list[str]:
    """Sorted keys of the slices before `since` whose labels change because of interactions known from `since` on.

    `impressions` have a `slice` column; those from `since` on are ignored, because they have no labels yet.
    `interactions` are all that are known now.
    """
    late = interactions.filter(pl.col("known_at") >= since)
    unnamed = late.filter(pl.col("impression_id").is_null())
    named = pl.col("impression_id").is_in(late["impression_id"].drop_nulls().unique().implode())
    same_user = pl.col("user_id").is_in(unnamed["user_id"].unique().implode())
    touched = impressions.filter((pl.col("shown_at") < since) & (named | same_user))
    before = attribute(touched, interactions.filter(pl.col("known_at") < since), labels)
    after = attribute(touched, interactions, labels)
    changed = after.filter(after["label"] != before["label"])
    return touched.join(changed, on="impression_id", how="semi")["slice"].unique().sort().to_list()


def _within(pairs: pl.DataFrame, attribution: timedelta) -> pl.DataFrame:
    delay = pl.col("happened_at") - pl.col("as_of")
    inside = pairs.filter((delay >= timedelta(0)) & (delay < attribution))
    return inside.select("impression_id", "item_id", "gain")
