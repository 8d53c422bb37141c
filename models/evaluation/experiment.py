"""An experiment's figures: champion and challenger on the users that were assigned to them."""

import numpy as np
import polars as pl

from features.config.sections import Experiment
from models.evaluation.sequential import Arm, difference, sample_ratio
from models.ranking import stable_hash

METRICS = {
    "click_rate": ("clicks", "candidates"),
    "label": ("label", "candidates"),
    "impressions_per_user": ("impressions", "users"),
}
"""Metric → its amount and its base, sums of a user. The first decides; the others guard."""
MIN_RATIO_P = 0.001
"""Below this p-value of the users by arm, the figures cannot be trusted."""


def in_challenger(users: pl.Series, share: float, seed: int) -> pl.Series:
    """Whether each user (stored id) is assigned to the challenger: by a hash, so always to the same arm."""
    return stable_hash(users, seed) < int(share * 2**64)


def user_sums(candidates: pl.DataFrame) -> pl.DataFrame:
    """Each user's `clicks, label, candidates, impressions, users` (1); `candidates`: `schemas.Candidates`."""
    return (
        candidates.group_by("user_id")
        .agg(
            clicks=pl.col("clicked").sum(),
            label=pl.col("label").sum(),
            candidates=pl.len(),
            impressions=pl.col("impression_id").n_unique(),
            users=1,
        )
        .sort("user_id")
    )


def compare(users: pl.DataFrame, config: Experiment, seed: int) -> pl.DataFrame:
    """`metric, challenger, champion, difference, low, high, users_challenger, users_champion, ratio_p`.

    `users`: `user_sums` since the start. Intervals and `ratio_p` are valid at every look (`sequential.py`).
    """
    treated = in_challenger(users["user_id"], config.challenger_share, seed)
    challenger, champion = users.filter(treated), users.filter(~treated)
    sizes = challenger.height, champion.height
    p = sample_ratio(challenger.height, champion.height, config.challenger_share)
    rows = []
    for metric, columns in METRICS.items():
        new, old = (
            Arm(*(arm[name].cast(pl.Float64).to_numpy() for name in columns))
            for arm in (challenger, champion)
        )
        ends = (end if np.isfinite(end) else None for end in difference(new, old, config.min_lift))
        rows.append((metric, new.rate()[0], old.rate()[0], *ends, *sizes, p))
    names = ("metric", "challenger", "champion", "difference", "low", "high")
    schema = {"metric": pl.String, **dict.fromkeys(names[1:], pl.Float64)}
    schema |= {"users_challenger": pl.Int64, "users_champion": pl.Int64, "ratio_p": pl.Float64}
    return pl.DataFrame(rows, schema, orient="row")


def verdict(figures: pl.DataFrame) -> str:
    """One sentence on `compare`'s figures."""
    first, *guards = figures.iter_rows(named=True)
    if first["ratio_p"] < MIN_RATIO_P:
        return "not valid: the users by arm do not match challenger_share, so assignment or logging is broken"
    harmed = [row["metric"] for row in guards if row["high"] is not None and row["high"] < 0]
    if harmed:
        return f"stop: the challenger harms {', '.join(harmed)}"
    if first["low"] is None or first["low"] <= 0 <= first["high"]:
        return "undecided: go on"
    return "the challenger is better" if first["low"] > 0 else "stop: the champion is better"
