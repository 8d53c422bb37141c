from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features import sources
from features.config.project import Project, load
from features.errors import TableError
from features.events.labels import attribute
from features.events.validation import build
from features.sources.simulation.newsroom import write
from features.sources.simulation.world import POSITION_DECAY
from models.ranker.propensity import propensities

NEWSROOM = Path(__file__).parents[3] / "projects" / "newsroom.toml"


def _log(examined: np.ndarray, lists: int = 3000, seed: int = 0, items: int = 100) -> pl.DataFrame:
    """Impressions in random order that favours attractive items; attraction differs twentyfold."""
    random = np.random.default_rng(seed)
    attraction = random.uniform(0.02, 0.4, items)
    urge = attraction * 3 + random.gumbel(size=(lists, items))
    shown = np.argsort(-urge, axis=1)[:, : examined.size]
    clicked = random.random(shown.shape) < examined * attraction[shown]
    return pl.DataFrame(
        {
            "slice": np.repeat(np.arange(lists) * 3 // lists, examined.size).astype(str),
            "item_id": shown.ravel().astype(str),
            "position": np.tile(np.arange(1, examined.size + 1), lists).astype(np.int32),
            "label": 2.0 * clicked.ravel(),
        }
    )


@pytest.mark.parametrize("examined", [0.8 ** np.arange(8), np.array([1, 0.3, 0.9, 0.2, 0.6]), np.ones(6)])
def test_examination_is_separated_from_attraction(examined: np.ndarray) -> None:
    table = propensities(_log(examined))
    assert table["position"].to_list() == list(range(1, examined.size + 1))
    assert table["propensity"].to_numpy() == pytest.approx(examined / examined[0], rel=0.15)


def test_the_known_propensities_of_newsroom_are_recovered(tmp_path: Path) -> None:
    table = propensities(_newsroom(load(NEWSROOM), tmp_path)).filter(pl.col("position") <= 20)
    known = table["position"].to_numpy() ** -POSITION_DECAY
    # Propensities are known up to a factor: compare them at equal geometric means.
    ratio = table["propensity"].to_numpy() / known
    ratio /= np.exp(np.log(ratio).mean())
    assert table.height == 20
    assert np.abs(ratio - 1).max() < 0.15


def _newsroom(project: Project, folder: Path) -> pl.DataFrame:
    write(project.reader, folder / "newsroom")
    events = build(
        sources.read(project.reader, [folder / "newsroom" / "events"]), project.slices, datetime.now(UTC)
    )
    candidates = attribute(events.impressions, events.interactions.drop("slice"), project.labels)
    return candidates.join(events.impressions.select("impression_id", "slice"), on="impression_id")


def test_without_clicks_or_changes_of_position_all_propensities_are_equal() -> None:
    log = _log(0.8 ** np.arange(5), lists=300)
    fixed = log.with_columns(item_id=pl.format("at {}", "position"))
    for dataset in (log.with_columns(label=pl.lit(0.0)), fixed):
        assert propensities(dataset)["propensity"].to_list() == pytest.approx([1.0] * 5, abs=0.05)
    assert propensities(log.clear()).height == 0


def test_rare_positions_are_shrunk_to_the_average() -> None:
    log = _log(np.ones(4), lists=500)
    rare = log.head(1).with_columns(position=pl.lit(90, pl.Int32), label=pl.lit(0.0))
    table = propensities(pl.concat([log, rare]))
    assert table.row(-1)[0] == 90
    assert table.row(-1)[1] == pytest.approx(1, abs=0.3)


def test_missing_columns_are_named() -> None:
    with pytest.raises(TableError, match="propensities needs the columns label"):
        propensities(_log(np.ones(2), lists=3).drop("label"))
