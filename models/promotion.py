"""When a challenger takes the champion's place: a pure rule, whose reasons are sentences with figures.

With a champion, both are judged on the same impressions and the challenger takes over if

1. at least 30 impressions could be judged,
2. its mean exceeds the champion's by at least `min_gain` (0: it is not below it), and
3. it is, with the declared confidence, not worse by more than the margin: the lower end of the paired
   interval of (challenger − champion) lies above `min_gain − margin`.

So of two models that are as good as each other the newer one serves, because it knows the newer days; one
that is worse stays out; and a wide interval, which shows nothing, keeps the champion.

Without a champion the baselines are what there is to lose: the first challenger must have a higher mean than
the best of them, on at least 30 impressions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from features import sections
from models.evaluation import ALL, Interval, difference

MIN_IMPRESSIONS = 30
"""Fewer judged impressions than this decide nothing."""
BASELINES = ("random", "popularity", "recency")
"""What a first challenger must beat. Not `as_shown`: where position draws clicks, it flatters itself."""


@dataclass(frozen=True)
class Decision:
    """Whether the challenger takes over, and why."""

    promote: bool
    reasons: tuple[str, ...]
    """Sentences with figures, one a condition."""
    metric: str
    against: str
    """Scorer that the challenger was compared with."""
    impressions: int
    difference: Interval
    """Mean and interval of (challenger − other); NaN where nothing was judged."""


def decide(
    values: pl.DataFrame,
    config: sections.Promotion,
    seed: int,
    *,
    challenger: str = "challenger",
    champion: str | None = "champion",
    baselines: Sequence[str] = BASELINES,
) -> Decision:
    """Decide from per-impression `values` (as in `evaluation.Judgement`) whether the challenger is promoted.

    `challenger`, `champion` and `baselines` are names in `values["scorer"]`; `champion=None` where there is
    none yet. Raises ModelError if the scorers were not judged on the same impressions.
    """
    against = champion or _best(values, baselines, config.metric)
    both = values.filter(pl.col("segment") == ALL, pl.col(config.metric).is_not_null())
    judged = both.filter(pl.col("scorer") == challenger).height
    gain = difference(
        values,
        challenger,
        against,
        config.metric,
        seed=seed,
        resamples=config.resamples,
        confidence=config.confidence,
    )
    conditions = [_enough(judged)]
    if judged:
        conditions += _not_worse(gain, config) if champion else [_beats(gain, config.metric, against)]
    reasons = tuple(sentence for _, sentence in conditions)
    return Decision(all(holds for holds, _ in conditions), reasons, config.metric, against, judged, gain)


def _enough(judged: int) -> tuple[bool, str]:
    if judged < MIN_IMPRESSIONS:
        return False, f"Only {judged} impressions could be judged; {MIN_IMPRESSIONS} are needed to decide."
    return True, f"{judged} impressions were judged."


def _not_worse(gain: Interval, config: sections.Promotion) -> list[tuple[bool, str]]:
    floor = config.min_gain - config.margin
    enough, safe = gain.mean >= config.min_gain, gain.low > floor
    meaning = (
        "worse by more than the margin is ruled out" if safe else "it may be worse by more than the margin"
    )
    return [
        (
            enough,
            f"The challenger's mean {config.metric} differs from the champion's by {gain.mean:+.4f}, "
            f"{'at least' if enough else 'below'} the {config.min_gain:+.4f} asked for.",
        ),
        (
            safe,
            f"With {config.confidence:.0%} confidence the difference lies in "
            f"[{gain.low:+.4f}, {gain.high:+.4f}], whose lower end is {'above' if safe else 'not above'} "
            f"{floor:+.4f}: {meaning}.",
        ),
    ]


def _beats(gain: Interval, metric: str, against: str) -> tuple[bool, str]:
    better = gain.mean > 0
    return better, (
        f"There is no champion yet: the challenger's mean {metric} differs from the best baseline's "
        f"({against}) by {gain.mean:+.4f}, {'which is better' if better else 'which is not better'}."
    )


def _best(values: pl.DataFrame, baselines: Sequence[str], metric: str) -> str:
    """The baseline with the highest mean; the first declared among equals."""
    rows = values.filter(pl.col("segment") == ALL)
    means = {
        scorer: rows.filter(pl.col("scorer") == scorer)[metric].drop_nulls().mean() for scorer in baselines
    }
    return max(baselines, key=lambda scorer: _number(means[scorer]))


def _number(mean: object) -> float:
    return float(mean) if isinstance(mean, float) else -math.inf
