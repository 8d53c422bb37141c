"""Counts, rates and ages, as expressions over the columns that `features/behaviour.py` lays out."""

import polars as pl

from features.counter import column
from features.facts import FIRST_RATE
from features.project import Project

BAYES = "Bayesian smoothing towards the parent's rate (Wang et al. 2011)"
COEC = "clicks over expected clicks (Zhang & Jones 2007)"
TREND = "short over long half-life (MACD, Appel 1979)"
METARANK = "Metarank"
DWELL = "dwell time as satisfaction (Yi et al. 2014)"


def counted(grain: str, quantity: str, half_life: str) -> pl.Expr:
    """A counter of a grain, `user_attribute:category` for a grain told apart by attribute."""
    return pl.col(f"{grain}:{column(quantity, half_life)}")


def click_rate(grain: str, half_life: str, project: Project, prior: pl.Expr | None = None) -> pl.Expr:
    """Smoothed clicks per exposure; the prior is everybody's rate, unless given."""
    return rate(grain, "clicks", "exposures", half_life, project, prior)


def rate(
    grain: str, part: str, whole: str, half_life: str, project: Project, prior: pl.Expr | None = None
) -> pl.Expr:
    """(part + strength · prior) / (whole + strength); the prior is the same rate of everybody, unless given."""
    strength = project.features.prior_strength
    if prior is None:
        first = FIRST_RATE if part == "clicks" else 0.0
        prior = _smoothed("everything", part, whole, half_life, strength, pl.lit(first))
    return _smoothed(grain, part, whole, half_life, strength, prior)


def mean(grain: str, total: str, count: str, half_life: str, project: Project) -> pl.Expr:
    """(total + strength · prior) / (count + strength): the prior is everybody's mean, worth half a click or so."""
    strength = project.features.prior_strength * FIRST_RATE
    prior = _smoothed("everything", total, count, half_life, strength, pl.lit(0.0))
    return _smoothed(grain, total, count, half_life, strength, prior)


def over_expected(grain: str, half_life: str, project: Project) -> pl.Expr:
    """Clicks over those expected at the positions shown; 1 where nothing is known."""
    strength = project.features.prior_strength * FIRST_RATE
    return _smoothed(grain, "clicks", "expected", half_life, strength, pl.lit(1.0))


def less(value: pl.Expr, other: pl.Expr) -> pl.Expr:
    """value − other, and 0 where they differ by rounding only: a z-score would make something of it."""
    difference = value - other
    return pl.when(difference.abs() <= 1e-6 * value.abs()).then(0.0).otherwise(difference)


def trend(grain: str, project: Project) -> pl.Expr:
    """Click rate at the shortest half-life over that at the longest."""
    shortest, longest = project.features.half_lives[0], project.features.half_lives[-1]
    return click_rate(grain, shortest, project) / click_rate(grain, longest, project)


def hours(instant: str) -> pl.Expr:
    """Hours from an instant to the list."""
    return (pl.col("as_of") - pl.col(instant)).dt.total_microseconds() / 3.6e9


def suffix(half_life: str) -> str:
    """`_1d`, or `_all` for what never fades."""
    return column("", half_life)


def span(half_life: str) -> str:
    """The half-life in words."""
    return "ever" if half_life == "none" else f"half-life {half_life}"


def _smoothed(grain: str, part: str, whole: str, half_life: str, strength: float, prior: pl.Expr) -> pl.Expr:
    return (counted(grain, part, half_life) + strength * prior) / (
        counted(grain, whole, half_life) + strength
    )
