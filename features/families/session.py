"""What the user did since the session that the list belongs to began."""

from collections.abc import Iterator

import polars as pl

from features.facts import FIRST_RATE
from features.families.feature import Feature
from features.families.reading import METARANK, hours
from features.project import Project


def session_features(project: Project) -> Iterator[Feature]:
    """Length of the session so far, and the list's place in it."""
    strength = project.features.prior_strength
    seen = pl.col("user:exposures_all") - pl.col("session:exposures")
    taken = pl.col("user:clicks_all") - pl.col("session:clicks")
    yield Feature(
        "session_lists", "session", "lists shown in this session before", pl.col("session:lists"), METARANK
    )
    yield Feature(
        "session_exposures", "session", "items shown to the user since this session began", seen, METARANK
    )
    yield Feature(
        "session_clicks", "session", "items the user took since this session began", taken, METARANK
    )
    yield Feature("session_ctr", "session", "the user's smoothed click rate since this session began",
                  (taken + strength * FIRST_RATE) / (seen + strength))  # fmt: skip
    yield Feature(
        "session_minutes", "session", "minutes since the session began", 60 * hours("session:began_at")
    )
