"""Interactions → graded label of each candidate, inside the attribution window."""

from datetime import datetime, timedelta

import polars as pl

from features import schemas
from features.config.sections import Labels, Source


def attribute(impressions: pl.DataFrame, interactions: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """One row per candidate (`schemas.Candidates`), sorted by impression and position.

    An interaction counts for the candidate it names by impression and item; one that names no impression, for
    every list of its user that showed the item. It must have happened in [shown_at, shown_at + attribution). The
    label is the greatest declared gain among those that count (of `labels.graded` kinds, times their value), and 0
    where none does; kinds without a declared gain do not count. `as_of` is `shown_at`.
    """
    shown = impressions.select("impression_id", "user_id", "candidates", as_of="shown_at").explode(
        "candidates"
    )
    shown = shown.unnest("candidates")
    gain = pl.col("kind").replace_strict(labels.gains, default=None, return_dtype=pl.Float64)
    grade = pl.when(pl.col("kind").is_in(labels.graded)).then("value").otherwise(1.0)
    gained = interactions.with_columns(gain=gain * grade).filter(pl.col("gain") > 0)
    facts = gained.select("impression_id", "user_id", "item_id", "happened_at", "gain")
    named = facts.filter(pl.col("impression_id").is_not_null()).drop("user_id")
    unnamed = facts.filter(pl.col("impression_id").is_null()).drop("impression_id")
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
    """Those that were known soon enough to count: at most `source.allowed_lateness` after the usual delay, `known_after`."""
    return interactions.filter(
        pl.col("known_at") - pl.col("happened_at") <= source.known_after + source.allowed_lateness
    )


def reprocessed(
    impressions: pl.DataFrame, interactions: pl.DataFrame, since: datetime, labels: Labels
) -> list[str]:
    """Keys of the slices before `since` whose labels change by what became known from `since` on, in order.

    `impressions` have their `slice`; those from `since` on are passed over, for their labels are yet to be written.
    `interactions` are all that are known now. Where nothing came late, or too late to count, no slice is named.
    """
    late = interactions.filter(pl.col("known_at") >= since)
    unnamed = late.filter(pl.col("impression_id").is_null())
    meant = pl.col("impression_id").is_in(late["impression_id"].drop_nulls().unique().implode())
    theirs = pl.col("user_id").is_in(unnamed["user_id"].unique().implode())
    touched = impressions.filter((pl.col("shown_at") < since) & (meant | theirs))
    before = attribute(touched, interactions.filter(pl.col("known_at") < since), labels)
    after = attribute(touched, interactions, labels)
    changed = after.filter(after["label"] != before["label"])
    return touched.join(changed, on="impression_id", how="semi")["slice"].unique().sort().to_list()


def _within(pairs: pl.DataFrame, attribution: timedelta) -> pl.DataFrame:
    since = pl.col("happened_at") - pl.col("as_of")
    inside = pairs.filter((since >= timedelta(0)) & (since < attribution))
    return inside.select("impression_id", "item_id", "gain")
