"""Held-out items: a seeded share that is unknown before an instant, and alone in the impressions after it."""

from datetime import datetime

import polars as pl

from features.errors import ProjectError
from features.events.validation import Events
from models.ranking import stable_hash


def hold_out(events: Events, share: float, after: datetime, seed: int) -> Events:
    """The events as if `share` of the items had first been shown at `after`, and nothing else from then on.

    Impressions before the instant lose these items and the interactions with them; impressions after it lose all
    others, keep the positions at which items were shown, and are dropped where no item remains. Interactions after
    the instant with other items stay: they are part of the user's history.

    Raises ProjectError for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ProjectError(
            f"--new-items is {share:g}: write a share of the items between 0 and 1, for example --new-items 0.3"
        )
    chosen = held_items(events, share, seed).implode()
    at = pl.lit(after, pl.Datetime("us", "UTC"))
    new = pl.element().struct.field("item_id").is_in(chosen)
    candidates = pl.col("candidates")
    lists = events.impressions.with_columns(
        pl.when(pl.col("shown_at") < at)
        .then(candidates.list.eval(pl.element().filter(~new)))
        .otherwise(candidates.list.eval(pl.element().filter(new)))
    ).filter(candidates.list.len() > 0)
    earlier = events.impressions.filter(pl.col("shown_at") < at)["impression_id"].implode()
    # A late click belongs to an impression in which the item was no longer shown.
    before = (pl.col("happened_at") < at) | pl.col("impression_id").is_in(earlier).fill_null(False)
    done = events.interactions.filter(~(pl.col("item_id").is_in(chosen) & before))
    return Events(events.items, lists, done, events.rejects)


def held_items(events: Events, share: float, seed: int) -> pl.Series:
    """Ids of `share` of the items ever shown, drawn by a hash of id and seed, sorted."""
    shown = events.impressions.select(
        pl.col("candidates").list.eval(pl.element().struct.field("item_id")).list.explode().unique().sort()
    ).to_series()
    drawn = pl.DataFrame({"item_id": shown, "draw": stable_hash(shown, seed)}).sort("draw", "item_id")
    return drawn["item_id"].head(round(share * drawn.height)).sort()
