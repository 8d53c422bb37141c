"""The report's plots of trust, fairness and inputs, as PNG bytes: each from one small table, at any width in inches.

An empty table draws a frame that says so.
"""

from typing import Any

import polars as pl

from models.report.plots import INK, SCORERS, SOFT, axes_of, mark_slices, metric_label, nothing, png, scorer

_ROW = 0.3
"""Inches of a row in a plot of rows."""
_COLOURS = (SCORERS["full"].colour, SCORERS["behaviour_only"].colour, SCORERS["text_only"].colour)
_SHARES = (
    ("share_of_candidates", "of what could be shown", "#66717f", "|"),
    ("share_of_positions", "of the first places", SCORERS["full"].colour, "o"),
    ("share_of_clicks", "of what was taken", SCORERS["behaviour_only"].colour, "D"),
)


def segments_figure(segments: pl.DataFrame, metric: str = "ndcg@10", width: float = 7.6) -> bytes:
    """The full ranker and the one without text, a row a segment, in the order given from above.

    `segment, scorer, mean, low, high`.
    """
    rows = segments.filter(pl.col("mean").is_not_null()) if segments.height else segments
    if not rows.height:
        return nothing(width)
    names = rows["segment"].unique(maintain_order=True).to_list()
    figure, axes = axes_of(width, 1.0 + _ROW * len(names), grid="x")
    for name, offset in (("behaviour_only", -0.14), ("full", 0.14)):
        shown, dots = scorer(name), rows.filter(pl.col("scorer") == name)
        places = [len(names) - 1 - names.index(segment) + offset for segment in dots["segment"]]
        axes.hlines(places, dots["low"], dots["high"], color=shown.colour, linewidth=2, alpha=0.45)
        marker = "o" if name == "full" else "D"
        axes.plot(dots["mean"], places, marker, color=shown.colour, markersize=5.5, label=shown.label)
    axes.set_yticks(range(len(names)), [segment_label(name) for name in reversed(names)])
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlabel(f"{metric_label(metric)}, mean and interval", color=SOFT)
    _legend(figure, axes)
    return png(figure)


def segment_label(name: str) -> str:
    """`new_users` → `New users`, `category: politics` → `Category: politics`."""
    return name[:1].upper() + name[1:].replace("_", " ")


def calibration_figure(calibration: pl.DataFrame, width: float = 7.6) -> bytes:
    """Predicted against observed click rates, with binomial 95 % bars: `predictor, predicted, observed, count`."""
    rows = calibration.drop_nulls() if calibration.height else calibration
    if not rows.height:
        return nothing(width)
    figure, axes = axes_of(width, min(width, 4.6), grid="both")
    spread = (pl.col("observed") * (1 - pl.col("observed")) / pl.col("count")).sqrt() * 1.96
    rows = rows.with_columns(error=spread, top=pl.max_horizontal("predicted", pl.col("observed") + spread))
    limit = 1.08 * float(rows.select(pl.col("top").max()).item())
    axes.plot([0, limit], [0, limit], "--", color=SOFT, linewidth=1, label="as predicted")
    for place, name in enumerate(rows["predictor"].unique().sort()):
        dots = rows.filter(pl.col("predictor") == name).sort("predicted")
        axes.errorbar(
            dots["predicted"],
            dots["observed"],
            yerr=dots["error"],
            fmt="oDs"[place % 3] + "-",
            color=_COLOURS[place % len(_COLOURS)],
            markersize=5,
            linewidth=1,
            elinewidth=1.4,
            label=name,
        )
    axes.set_xlim(0, limit)
    axes.set_ylim(0, limit)
    axes.set_xlabel("predicted click rate", color=SOFT)
    axes.set_ylabel("observed click rate", color=SOFT)
    _legend(figure, axes)
    return png(figure)


def exposure_figure(exposure: pl.DataFrame, width: float = 7.6) -> bytes:
    """Shares of candidates, first places and clicks, a row a value in the order given from above.

    `attribute, value, share_of_candidates, share_of_positions, share_of_clicks`.
    """
    if not exposure.height:
        return nothing(width)
    rows = exposure.reverse()
    figure, axes = axes_of(width, 1.0 + _ROW * rows.height, grid="x")
    places = range(rows.height)
    low = rows.select(pl.min_horizontal(share for share, *_ in _SHARES)).to_series()
    high = rows.select(pl.max_horizontal(share for share, *_ in _SHARES)).to_series()
    axes.hlines(places, 100 * low, 100 * high, color=SOFT, linewidth=1, alpha=0.5)
    for share, label, colour, marker in _SHARES:
        size = 11 if marker == "|" else 5.5
        axes.plot(
            100 * rows[share], places, marker, color=colour, markersize=size, markeredgewidth=2, label=label
        )
    names = [f"{value if value is not None else '(none)'}" for value in rows["value"]]
    axes.set_yticks(list(places), [name if len(name) <= 24 else f"{name[:23]}…" for name in names])
    axes.set_ylim(-0.7, rows.height - 0.3)
    axes.set_xlabel("share, %", color=SOFT)
    _legend(figure, axes)
    return png(figure)


def volume_figure(volume: pl.DataFrame, width: float = 7.6) -> bytes:
    """Lists shown and the click rate, slice by slice: `slice, impressions, click_rate`."""
    if not volume.height:
        return nothing(width)
    rows = volume.sort("slice")
    figure, (upper, lower) = axes_of(width, 3.4, panels=2)
    places = range(rows.height)
    upper.bar(places, rows["impressions"], width=0.62, color=_COLOURS[0], alpha=0.75)
    upper.set_ylabel("lists shown", color=SOFT)
    lower.plot(places, 100 * rows["click_rate"], "o-", color=_COLOURS[1], markersize=4, linewidth=1.6)
    lower.set_ylabel("click rate, %", color=SOFT)
    greatest = rows["click_rate"].max()
    lower.set_ylim(0, 120 * greatest if isinstance(greatest, float) and greatest else 1)
    for axes in (upper, lower):
        mark_slices(axes, rows["slice"].to_list(), width)
        axes.set_xlim(-0.6, rows.height - 0.4)
    return png(figure)


def _legend(figure: Any, axes: Any) -> None:
    """Above the plot, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    wide = figure.get_size_inches()[0] > 5
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=len(labels) if wide else 1,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
