"""The plots a person looks at, as PNG bytes: each from one small table, at any width in inches.

An empty table draws a frame that says so. Colours are Okabe and Ito's, which colour-blind people tell apart;
scorers also differ in their dashes and carry their names at the line.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

INK, SOFT, GRID = "#1d2733", "#5b6673", "#e4e8ed"


@dataclass(frozen=True)
class Scorer:
    """How a scorer is called, drawn and explained."""

    label: str
    colour: str
    dashes: str
    meaning: str


SCORERS = {
    "full": Scorer("Full ranker", "#0062a3", "-", "Behaviour and text together: what a user would be shown."),
    "behaviour_only": Scorer(
        "Without text", "#b84e08", "-", "The same ranker without anything read from texts."
    ),
    "text_only": Scorer("Text alone", "#007a62", "-", "Only the interest score: taste read from texts."),
    "popularity": Scorer(
        "Popularity", "#3d4854", "--", "What was taken most often until then, for everybody."
    ),
    "recency": Scorer("Recency", "#7a55a3", "--", "The newest first, for everybody."),
    "as_shown": Scorer("As shown", "#66717f", ":", "The order in which the app showed the list."),
    "random": Scorer("Random", "#767676", ":", "A shuffled list: the floor."),
}
"""In the order they are told."""

METRICS = {
    "ndcg@10": ("nDCG@10", "How near the first ten places come to the best possible order; 1 is perfect."),
    "ndcg@5": ("nDCG@5", "The same for the first five places."),
    "recall@10": ("Recall@10", "How much of what was taken stands in the first ten places; 1 is all."),
    "mrr": ("MRR", "One over the place of the first item taken: 1 if it stood first, 0.5 if second."),
    "auc": ("AUC", "How often an item taken stands above one passed over, list by list; 0.5 is chance."),
    "pooled_auc": (
        "Pooled AUC",
        "How often a clicked candidate stands above one that was not, across all impressions; 0.5 is chance.",
    ),
    "log_loss": ("Log loss", "How surprised its click probabilities are by what happened; lower is better."),
}

_FAMILIES = ("#0062a3", "#b84e08", "#00846a", "#8c6bb1", "#b08900", "#7d8894")
_BANDED = ("full", "behaviour_only", "text_only", "popularity")


def scorer(name: str) -> Scorer:
    """How a scorer is shown; one that nobody described keeps its name."""
    return SCORERS.get(name) or Scorer(name.replace("_", " ").capitalize(), SOFT, "-.", "")


def in_order(names: Sequence[str]) -> list[str]:
    """Scorers as they are told: the described ones first, then the others by name."""
    return [name for name in SCORERS if name in names] + sorted(set(names) - set(SCORERS))


def metric_label(metric: str) -> str:
    """`ndcg@10` → `nDCG@10`."""
    return METRICS.get(metric, (metric, ""))[0]


def quality_figure(quality: pl.DataFrame, metric: str = "ndcg@10", width: float = 7.6) -> bytes:
    """One line a scorer over slices, with interval bands: `slice, scorer, metric, mean, low, high`."""
    rows = (
        quality.filter(pl.col("metric") == metric, pl.col("mean").is_not_null())
        if quality.height
        else quality
    )
    if not rows.height:
        return nothing(width)
    figure, axes = axes_of(width, 3.6)
    slices = rows["slice"].unique().sort().to_list()
    ends: list[tuple[float, Scorer]] = []
    for name in in_order(rows["scorer"].unique().to_list()):
        shown = scorer(name)
        line = rows.filter(pl.col("scorer") == name).sort("slice")
        places = [slices.index(slice) for slice in line["slice"]]
        strong = name == "full"
        axes.plot(
            places,
            line["mean"],
            shown.dashes,
            color=shown.colour,
            linewidth=2.4 if strong else 1.4,
            marker="o",
            markersize=4.5 if strong else 2.6,
            zorder=4 if strong else 3,
        )
        if name in _BANDED:
            axes.fill_between(places, line["low"], line["high"], color=shown.colour, alpha=0.13, linewidth=0)
        ends.append((line["mean"][-1], shown))
    mark_slices(axes, slices, width)
    axes.set_xlim(-0.3, len(slices) - 0.7)
    axes.set_ylabel(metric_label(metric), color=SOFT)
    _name_ends(axes, ends, len(slices) - 1)
    return png(figure)


def intervals_figure(overall: pl.DataFrame, metric: str = "ndcg@10", width: float = 7.6) -> bytes:
    """A dot and its interval for each scorer, best first: `scorer, metric, mean, low, high`."""
    rows = (
        overall.filter(pl.col("metric") == metric, pl.col("mean").is_not_null())
        if overall.height
        else overall
    )
    if not rows.height:
        return nothing(width)
    rows = rows.sort("mean", "scorer")
    figure, axes = axes_of(width, 0.75 + 0.36 * rows.height, grid="x")
    for place, row in enumerate(rows.iter_rows(named=True)):
        shown = scorer(row["scorer"])
        axes.plot([row["low"], row["high"]], [place, place], color=shown.colour, linewidth=2, alpha=0.55)
        axes.plot(row["mean"], place, "o", color=shown.colour, markersize=8)
        axes.annotate(
            f"{row['mean']:.3f}",
            (row["high"], place),
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
    """The features that lowered the training loss most, as shares: `feature, gain, family`."""
    total = importance["gain"].sum() if importance.height else 0
    if not total:
        return nothing(width)
    rows = importance.sort("gain", "feature", descending=[True, False]).head(top).reverse()
    families = rows["family"].unique().sort().to_list()
    colours = {family: _FAMILIES[place % len(_FAMILIES)] for place, family in enumerate(families)}
    figure, axes = axes_of(width, 1.0 + 0.24 * rows.height, grid="x")
    shares = [100 * gain / total for gain in rows["gain"]]
    axes.barh(range(rows.height), shares, height=0.66, color=[colours[family] for family in rows["family"]])
    axes.set_yticks(range(rows.height), rows["feature"], fontsize=8)
    axes.set_ylim(-0.6, rows.height - 0.4)
    axes.set_xlabel("share of what was learned, %", color=SOFT)
    from matplotlib.patches import Patch

    patches = [Patch(color=colours[family], label=family) for family in families]
    axes.legend(handles=patches, loc="lower right", frameon=False, fontsize=8, labelcolor=INK)
    return png(figure)


def axes_of(
    width: float, height: float, grid: Literal["both", "x", "y"] = "y", panels: int = 1
) -> tuple[Any, Any]:
    """A figure of so many inches and its axes; with more than one panel, a list of them, one below the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    drawn = [figure.add_subplot(panels, 1, panel + 1) for panel in range(panels)]
    for axes in drawn:
        axes.grid(True, axis=grid, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelcolor=INK, labelsize=9)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(GRID)
    return figure, drawn[0] if panels == 1 else drawn


