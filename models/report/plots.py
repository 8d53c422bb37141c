"""Plots as PNG bytes, each from one small table, at any width in inches.

An empty table gives a placeholder. Colours are close to Okabe and Ito's palette for colour-blind readers; scorers also
differ in their dashes, and lines are labelled at their ends.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

INK, SOFT, GRID = "#1d2733", "#5b6673", "#e4e8ed"


@dataclass(frozen=True)
class Scorer:
    """A scorer's label, line style and explanation."""

    label: str
    colour: str
    dashes: str
    meaning: str


SCORERS = {
    "full": Scorer("Full ranker", "#0062a3", "-", "Behaviour and text together: the order that users get."),
    "behaviour_only": Scorer(
        "Without text", "#b84e08", "-", "The same ranker without the columns from texts."
    ),
    "text_only": Scorer("Text alone", "#007a62", "-", "Only the interest score, which the texts give."),
    "popularity": Scorer(
        "Popularity", "#3d4854", "--", "The most clicked items so far, the same for everybody."
    ),
    "recency": Scorer("Recency", "#7a55a3", "--", "The newest items first, the same for everybody."),
    "as_shown": Scorer("As shown", "#66717f", ":", "The order in which the application showed the list."),
    "random": Scorer("Random", "#767676", ":", "A shuffled list: the lower bound."),
}
"""In display order."""

METRICS = {
    "ndcg@10": (
        "nDCG@10",
        "How close the first ten positions come to the best possible order; 1 is perfect.",
    ),
    "ndcg@5": ("nDCG@5", "The same for the first five positions."),
    "recall@10": ("Recall@10", "Share of the clicked items that are in the first ten positions; 1 is all."),
    "mrr": ("MRR", "One over the rank of the first clicked item: 1 if it is first, 0.5 if second."),
    "auc": ("AUC", "How often a clicked item ranks above one that was not, within a list; 0.5 is chance."),
    "pooled_auc": (
        "Pooled AUC",
        "How often a clicked item ranks above one that was not, across all lists; 0.5 is chance.",
    ),
    "log_loss": ("Log loss", "Mean negative log-likelihood of the click probabilities; lower is better."),
}

PALETTE = ("#0062a3", "#b84e08", "#00846a", "#8c6bb1", "#b08900", "#7d8894")
_WITH_BAND = ("full", "behaviour_only", "text_only", "popularity")


def scorer(name: str) -> Scorer:
    """How to show a scorer; an unknown one is labelled by its name."""
    return SCORERS.get(name) or Scorer(name.replace("_", " ").capitalize(), SOFT, "-.", "")


def in_order(names: Sequence[str]) -> list[str]:
    """Scorers in display order: known ones first, then the others by name."""
    return [name for name in SCORERS if name in names] + sorted(set(names) - set(SCORERS))


def metric_label(metric: str) -> str:
    """`ndcg@10` → `nDCG@10`."""
    return METRICS.get(metric, (metric, ""))[0]


