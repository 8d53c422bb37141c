"""Compare off-policy estimates with a challenger's true click rate on newsrooms, whose click probabilities are known.

`python tests/benchmarks/off_policy.py [FIRST_SEED] [SEEDS]`. Each seed is a newsroom of nine days that explores. A
logistic regression on smoothed click rates of the first two days is the challenger; the log is the seven days after.
Prints each estimator's errors against the truth on this traffic, and how often its 95 % interval covers it.
"""

import sys
from datetime import UTC, datetime

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from features.config.sections import NewsroomWorld
from features.sources.simulation.readers import DAY
from features.sources.simulation.world import World, simulate
from models.evaluation.off_policy import ESTIMATORS, estimate
from models.ranking import order

START = datetime(2026, 1, 5, tzinfo=UTC)
SIZE = NewsroomWorld(days=9, users=500, impressions_a_day=2500, list_size=10, exploration=0.8)
FITTED_DAYS = 2
K = 10
RATES = (["user_id", "category"], ["category", "storyline"], ["style"])


def main(first: int, seeds: int) -> None:
    """Print the table."""
    rows = [row for seed in range(first, first + seeds) for row in _world(seed)]
    errors = pl.DataFrame(rows, ["seed", "estimator", "error", "covered", "width"], orient="row")
    print(
        errors.group_by("estimator", maintain_order=True).agg(
            seeds=pl.len(),
            bias=pl.col("error").mean(),
            median=pl.col("error").abs().median(),
            p95=pl.col("error").abs().quantile(0.95),
            within_5=(pl.col("error").abs() <= 0.05).mean(),
            covered=pl.col("covered").mean(),
            width=pl.col("width").mean(),
        )
    )


def _world(seed: int) -> list[tuple[int, str, float, bool, float]]:
    """Each estimator's relative error, whether its interval covers the truth, and the interval's relative width."""
    log = _log(simulate(SIZE, START, seed))
    past, later = log.filter(pl.col("day") < FITTED_DAYS), log.filter(pl.col("day") >= FITTED_DAYS)
    model = LogisticRegression().fit(_features(past, past), past["clicked"])
    score = pl.Series("score", model.decision_function(_features(later, past)))
    later = later.with_columns(score, click_probability=1 / (1 + (-score).exp()))
    ranked = order(later).filter(pl.col("rank") <= K)
    examination = later.group_by("position").agg(pl.col("examination").first())
    truth = ranked.drop("examination").join(examination, left_on="rank", right_on="position")
    true_rate = truth.select((pl.col("examination") * pl.col("attractiveness")).mean()).item()
    logged = later.select((pl.col("examination") * pl.col("attractiveness")).mean()).item()
    expected = dict.fromkeys(ESTIMATORS, true_rate) | {"logged": logged, "gain": true_rate - logged}
    found = estimate(later, K, seed=seed)
    if seed == 1:
        print(f"true click rate {true_rate:.4f}, of the log {logged:.4f}; {found}")
    return [
        (
            seed,
            name,
            (rate - expected[name]) / true_rate,
            low <= expected[name] <= high,
            (high - low) / true_rate,
        )
        for name, rate, low, high in found.table.iter_rows()
    ]


def _log(world: World) -> pl.DataFrame:
    lists, articles, visits = world.lists, world.articles, world.lists.visits
    clicked = np.zeros(lists.article.size, bool)
    clicked[[action.candidate for action in world.actions]] = True
    shown = visits.shown[lists.impression]
    return pl.DataFrame(
        {
            "impression_id": lists.impression.astype(str),
            "user_id": visits.user[lists.impression],
            "item_id": lists.article.astype(str),
            "day": (shown - visits.shown[0]) // DAY,
            "position": lists.position.astype(np.int32),
            "propensity": lists.propensity,
            "examination": lists.examination,
            "attractiveness": lists.attractiveness,
            "clicked": clicked,
            **{name: getattr(articles, name)[lists.article] for name in ("category", "storyline", "style")},
            "age": (shown - articles.published[lists.article]) / DAY,
        }
    )


def _features(rows: pl.DataFrame, past: pl.DataFrame) -> np.ndarray:
    """Log odds of the smoothed click rates of RATES in `past`, and recency."""
    mean = past["clicked"].mean()
    columns = []
    for keys in RATES:
        rates = past.group_by(keys).agg(rate=(pl.col("clicked").sum() + 5 * mean) / (pl.len() + 5))
        rate = rows.join(rates, on=keys, how="left", maintain_order="left")["rate"].fill_null(mean)
        columns.append((rate / (1 - rate)).log())
    return np.column_stack([*columns, (-rows["age"]).exp()])


if __name__ == "__main__":
    main(*(int(text) for text in (sys.argv[1:] or ("1", "100"))))
