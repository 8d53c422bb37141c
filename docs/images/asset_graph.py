"""Draws `asset_graph.png` from the definitions: `python docs/images/asset_graph.py`.

An arrow that a longer path implies is left out, and so is an asset's arrow from itself, one slice before.
"""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

from pipelines.definitions import define
from pipelines.deployment import Deployment
from pipelines.settings import settings

FILE = Path(__file__).with_suffix(".png")
GROUPS = {
    "events": (0, 4.6, "#e8eef7"),
    "interest": (1, 7, "#f7ecdf"),
    "moments": (1, 3.4, "#e6f3ea"),
    "ranker": (2, 6, "#efe8f6"),
    "lists": (3, 5, "#f7e6ea"),
}
"""Group → its column, the height of its top, its colour."""
ORDER = (
    "items", "impressions", "interactions", "candidates", "rejects",
    "interest_scores", "interest_model", "item_vectors", "features", "moment_state", "topic_shifts",
    "ranking_dataset", "ranker", "evaluation", "promotion", "exposure", "experiment", "ranked_lists",
    "report",
)  # fmt: skip
STEP, WIDTH, HEIGHT = 3.5, 2.3, 0.6


def graph() -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """Group → its assets, and asset → those that it depends on."""
    found = settings.load()
    specs = define(Deployment(found.open_project(), found)).resolve_all_asset_specs()
    depends = {s.key.path[-1]: {dep.asset_key.path[-1] for dep in s.deps} for s in specs}
    groups: dict[str, list[str]] = {}
    for spec in sorted(specs, key=lambda spec: ORDER.index(spec.key.path[-1])):
        groups.setdefault(str(spec.group_name).rpartition("_")[2], []).append(spec.key.path[-1])
    return groups, {name: needed - {name} for name, needed in depends.items()}


def above(name: str, depends: dict[str, set[str]]) -> set[str]:
    """Everything that an asset depends on, through others too."""
    return depends[name].union(*(above(one, depends) for one in depends[name]))


def draw() -> None:
    """Write the picture."""
    groups, depends = graph()
    figure = Figure(figsize=(13, 8), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    places = {}
    for group, names in groups.items():
        column, top, colour = GROUPS[group]
        x, bottom = column * STEP, top - len(names) + 0.35
        box = FancyBboxPatch(
            (x - 0.2, bottom), WIDTH + 0.4, len(names) + 0.25, boxstyle="round,pad=0.05", fc=colour, ec="none"
        )
        axes.add_patch(box)
        axes.text(x - 0.1, top + 0.32, group, fontsize=13, color="#555555", weight="bold")
        for row, name in enumerate(names):
            y = top - row - 0.2
            places[name] = (column, x, y)
            rectangle = FancyBboxPatch(
                (x, y - HEIGHT / 2),
                WIDTH,
                HEIGHT,
                boxstyle="round,pad=0.02",
                fc="white",
                ec="#777777",
                zorder=3,
            )
            axes.add_patch(rectangle)
            axes.text(
                x + WIDTH / 2, y, name, ha="center", va="center", fontsize=15, family="monospace", zorder=4
            )
    for name, needed in depends.items():
        for one in needed - set().union(*(above(other, depends) for other in needed)):
            axes.add_patch(_arrow(places[one], places[name]))
    axes.set_xlim(-0.5, 3 * STEP + WIDTH + 0.5)
    axes.set_ylim(-0.2, 7.75)
    axes.set_axis_off()
    figure.savefig(FILE)


def _arrow(start: tuple[int, float, float], end: tuple[int, float, float]) -> FancyArrowPatch:
    """Between columns from side to side; in a column from edge to edge, or round what lies between."""
    (column, x, y), (other, to_x, to_y) = start, end
    style: dict[str, Any] = {
        "arrowstyle": "-|>",
        "mutation_scale": 16,
        "color": "#44546a",
        "lw": 1.5,
        "zorder": 2,
    }
    if column != other:
        # Straight on past the columns between, then over to the other height.
        gap, bend = to_x - STEP + WIDTH, to_x - (STEP - WIDTH) / 2
        codes = [Curve.MOVETO, Curve.LINETO, *[Curve.CURVE4] * 3]
        points = [(x + WIDTH, y), (gap, y), (bend, y), (bend, to_y), (to_x, to_y)]
        return FancyArrowPatch(path=Curve(points, codes), **style)
    if abs(y - to_y) < 1.2:
        down = HEIGHT / 2 if to_y < y else -HEIGHT / 2
        return FancyArrowPatch(
            (x + WIDTH / 2, y - down), (x + WIDTH / 2, to_y + down), shrinkA=0, shrinkB=0, **style
        )
    out = x + WIDTH + 0.25 * abs(y - to_y)
    aside = 0.15 if to_y > y else -0.15
    y, to_y = y + aside, to_y - aside
    return FancyArrowPatch(path=_curve((x + WIDTH, y), (out, y), (out, to_y), (x + WIDTH, to_y)), **style)


def _curve(*points: tuple[float, float]) -> Curve:
    return Curve(points, [Curve.MOVETO, *[Curve.CURVE4] * 3])


if __name__ == "__main__":
    draw()