def measured(rows: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The rows of a metric that have a mean; an empty table may lack the columns."""
    return rows.filter(pl.col("metric") == metric, pl.col("mean").is_not_null()) if rows.height else rows


def quality_figure(quality: pl.DataFrame, metric: str = "ndcg@10", width: float = 7.6) -> bytes:
    """One line per scorer over slices, with interval bands: `slice, scorer, metric, mean, low, high`."""
    rows = measured(quality, metric)
    if not rows.height:
        return placeholder(width)
    figure, axes = axes_of(width, 3.6)
    slices = rows["slice"].unique().sort().to_list()
    ends: list[tuple[float, str, str]] = []
    for name in in_order(rows["scorer"].unique().to_list()):
        style = scorer(name)
        line = rows.filter(pl.col("scorer") == name).sort("slice")
        x = [slices.index(slice) for slice in line["slice"]]
        bold = name == "full"
        axes.plot(
            x,
            line["mean"],
            style.dashes,
            color=style.colour,
            linewidth=2.4 if bold else 1.4,
            marker="o",
            markersize=4.5 if bold else 2.6,
            zorder=4 if bold else 3,
        )
        if name in _WITH_BAND:
            axes.fill_between(x, line["low"], line["high"], color=style.colour, alpha=0.13, linewidth=0)
        ends.append((line["mean"][-1], style.label, style.colour))
    mark_slices(axes, slices, width)
    axes.set_xlim(-0.3, len(slices) - 0.7)
    axes.set_ylabel(metric_label(metric), color=SOFT)
    name_ends(axes, ends, len(slices) - 1)
    return png(figure)


def intervals_figure(overall: pl.DataFrame, metric: str = "ndcg@10", width: float = 7.6) -> bytes:
    """A dot and its interval for each scorer, best first: `scorer, metric, mean, low, high`."""
    rows = measured(overall, metric)
    if not rows.height:
        return placeholder(width)
    rows = rows.sort("mean", "scorer")
    figure, axes = axes_of(width, 0.75 + 0.36 * rows.height, grid="x")
    for y, row in enumerate(rows.iter_rows(named=True)):
        colour = scorer(row["scorer"]).colour
        axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2, alpha=0.55)
        axes.plot(row["mean"], y, "o", color=colour, markersize=8)
        axes.annotate(
            f"{row['mean']:.3f}",
            (row["high"], y),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=INK,
        )
    axes.set_yticks(range(rows.height), [scorer(name).label for name in rows["scorer"]])
    axes.set_ylim(-0.6, rows.height - 0.4)
    axes.margins(x=0.13)
    axes.set_xlabel(f"{metric_label(metric)}, mean and interval", color=SOFT)
    return png(figure)


def importance_figure(importance: pl.DataFrame, top: int = 20, width: float = 7.6) -> bytes:
    """The features with the largest share of the total gain: `feature, gain, family`."""
    total = importance["gain"].sum() if importance.height else 0
    if not total:
        return placeholder(width)
    rows = importance.sort("gain", "feature", descending=[True, False]).head(top).reverse()
    families = rows["family"].unique().sort().to_list()
    colours = {family: PALETTE[index % len(PALETTE)] for index, family in enumerate(families)}
    figure, axes = axes_of(width, 1.0 + 0.24 * rows.height, grid="x")
    shares = [100 * gain / total for gain in rows["gain"]]
    axes.barh(range(rows.height), shares, height=0.66, color=[colours[family] for family in rows["family"]])
    axes.set_yticks(range(rows.height), rows["feature"], fontsize=8)
    axes.set_ylim(-0.6, rows.height - 0.4)
    axes.set_xlabel("share of gain, %", color=SOFT)
    from matplotlib.patches import Patch

    patches = [Patch(color=colours[family], label=family) for family in families]
    axes.legend(handles=patches, loc="lower right", frameon=False, fontsize=8, labelcolor=INK)
    return png(figure)


def axes_of(
    width: float, height: float, grid: Literal["both", "x", "y"] = "y", panels: int = 1
) -> tuple[Any, Any]:
    """A figure (size in inches) and its axes; for several panels a list of axes, top to bottom."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panes = [figure.add_subplot(panels, 1, panel + 1) for panel in range(panels)]
    for axes in panes:
        axes.grid(True, axis=grid, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelcolor=INK, labelsize=9)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(GRID)
    return figure, panes[0] if panels == 1 else panes


def mark_slices(axes: Any, slices: Sequence[str], width: float) -> None:
    """Label the x axis with as many slices as fit, always with the last."""
    step = -(-len(slices) // max(2, int(width * 1.1)))
    labelled = range((len(slices) - 1) % step, len(slices), step)
    axes.set_xticks(list(labelled), [_short(slices[index]) for index in labelled])


def name_ends(axes: Any, ends: Sequence[tuple[float, str, str]], last: int) -> None:
    """Label lines at their right ends (y, label, colour), without overlaps."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.062
    y = float("-inf")
    for value, label, colour in sorted(ends):
        y = max(value, y + gap)
        axes.annotate(
            label,
            (last, y),
            (7, 0),
            textcoords="offset points",
            annotation_clip=False,
            va="center",
            color=colour,
            fontsize=8.5,
        )


def _short(slice: str) -> str:
    """A slice's key without its year."""
    return slice[5:] if slice[:4].isdigit() and slice[4:5] == "-" else slice


def placeholder(width: float) -> bytes:
    """A placeholder for an empty table."""
    figure, axes = axes_of(width, 1.2)
    axes.set_axis_off()
    axes.text(0.5, 0.5, "No data yet", ha="center", va="center", color=SOFT, transform=axes.transAxes)
    return png(figure)


def png(figure: Any) -> bytes:
    """The figure as PNG bytes; a `$` in the data starts no formula."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    target = io.BytesIO()
    # Without the software tag the same table gives the same bytes.
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()