def mark_slices(axes: Any, slices: Sequence[str], width: float) -> None:
    """Names of slices below the axis, as many as fit, the last one always."""
    step = -(-len(slices) // max(2, int(width * 1.1)))
    ticks = range((len(slices) - 1) % step, len(slices), step)
    axes.set_xticks(list(ticks), [_short(slices[tick]) for tick in ticks])


def _name_ends(axes: Any, ends: Sequence[tuple[float, Scorer]], last: int) -> None:
    """Names at the right ends of lines, pushed apart where lines end close together."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.062
    at = float("-inf")
    for value, shown in sorted(ends, key=lambda end: end[0]):
        at = max(value, at + gap)
        axes.annotate(
            shown.label,
            (last, at),
            (7, 0),
            textcoords="offset points",
            annotation_clip=False,
            va="center",
            color=shown.colour,
            fontsize=8.5,
        )


def _short(slice: str) -> str:
    """A slice's key without its year."""
    return slice[5:] if slice[:4].isdigit() and slice[4:5] == "-" else slice


def nothing(width: float) -> bytes:
    """A frame that says that there is nothing to draw."""
    figure, axes = axes_of(width, 1.2)
    axes.set_axis_off()
    axes.text(0.5, 0.5, "Nothing yet", ha="center", va="center", color=SOFT, transform=axes.transAxes)
    return png(figure)


def png(figure: Any) -> bytes:
    """The figure as PNG bytes, its texts as they are: a `$` of the data begins no formula."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    target = io.BytesIO()
    # Without the software tag the same table gives the same bytes.
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()
