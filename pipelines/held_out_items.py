"""Hold out a share of the items to evaluate cold-start items."""

from datetime import datetime

import polars as pl

from features.errors import ProjectError
from features.events.validation import Events
from features.schemas import INSTANT
from models.ranking import stable_hash


def hold_out(events: Events, share: float, after: datetime, seed: int) -> Events:
    """Hide `share` of the items before `after`, and all other candidates from then on.

    Before `after`, held-out items and interactions with them are removed. From `after` on, all other candidates are
    removed; positions stay, and an impression without candidates is dropped. Later interactions with other items stay:
    they are part of the user's history.

    Raises ProjectError if `share` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ProjectError(
            f"--new-items is {share:g}: choose a share of the items between 0 and 1, for example --new-items 0.3"
        )
    held_out = held_items(events, share, seed).implode()
    at = pl.lit(after, INSTANT)
    new = pl.element().struct.field("item_id").is_in(held_out)
    candidates = pl.col("candidates")
    impressions = events.impressions.with_columns(
        pl.when(pl.col("shown_at") < at)
        .then(candidates.list.eval(pl.element().filter(~new)))
        .otherwise(candidates.list.eval(pl.element().filter(new)))
    ).filter(candidates.list.len() > 0)
    earlier = events.impressions.filter(pl.col("shown_at") < at)["impression_id"].implode()
    # A click after the instant may belong to an impression before it, which no longer has the item.
    before = (pl.col("happened_at") < at) | pl.col("impression_id").is_in(earlier).fill_null(False)
    interactions = events.interactions.filter(~(pl.col("item_id").is_in(held_out) & before))
    return Events(events.items, impressions, interactions, events.rejects)


def held_items(events: Events, share: float, seed: int) -> pl.Series:
    """Ids of `share` of the items ever shown, drawn by a hash of id and seed, sorted."""
    shown = events.impressions.select(
        pl.col("candidates").list.eval(pl.element().struct.field("item_id")).list.explode().unique().sort()
    ).to_series()
    items = pl.DataFrame({"item_id": shown, "draw": stable_hash(shown, seed)}).sort("draw", "item_id")
    return items["item_id"].head(round(share * items.height)).sort()
