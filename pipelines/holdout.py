"""New items on purpose: a seeded share that nobody met before an instant, and the lists after it hold alone."""

from datetime import datetime

import polars as pl

from features.errors import ProjectError
from features.events import Events
from models.ranking import stable_hash


def hold_out(found: Events, share: float, frozen_after: datetime, seed: int) -> Events:
    """The events as if `share` of the items had first been shown at `frozen_after`, and then alone.

    Lists before the instant lose these items, and so do the interactions that came of them; lists after it
    lose all others, keep the places at which items were shown, and are left out where no item remains. What
    people do after the instant with other items stays: it is their past when the next list is shown.

    Raises ProjectError for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ProjectError(
            f"--new-items {share:g} is no share of the items: give a number between 0 and 1, for example 0.3"
        )
    chosen = held_items(found, share, seed).implode()
    at = pl.lit(frozen_after, pl.Datetime("us", "UTC"))
    new = pl.element().struct.field("item_id").is_in(chosen)
    candidates = pl.col("candidates")
    lists = found.impressions.with_columns(
        pl.when(pl.col("shown_at") < at)
        .then(candidates.list.eval(pl.element().filter(~new)))
        .otherwise(candidates.list.eval(pl.element().filter(new)))
    ).filter(candidates.list.len() > 0)
    earlier = found.impressions.filter(pl.col("shown_at") < at)["impression_id"].implode()
    # A click that came late still belongs to a list in which the item was no longer shown.
    before = (pl.col("happened_at") < at) | pl.col("impression_id").is_in(earlier).fill_null(False)
    done = found.interactions.filter(~(pl.col("item_id").is_in(chosen) & before))
    return Events(found.items, lists, done, found.rejects)


def held_items(found: Events, share: float, seed: int) -> pl.Series:
    """Ids of `share` of the items ever shown, drawn by a hash of id and seed, sorted."""
    shown = found.impressions.select(
        pl.col("candidates").list.eval(pl.element().struct.field("item_id")).list.explode().unique().sort()
    ).to_series()
    drawn = pl.DataFrame({"item_id": shown, "draw": stable_hash(shown, seed)}).sort("draw", "item_id")
    return drawn["item_id"].head(round(share * drawn.height)).sort()
