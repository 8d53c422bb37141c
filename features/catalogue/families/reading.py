"""Counts, rates and ages as terms over the counters."""

from features.catalogue.term import Term, read
from features.config.sections import BehaviourConfig
from features.state.counters import FIRST_RATE, column

BAYES = "Bayesian smoothing towards the parent's rate (Wang et al. 2011)"
COEC = "clicks over expected clicks (Zhang & Jones 2007)"
TREND = "short over long half-life (MACD, Appel 1979)"
METARANK = "Metarank"
DWELL = "dwell time as satisfaction (Yi et al. 2014)"


def counted(grain: str, quantity: str, half_life: str, part: str = "") -> Term:
    """A counter of a grain; `part` names the attribute or context field where the grain has several."""
    return read(grain, column(quantity, half_life), part)


def click_rate(
    grain: str, half_life: str, config: BehaviourConfig, prior: Term | float | None = None, part: str = ""
) -> Term:
    """Smoothed clicks per exposure; the prior defaults to the global rate."""
    return rate(grain, "clicks", "exposures", half_life, config, prior, part)


def rate(
    grain: str,
    numerator: str,
    denominator: str,
    half_life: str,
    config: BehaviourConfig,
    prior: Term | float | None = None,
    part: str = "",
) -> Term:
    """(numerator + strength · prior) / (denominator + strength); the prior defaults to the global rate."""
    strength = config.features.prior_strength
    if prior is None:
        first = FIRST_RATE if numerator == "clicks" else 0.0
        prior = _smoothed("everything", numerator, denominator, half_life, strength, first)
    return _smoothed(grain, numerator, denominator, half_life, strength, prior, part)


def mean(grain: str, total: str, count: str, half_life: str, config: BehaviourConfig) -> Term:
    """(total + strength · prior) / (count + strength). The prior is the global mean.

    Its strength is `prior_strength` exposures' worth of clicks at `FIRST_RATE`.
    """
    strength = config.features.prior_strength * FIRST_RATE
    prior = _smoothed("everything", total, count, half_life, strength, 0.0)
    return _smoothed(grain, total, count, half_life, strength, prior)


def over_expected(grain: str, half_life: str, config: BehaviourConfig, part: str = "") -> Term:
    """Smoothed clicks over clicks expected at the displayed positions; the prior is 1."""
    strength = config.features.prior_strength * FIRST_RATE
    return _smoothed(grain, "clicks", "expected", half_life, strength, 1.0, part)


def trend(grain: str, config: BehaviourConfig, part: str = "") -> Term:
    """Click rate at the shortest half-life over click rate at the longest."""
    shortest, longest = config.features.half_lives[0], config.features.half_lives[-1]
    return click_rate(grain, shortest, config, part=part) / click_rate(grain, longest, config, part=part)


def hours(instant: Term) -> Term:
    """Hours from an instant to the impression."""
    return (read("list", "as_of") - instant) / 3.6e9


def suffix(half_life: str) -> str:
    """Column suffix of a half-life: `_1d`, or `_all` for no decay."""
    return column("", half_life)


def span(half_life: str) -> str:
    """The half-life in words, for a feature's meaning."""
    return "all time" if half_life == "none" else f"half-life {half_life}"


def _smoothed(
    grain: str,
    numerator: str,
    denominator: str,
    half_life: str,
    strength: float,
    prior: Term | float,
    part: str = "",
) -> Term:
    total = counted(grain, numerator, half_life, part) + prior * strength
    return total / (counted(grain, denominator, half_life, part) + strength)
