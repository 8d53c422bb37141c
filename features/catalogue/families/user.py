"""What the user did so far, whatever the item."""

from collections.abc import Iterator

from features.catalogue.families.feature import Feature
from features.catalogue.families.reading import (
    BAYES,
    COEC,
    DWELL,
    TREND,
    click_rate,
    counted,
    hours,
    mean,
    over_expected,
    rate,
    span,
    suffix,
    trend,
)
from features.catalogue.term import read
from features.config.project import Project
from features.state.counters import kinds_counted


def user_features(project: Project) -> Iterator[Feature]:
    """Counts and rates of the user, when they were last here, and how wide their tastes are."""
    for half_life in project.features.half_lives:
        yield from _counts(half_life, project)
    yield Feature(
        "user_trend", "user", "the user's click rate of late over that of old", trend("user", project), TREND
    )
    yield Feature(
        "user_hours_since", "user", "hours since the user's last event", hours(read("user", "last_at"))
    )
    yield Feature(
        "user_hours_since_click",
        "user",
        "hours since the user last took anything",
        hours(read("user", "clicked_at")),
    )
    for name in project.items.categorical:
        clicks = read("taste", "clicks_all", name)
        # Σ p·ln(1/p) over the shares p = n/N of the values: ln N − Σ n·ln n / N.
        entropy = (clicks.log() - read("taste", "spread_all", name) / clicks).where_positive(clicks)
        yield Feature(f"user_{name}_entropy", "user", f"how evenly the user's takes fall on values of {name}, in nats",
                      entropy, "Shannon 1948")  # fmt: skip


def _counts(half_life: str, project: Project) -> Iterator[Feature]:
    tail, when = suffix(half_life), span(half_life)
    shown, taken = (counted("user", quantity, half_life) for quantity in ("exposures", "clicks"))
    yield Feature(f"user_exposures{tail}", "user", f"items shown to the user, {when}", shown)
    yield Feature(f"user_clicks{tail}", "user", f"items the user took, {when}", taken)
    smoothed = click_rate("user", half_life, project)
    yield Feature(f"user_ctr{tail}", "user", f"the user's smoothed click rate, {when}", smoothed, BAYES)
    debiased = over_expected("user", half_life, project)
    yield Feature(
        f"user_coec{tail}", "user", f"the user's clicks over those expected, {when}", debiased, COEC
    )
    kinds = kinds_counted(project)
    for kind, quantity in list(kinds.items())[1:]:
        share = rate("user", quantity, "exposures", half_life, project)
        yield Feature(f"user_{kind}_rate{tail}", "user", f"the user's smoothed rate of {kind} per exposure, {when}",
                      share, BAYES)  # fmt: skip
    for kind in project.features.valued:
        usual = mean("user", f"{kinds[kind]}_value", kinds[kind], half_life, project)
        yield Feature(
            f"user_{kind}_mean{tail}",
            "user",
            f"smoothed mean value of the user's {kind}, none as 0, {when}",
            usual,
            DWELL,
        )
