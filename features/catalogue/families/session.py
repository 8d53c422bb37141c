"""The user's activity since the current session began."""

from collections.abc import Iterator

from features.catalogue.families.feature import Feature
from features.catalogue.families.reading import METARANK, hours
from features.catalogue.term import read
from features.config.sections import BehaviourConfig
from features.state.counters import FIRST_RATE


def session_features(config: BehaviourConfig) -> Iterator[Feature]:
    """The session's impressions, exposures, clicks, click rate and duration before this impression."""
    strength = config.features.prior_strength
    exposures = read("user", "exposures_all") - read("session", "exposures")
    clicks = read("user", "clicks_all") - read("session", "clicks")
    yield Feature(
        "session_lists", "session", "earlier impressions in this session", read("session", "lists"), METARANK
    )
    yield Feature(
        "session_exposures",
        "session",
        "items shown to the user since this session began",
        exposures,
        METARANK,
    )
    yield Feature("session_clicks", "session", "the user's clicks since this session began", clicks, METARANK)
    yield Feature("session_ctr", "session", "the user's smoothed click rate since this session began",
                  (clicks + strength * FIRST_RATE) / (exposures + strength))  # fmt: skip
    yield Feature(
        "session_minutes",
        "session",
        "minutes since this session began",
        hours(read("session", "began_at")) * 60.0,
    )
