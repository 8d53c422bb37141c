"""Attribute values whose click rate, predicted rate or share of the candidates left its band.

A slice's figure is compared with the trailing slices on the scale arcsin √x, where the variance of a rate does not
depend on the rate. On that scale the variance of a figure over n candidates is φ / 4n. φ is 1 for independent
candidates; it is estimated from the trailing slices, for each value with a prior from all values of its attribute
(moderated as in Smyth 2004), so that what always varies raises no alarm. The test is Student's t.

Every value of every attribute is tested on three figures in every slice. The level of a test is `false_alarms` divided
by the number of tests (Bonferroni): a slice in which nothing changed raises an alarm with at most that probability.
"""

from math import pi

import numpy as np
import polars as pl

from features.config.sections import Checks
from features.ranking_dataset import INTEREST, KEYS
from features.schemas import TopicShifts
from pipelines.lake import Lake

_MIN_PHI = {"click_rate": 1.0, "predicted_rate": 0.1, "share": 1.0}
"""Figure → lower bound of φ. Predictions vary less than clicks."""
_KEYS = ["attribute", "value", "figure"]
_Y = pl.col("mean").sqrt().arcsin()
_PRIOR_DF = 4.0
"""Degrees of freedom that φ of an attribute counts for in φ of one of its values."""
_TYPICAL = 3


def read_predictions(lake: Lake, slice: str) -> pl.DataFrame:
    """The slice's candidates with `interest_score` and `clicked`, null if unlabelled.

    Raises TableError if a table lacks the slice.
    """
    scores = lake.read("interest_scores", [slice], [*KEYS, INTEREST])
    return scores.join(lake.read("candidates", [slice], [*KEYS, "clicked"]), on=KEYS, how="left")


def read_history(lake: Lake, slice: str, trailing: int) -> pl.DataFrame:
    """The results of the up to `trailing` slices before a slice, with `slice`."""
    previous = [key for key in lake.slices("topic_shifts") if key < slice][-trailing:]
    empty = TopicShifts.create_empty().with_columns(slice=pl.lit(""))
    return lake.read("topic_shifts", previous) if previous else empty


