"""What the user did since the session that the list belongs to began."""

from collections.abc import Iterator

from features.catalogue.families.feature import Feature
from features.catalogue.families.reading import METARANK, hours
from features.catalogue.term import read
from features.config.project import Project
from features.state.counters import FIRST_RATE


def session_features(project: Project) -> Iterator[Feature]:
    """Length of the session so far, and the list's place in it."""
    strength = project.features.prior_strength
    seen = read("user", "exposures_all") - read("session", "exposures")
    taken = read("user", "clicks_all") - read("session", "clicks")
    yield Feature(
        "session_lists", "session", "lists shown in this session before", read("session", "lists"), METARANK
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
        "session_minutes",
        "session",
        "minutes since the session began",
        hours(read("session", "began_at")) * 60.0,
    )
