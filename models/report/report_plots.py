"""Plots of segments, calibration, exposure, topics and inputs as PNG bytes; an empty table gives a placeholder."""

from typing import Any

import polars as pl

from models.report.plots import (
    INK,
    PALETTE,
    SCORERS,
    SOFT,
    axes_of,
    mark_slices,
    metric_label,
    name_ends,
    placeholder,
    png,
    scorer,
)

_ROW_HEIGHT = 0.3
"""Inches."""
_COLOURS = (SCORERS["full"].colour, SCORERS["behaviour_only"].colour, SCORERS["text_only"].colour)
_SHARES = (
    ("share_of_candidates", "of candidates", "#66717f", "|"),
    ("share_of_positions", "of top positions", SCORERS["full"].colour, "o"),
    ("share_of_clicks", "of clicks", SCORERS["behaviour_only"].colour, "D"),
)
_MIN_SHARE = 0.01
"""Volume, as a share of that of the most frequent value, below which a value is not drawn."""


def segments_figure(segments: pl.DataFrame, metric: str = "ndcg@10", width: float = 7.6) -> bytes:
    """The full ranker and the one without text, one row per segment, in table order from the top.

    `segment, scorer, mean, low, high`.
    """
    rows = segments.filter(pl.col("mean").is_not_null()) if segments.height else segments
    if not rows.height:
        return placeholder(width)
    names = rows["segment"].unique(maintain_order=True).to_list()
    figure, axes = axes_of(width, 1.0 + _ROW_HEIGHT * len(names), grid="x")
    for name, offset in (("behaviour_only", -0.14), ("full", 0.14)):
        style, dots = scorer(name), rows.filter(pl.col("scorer") == name)
        y = [len(names) - 1 - names.index(segment) + offset for segment in dots["segment"]]
        axes.hlines(y, dots["low"], dots["high"], color=style.colour, linewidth=2, alpha=0.45)
        marker = "o" if name == "full" else "D"
        axes.plot(dots["mean"], y, marker, color=style.colour, markersize=5.5, label=style.label)
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
        return placeholder(width)
    figure, axes = axes_of(width, min(width, 4.6), grid="both")
    error = (pl.col("observed") * (1 - pl.col("observed")) / pl.col("count")).sqrt() * 1.96
    rows = rows.with_columns(error=error, top=pl.max_horizontal("predicted", pl.col("observed") + error))
    limit = 1.08 * float(rows.select(pl.col("top").max()).item())
    axes.plot([0, limit], [0, limit], "--", color=SOFT, linewidth=1, label="perfectly calibrated")
    for index, name in enumerate(rows["predictor"].unique().sort()):
        dots = rows.filter(pl.col("predictor") == name).sort("predicted")
        axes.errorbar(
            dots["predicted"],
            dots["observed"],
            yerr=dots["error"],
            fmt="oDs"[index % 3] + "-",
            color=_COLOURS[index % len(_COLOURS)],
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
    """Shares of candidates, top positions and clicks, one row per value in table order from the top.

    `attribute, value, share_of_candidates, share_of_positions, share_of_clicks`.
    """
    if not exposure.height:
        return placeholder(width)
    rows = exposure.reverse()
    figure, axes = axes_of(width, 1.0 + _ROW_HEIGHT * rows.height, grid="x")
    y = range(rows.height)
    low = rows.select(pl.min_horizontal(share for share, *_ in _SHARES)).to_series()
    high = rows.select(pl.max_horizontal(share for share, *_ in _SHARES)).to_series()
    axes.hlines(y, 100 * low, 100 * high, color=SOFT, linewidth=1, alpha=0.5)
    for share, label, colour, marker in _SHARES:
        size = 11 if marker == "|" else 5.5
        axes.plot(100 * rows[share], y, marker, color=colour, markersize=size, markeredgewidth=2, label=label)
    names = [f"{value if value is not None else '(none)'}" for value in rows["value"]]
    axes.set_yticks(list(y), [name if len(name) <= 24 else f"{name[:23]}…" for name in names])
    axes.set_ylim(-0.7, rows.height - 0.3)
    axes.set_xlabel("share, %", color=SOFT)
    _legend(figure, axes)
    return png(figure)


def volume_figure(volume: pl.DataFrame, width: float = 7.6) -> bytes:
    """Impressions and click rate by slice: `slice, impressions, click_rate`."""
    if not volume.height:
        return placeholder(width)
    rows = volume.sort("slice")
    figure, (upper, lower) = axes_of(width, 3.4, panels=2)
    x = range(rows.height)
    upper.bar(x, rows["impressions"], width=0.62, color=_COLOURS[0], alpha=0.75)
    upper.set_ylabel("impressions", color=SOFT)
    lower.plot(x, 100 * rows["click_rate"], "o-", color=_COLOURS[1], markersize=4, linewidth=1.6)
    lower.set_ylabel("click rate, %", color=SOFT)
    highest = rows["click_rate"].max()
    lower.set_ylim(0, 120 * highest if isinstance(highest, float) and highest else 1)
    for axes in (upper, lower):
        mark_slices(axes, rows["slice"].to_list(), width)
        axes.set_xlim(-0.6, rows.height - 0.4)
    return png(figure)


def topics_figure(topics: pl.DataFrame, width: float = 7.6) -> bytes:
    """Predicted rate (click rate before the first prediction) and volume by slice, of the most frequent values.

    `topics`: `slice, value, figure, shown, trials, mean, shifted` of one attribute. Shaded: 95 % of binomial noise;
    rings mark figures outside their bands.
    """
    if not topics.height:
        return placeholder(width)
    slices = topics["slice"].unique().sort().to_list()
    frequent = topics.filter(figure="share").group_by("value").agg(pl.col("shown").sum())
    frequent = frequent.filter(pl.col("shown") >= _MIN_SHARE * pl.col("shown").max())
    values = frequent.sort("shown", "value", descending=[True, False])["value"].head(len(PALETTE)).to_list()
    figure, (upper, lower) = axes_of(width, 5.0, panels=2)
    rate = "predicted_rate" if "predicted_rate" in topics["figure"] else "click_rate"
    for axes, name, column, label in (
        (upper, rate, "mean", rate.replace("_", " ")),
        (lower, "share", "shown", "volume"),
    ):
        ends = []
        for value, colour in zip(values, PALETTE, strict=False):
            line = topics.filter(figure=name, value=value).sort("slice")
            if not line.height:
                continue
            x = line["slice"].replace_strict(slices, range(len(slices))).to_numpy()
            axes.plot(x, line[column], "o-", color=colour, markersize=2.6, linewidth=1.4)
            if column == "mean":
                noise = 1.96 * (line["mean"] * (1 - line["mean"]) / line["trials"]).sqrt()
                low, high = (line["mean"] + n * noise for n in (-1, 1))
                axes.fill_between(
                    x, low.clip(0.0), high.clip(None, 1.0), color=colour, alpha=0.12, linewidth=0
                )
            rings = line.filter("shifted")
            axes.plot(
                x[line["shifted"].to_numpy()],
                rings[column],
                "o",
                color=colour,
                markersize=9,
                fillstyle="none",
            )
            ends.append((line[column][-1], value if len(value) <= 18 else f"{value[:17]}…", colour))
        mark_slices(axes, slices, width)
        axes.set_xlim(-0.3, len(slices) - 0.7)
        axes.set_ylabel(label, color=SOFT)
        name_ends(axes, ends, len(slices) - 1)
    return png(figure)


def _legend(figure: Any, axes: Any) -> None:
    """Put the legend above the plot."""
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