def attribute_figures(candidates: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Figures by attribute value of the candidates' items: `attribute, value, figure, shown, trials, mean`, sorted.

    `candidates`: as from `read_predictions`; scores are null before the first version; `items`: one row per item,
    `item_id, attributes`. `shown`: candidates with the value; `trials`: candidates that `mean` is over.
    """
    score = pl.col("interest_score")
    totals = (
        candidates.group_by("item_id")
        .agg(
            shown=pl.len(),
            clicked=pl.col("clicked").sum(),
            labelled=pl.col("clicked").count(),
            scored=score.count(),
            predicted=score.cast(pl.Float64).sum(),
        )
        .join(attribute_values(items), on="item_id")
        .group_by("attribute", "value")
        .agg(pl.all().exclude("item_id").sum().cast(pl.Float64))
    )
    parts = [
        totals.select(
            "attribute", "value", pl.lit(name).alias("figure"), "shown", trials=trials, mean=part / trials
        )
        for name, part, trials in (
            ("click_rate", pl.col("clicked"), pl.col("labelled")),
            ("predicted_rate", pl.col("predicted"), pl.col("scored")),
            ("share", pl.col("shown"), pl.lit(float(candidates.height))),
        )
    ]
    rows = pl.concat(parts).filter(pl.col("trials") > 0)
    return rows.with_columns(pl.col("shown", "trials").cast(pl.Int64)).sort(_KEYS)


def attribute_values(items: pl.DataFrame) -> pl.DataFrame:
    """`item_id, attribute, value`: one row per attribute value of an item."""
    values = items.select("item_id", "attributes").explode("attributes").drop_nulls().unnest("attributes")
    return values.rename({"name": "attribute"}).unique()


def find_shifts(figures: pl.DataFrame, history: pl.DataFrame, checks: Checks, slice: str) -> pl.DataFrame:
    """`figures` of a slice with `expected, low, high, shifted, since`.

    `history`: the results of the trailing slices, with `slice`. `expected` is the mean over all but the newest of them;
    `low` and `high` bound what chance explains. All are null for a value with fewer than `min_exposures` candidates,
    or with that many in fewer than `min_history` of those slices.
    `since`: the first slice of an unbroken run of shifts in one direction.
    """
    from scipy.stats import t

    tested = pl.col("shown") >= checks.min_exposures
    # Without the newest of them: a shift that was missed once must not widen the band of the next slice.
    past = _past(history.filter(tested, pl.col("slice") < pl.col("slice").max()), checks.min_history)
    rows = figures.join(past, on=_KEYS, how="left", maintain_order="left").with_columns(
        centre=pl.when(tested).then("centre")
    )
    level = checks.false_alarms / max(1, rows["centre"].count())
    critical = pl.Series(t.isf(level / 2, rows["df"].fill_null(1.0).to_numpy()))
    margin = critical * (pl.col("phi") / 4 * (1 / pl.col("trials") + 1 / pl.col("before"))).sqrt()
    rows = rows.with_columns(
        expected=pl.col("centre").sin() ** 2,
        low=(pl.col("centre") - margin).clip(0.0).sin() ** 2,
        high=(pl.col("centre") + margin).clip(None, pi / 2).sin() ** 2,
    )
    up = pl.col("mean") > pl.col("expected")
    latest = (
        history.drop_nulls("expected")
        .sort("slice")
        .unique(_KEYS, keep="last")
        .select(*_KEYS, before_since="since", before_up=up)
    )
    return (
        rows.with_columns(shifted=(~pl.col("mean").is_between("low", "high")).fill_null(False))
        .join(latest, on=_KEYS, how="left", maintain_order="left")
        .with_columns(
            since=pl.when("shifted").then(
                pl.coalesce(pl.when(pl.col("before_up") == up).then("before_since"), pl.lit(slice))
            )
        )
        .select(*figures.columns, "expected", "low", "high", "shifted", "since")
    )


def _past(history: pl.DataFrame, min_history: int) -> pl.DataFrame:
    """The trailing slices of each value and figure: `centre` (mean of arcsin √mean), `before` (trials), `phi`, `df`."""
    y, trials, unshifted = _Y, pl.col("trials"), ~pl.col("shifted")

    def total(values: pl.Expr) -> pl.Expr:
        return values.filter(unshifted).sum()

    # Squares around the mean of the slices without a shift: a shift must not widen its own band.
    squares = 4 * (total(trials * y**2) - total(trials * y) ** 2 / total(trials))
    past = (
        history.group_by(_KEYS)
        .agg(
            centre=(trials * y).sum() / trials.sum(),
            before=trials.sum(),
            squares=squares.fill_nan(0.0).clip(0.0),
            df=(unshifted.sum().cast(pl.Float64) - 1).clip(0.0),
            slices=pl.len(),
        )
        .filter(pl.col("slices") >= min_history)
    )
    common_squares, common_df = (pl.col(name).sum().over("attribute", "figure") for name in ("squares", "df"))
    df, floor = _PRIOR_DF + pl.col("df"), pl.col("figure").replace_strict(_MIN_PHI, return_dtype=pl.Float64)
    phi = (_PRIOR_DF * common_squares / common_df + pl.col("squares")) / df
    columns = {"phi": pl.max_horizontal(phi, floor), "df": pl.min_horizontal(df, common_df)}
    return past.select(*_KEYS, "centre", "before", **columns).filter(pl.col("df") > 0)


def with_typical(
    shifts: pl.DataFrame, candidates: pl.DataFrame, items: pl.DataFrame, vectors: pl.DataFrame
) -> pl.DataFrame:
    """Add `typical` to the result of `find_shifts`: ids of up to three items that are typical of each shift.

    They are those nearest to the mean text vector of the candidates with the value, each weighted by its click or score
    (for a fall, by the complement). `candidates` and `items` as in `attribute_figures`; `vectors`: `item_id, known_at,
    vector`.
    """
    vectors = vectors.sort("known_at").unique("item_id", keep="last").select("item_id", "vector")
    rows = candidates.join(attribute_values(items), on="item_id").join(vectors, on="item_id")
    weights = {
        "click_rate": pl.col("clicked").cast(pl.Float64),
        "predicted_rate": pl.col("interest_score"),
        "share": pl.lit(1.0),
    }
    typical: list[list[str]] = []
    for shift in shifts.iter_rows(named=True):
        if not shift["shifted"]:
            typical.append([])
            continue
        weight, rises = weights[shift["figure"]], shift["mean"] > shift["expected"]
        part = (
            rows.filter(attribute=shift["attribute"], value=shift["value"])
            .group_by("item_id", maintain_order=True)
            .agg(
                pl.col("vector").first(),
                weight=(weight if rises or shift["figure"] == "share" else 1 - weight).sum(),
            )
        )
        if part.is_empty():
            typical.append([])
            continue
        matrix, item_weights = np.stack(part["vector"].to_list()), part["weight"].to_numpy()
        nearness = item_weights * (matrix @ (item_weights @ matrix))
        typical.append(part["item_id"].gather(np.argsort(-nearness, kind="stable")[:_TYPICAL]).to_list())
    return shifts.with_columns(typical=pl.Series(typical, dtype=pl.List(pl.String)))
