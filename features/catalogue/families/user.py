"""The user's earlier activity on any item, over time and in the current session."""

from collections.abc import Iterator

from features.catalogue.families.reading import (
    BAYES,
    COEC,
    DWELL,
    METARANK,
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
from features.catalogue.term import Feature, read
from features.config.sections import BehaviourConfig
from features.state.counters import FIRST_RATE, kinds_counted


def user_features(config: BehaviourConfig) -> Iterator[Feature]:
    """The user's counts, rates, recency and diversity of interests."""
    for half_life in config.features.half_lives:
        yield from _counts(half_life, config)
    yield Feature(
        "user_trend",
        "user",
        "the user's recent click rate over their long-term click rate",
        trend("user", config),
        TREND,
    )
    yield Feature(
        "user_hours_since", "user", "hours since the user's last event", hours(read("user", "last_at"))
    )
    yield Feature(
        "user_hours_since_click",
        "user",
        "hours since the user's last click",
        hours(read("user", "clicked_at")),
    )
    for name in config.items.categorical:
        clicks = read("taste", "clicks_all", name)
        # Σ p·ln(1/p) over the shares p = n/N of the values: ln N − Σ n·ln n / N.
        entropy = (clicks.log() - read("taste", "spread_all", name) / clicks).where_positive(clicks)
        yield Feature(f"user_{name}_entropy", "user", f"entropy of the user's clicks over {name} values, in nats",
                      entropy, "Shannon 1948")  # fmt: skip


def _counts(half_life: str, config: BehaviourConfig) -> Iterator[Feature]:
    tail, when = suffix(half_life), span(half_life)
    exposures, clicks = (counted("user", quantity, half_life) for quantity in ("exposures", "clicks"))
    yield Feature(f"user_exposures{tail}", "user", f"items shown to the user, {when}", exposures)
    yield Feature(f"user_clicks{tail}", "user", f"the user's clicks, {when}", clicks)
    ctr = click_rate("user", half_life, config)
    yield Feature(f"user_ctr{tail}", "user", f"the user's smoothed click rate, {when}", ctr, BAYES)
    coec = over_expected("user", half_life, config)
    yield Feature(
        f"user_coec{tail}",
        "user",
        f"the user's clicks over clicks expected at the displayed positions, {when}",
        coec,
        COEC,
    )
    kinds = kinds_counted(config)
    for kind, quantity in list(kinds.items())[1:]:
        kind_rate = rate("user", quantity, "exposures", half_life, config)
        yield Feature(f"user_{kind}_rate{tail}", "user",
                      f"the user's smoothed {kind} interactions per exposure, {when}",
                      kind_rate, BAYES)  # fmt: skip
    for kind in config.features.valued:
        mean_value = mean("user", f"{kinds[kind]}_value", kinds[kind], half_life, config)
        yield Feature(
            f"user_{kind}_mean{tail}",
            "user",
            f"smoothed mean value of the user's {kind} interactions, missing as 0, {when}",
            mean_value,
            DWELL,
        )


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
