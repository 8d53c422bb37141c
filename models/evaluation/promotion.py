"""The promotion rule: whether a challenger replaces the champion, with reasons and figures.

With a champion, both are evaluated on the same impressions. The challenger is promoted if

1. at least 30 impressions are evaluated,
2. its mean exceeds the champion's by at least `min_gain` (0: it is not lower),
3. it is not worse by more than the margin, with the declared confidence: the lower end of the paired interval of
   (challenger − champion) is above `min_gain − margin`,
4. in each guarded segment with at least 30 evaluated impressions, its mean is not below the champion's by more than
   the segment's margin, so that a small group does not pay for the mean, and
5. its click probabilities are calibrated: their expected calibration error on these impressions is at most
   `calibration`.

Of two equally good models the newer one serves, because it knows the latest slices. A wide interval keeps the
champion.

If every impression has one candidate, the metric is pooled AUC, whatever `metric` says, and the challenger's log loss
must not exceed the champion's by more than the margin.

Without a champion, the challenger must have a higher mean than the best baseline, on at least 30 impressions, and
calibrated probabilities.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import polars as pl

from features.config import sections
from models.evaluation.evaluate import ALL, difference, mean_of
from models.evaluation.intervals import Interval
from models.evaluation.metrics import LOG_LOSS, POINTWISE, POOLED_AUC, MetricSet

MIN_IMPRESSIONS = 30
"""Evaluated impressions that a decision needs."""


class Guard(NamedTuple):
    """The comparison in a guarded segment."""

    segment: str
    impressions: int
    """Impressions evaluated in it; with fewer than MIN_IMPRESSIONS the guard is reported but does not block."""
    difference: float
    """Mean of (challenger − champion); NaN if nothing was evaluated."""
    margin: float

    @property
    def counts(self) -> bool:
        """Whether the guard may block a promotion."""
        return self.impressions >= MIN_IMPRESSIONS

    @property
    def holds(self) -> bool:
        """Whether the guard lets a promotion pass."""
        return not self.counts or self.difference >= -self.margin


@dataclass(frozen=True)
class Decision:
    """Whether to promote the challenger, and why."""

    promote: bool
    reasons: tuple[str, ...]
    """One sentence with figures per condition."""
    metric: str
    against: str
    """The scorer that the challenger is compared with."""
    impressions: int
    difference: Interval
    """Mean and interval of (challenger − `against`); NaN if nothing was evaluated."""
    guards: tuple[Guard, ...]
    """Empty without a champion."""
    calibration_error: float
    calibration_limit: float

    def figures(self) -> dict[str, Any]:
        """The decision as columns: `difference, low, high, guard_slack, calibration_error, calibration_slack, reasons`.

        `guard_slack`: the minimum of (difference + margin) over the guards that count, negative if one blocks, null if
        none counts. `calibration_slack`: limit − error.
        """
        slack = [guard.difference + guard.margin for guard in self.guards if guard.counts]
        return {
            "difference": self.difference.mean,
            "low": self.difference.low,
            "high": self.difference.high,
            "guard_slack": min(slack, default=None),
            "calibration_error": self.calibration_error,
            "calibration_slack": self.calibration_limit - self.calibration_error,
            "reasons": " ".join(self.reasons),
        }


def decide(
    values: pl.DataFrame,
    config: sections.Promotion,
    seed: int,
    *,
    calibration_error: float,
    challenger: str = "challenger",
    champion: str | None = "champion",
) -> Decision:
    """Decide from per-impression `values` (as in EvaluationResult) whether to promote the challenger.

    `challenger` and `champion` are names in `values["scorer"]`, the others are baselines; `champion=None` if there is
    none yet. `calibration_error` is that of the challenger's click probabilities (`evaluate.calibration_error`).
    Raises ModelError if the scorers were evaluated on different impressions.
    """
    pointwise = MetricSet.among(values.columns) == POINTWISE
    metric = POINTWISE.headline if pointwise else config.metric
    against = champion or _best(values, challenger, metric)
    evaluated = values.filter("evaluated", pl.col("scorer") == challenger)
    compare = partial(
        difference,
        values,
        challenger,
        against,
        metric,
        seed=seed,
        resamples=config.resamples,
        confidence=config.confidence,
    )
    gain = compare()
    impressions_in = dict(evaluated["segment"].value_counts().iter_rows())
    guards = tuple(
        Guard(segment, impressions_in.get(segment, 0), compare(segment=segment).mean, margin)
        for segment, margin in (config.guard if champion else {}).items()
    )
    impressions = impressions_in.get(ALL, 0)
    conditions = [_enough(impressions)]
    if impressions:
        conditions += _not_worse(gain, config, metric) if champion else [_beats(gain, metric, against)]
        if champion and pointwise:
            conditions.append(_loss_not_worse(values, challenger, champion, config.margin))
        conditions += [_guarded(guard, metric) for guard in guards]
        conditions.append(_calibrated(calibration_error, config.calibration))
    reasons = tuple(sentence for _, sentence in conditions)
    return Decision(
        all(holds for holds, _ in conditions),
        reasons,
        metric,
        against,
        impressions,
        gain,
        guards,
        calibration_error,
        config.calibration,
    )


def _enough(evaluated: int) -> tuple[bool, str]:
    if evaluated < MIN_IMPRESSIONS:
        return (
            False,
            f"Only {evaluated} impressions could be evaluated; {MIN_IMPRESSIONS} are needed to decide.",
        )
    return True, f"{evaluated} impressions were evaluated."


def _not_worse(gain: Interval, config: sections.Promotion, metric: str) -> list[tuple[bool, str]]:
    floor = config.min_gain - config.margin
    enough, safe = gain.mean >= config.min_gain, gain.low > floor
    meaning = (
        "worse by more than the margin is ruled out" if safe else "it may be worse by more than the margin"
    )
    return [
        (
            enough,
            f"The challenger's {_label(metric)} differs from the champion's by {gain.mean:+.4f}, "
            f"{'at least' if enough else 'below'} the required {config.min_gain:+.4f}.",
        ),
        (
            safe,
            f"With {config.confidence:.0%} confidence the difference lies in "
            f"[{gain.low:+.4f}, {gain.high:+.4f}], whose lower end is {'above' if safe else 'not above'} "
            f"{floor:+.4f}: {meaning}.",
        ),
    ]


def _loss_not_worse(values: pl.DataFrame, challenger: str, champion: str, margin: float) -> tuple[bool, str]:
    new, old = (mean_of(values, scorer, LOG_LOSS) or 0.0 for scorer in (challenger, champion))
    holds = new - old <= margin
    return holds, (
        f"Its log loss is {new:.4f}, the champion's {old:.4f}: {'at most' if holds else 'more than'} "
        f"{margin:.4f} above."
    )


def _guarded(guard: Guard, metric: str) -> tuple[bool, str]:
    name = guard.segment.replace("_", " ")
    if not guard.counts:
        return True, (
            f"Only {guard.impressions} impressions could be evaluated in {name!r}; {MIN_IMPRESSIONS} are needed, "
            "so this guard does not apply."
        )
    return guard.holds, (
        f"In {name!r} ({guard.impressions} impressions) the challenger's {_label(metric)} differs from the "
        f"champion's by {guard.difference:+.4f}, {'within' if guard.holds else 'beyond'} the "
        f"{-guard.margin:+.4f} allowed."
    )


def _calibrated(error: float, limit: float) -> tuple[bool, str]:
    holds = error <= limit
    return holds, (
        f"Its click probabilities are off by {error:.4f} on average, {'at most' if holds else 'more than'} the "
        f"{limit:.4f} allowed."
    )


def _beats(gain: Interval, metric: str, against: str) -> tuple[bool, str]:
    better = gain.mean > 0
    return better, (
        f"There is no champion yet: the challenger's {_label(metric)} differs from the best baseline's "
        f"({against}) by {gain.mean:+.4f}, {'which is better' if better else 'which is not better'}."
    )


def _best(values: pl.DataFrame, challenger: str, metric: str) -> str:
    """The baseline with the highest mean, the first of equals. Not `as_shown`: position bias inflates its metrics."""

    def mean(scorer: str) -> float:
        value = mean_of(values, scorer, metric)
        return -math.inf if value is None else value

    scorers: list[str] = values["scorer"].unique(maintain_order=True).to_list()
    return max((name for name in scorers if name not in (challenger, "as_shown")), key=mean)


def _label(metric: str) -> str:
    return "pooled AUC" if metric == POOLED_AUC else f"mean {metric}"
