"""Delay and false alarms of the monitor of attribute values, on drawn series.

`python tests/benchmarks/topic_shifts.py [SEEDS]`. Ten topics; 20 % of the posts are negative until slice 16, from then
on 40 % in one topic. Scores follow the labels. From slice to slice the mood of each topic varies on the logit scale
with the given standard deviation, and the number of its posts by 30 %. Prints a Markdown table.
"""

import sys

import numpy as np
import polars as pl

from features.config.sections import Checks
from features.schemas import TopicShifts
from pipelines.monitoring.attribute_shifts import find_shifts

TOPICS, SLICES, TURN = 10, 18, 16
CHECKS = Checks(min_exposures=20)


def figures(draw: np.random.Generator, posts: int, variation: float, turned: bool) -> pl.DataFrame:
    rate = np.full(TOPICS, 0.2)
    rate[0] = 0.4 if turned else 0.2
    logit = np.log(rate / (1 - rate)) + draw.normal(0, variation, TOPICS)
    shown = np.maximum(1, draw.poisson(posts * np.exp(draw.normal(0, 0.3, TOPICS))))
    negative = draw.binomial(shown, 1 / (1 + np.exp(-logit)))
    rows = []
    for topic, (count, bad) in enumerate(zip(shown.tolist(), negative.tolist(), strict=True)):
        scores = np.concatenate([draw.beta(4, 2.2, bad), draw.beta(1.2, 5.5, count - bad)])
        means = {"click_rate": bad / count, "predicted_rate": scores.mean(), "share": count / shown.sum()}
        for figure, mean in means.items():
            trials = int(shown.sum()) if figure == "share" else count
            rows.append(("topic", str(topic), figure, count, trials, float(mean)))
    return pl.DataFrame(rows, TopicShifts.create_empty().schema.names()[:6], orient="row")


def series(seed: int, posts: int, variation: float) -> tuple[int, int, int | None]:
    """False alarms and topic-slices before the turn, and the slices until it was found in the predictions."""
    draw = np.random.default_rng(seed)
    history = TopicShifts.create_empty().with_columns(slice=pl.lit(""))
    false, tested = 0, 0
    for number in range(SLICES):
        slice = f"{number:02}"
        now = figures(draw, posts, variation, number >= TURN)
        shifts = find_shifts(
            now, history.filter(pl.col("slice") >= f"{number - CHECKS.trailing:02}"), CHECKS, slice
        )
        if number < TURN:
            rows = shifts.filter(figure="predicted_rate").drop_nulls("expected")
            false, tested = false + int(rows["shifted"].sum()), tested + rows.height
        elif shifts.filter(pl.col("shifted"), value="0", figure="predicted_rate").height:
            return false, tested, number - TURN + 1
        history = pl.concat([history, shifts.with_columns(slice=pl.lit(slice))], how="diagonal")
    return false, tested, None


def main(seeds: int) -> None:
    print(
        "| posts | variation | found in 1 slice | in 2 | false alarms per topic-slice |\n|---|---|---|---|---|"
    )
    for posts in (50, 100, 200, 400):
        for variation in (0.0, 0.15):
            runs = [series(seed, posts, variation) for seed in range(seeds)]
            false, tested = (sum(run[part] for run in runs) for part in (0, 1))
            one, two = (np.mean([run[2] is not None and run[2] <= delay for run in runs]) for delay in (1, 2))
            print(f"| {posts} | {variation} | {one:.0%} | {two:.0%} | {false / tested:.4f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
