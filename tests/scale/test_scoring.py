"""Interest scores of several workers equal those of one process."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.behaviour import advance
from features.buckets import bucket
from features.config.project import Project
from features.schemas import InterestScores
from features.state import start
from models.interest.item_arrays import ItemArrays
from models.interest.scoring import embed
from models.interest.version import InterestModel
from models.interest_input import interest_config, interest_input, interest_scores
from models.registry.versions import Version
from pipelines.compute.engine import Cluster, Engine
from pipelines.compute.score_buckets import Scored, Scorer, score_by_bucket
from pipelines.lake import STATE, Lake

ROUNDING = 1e-6
"""Tolerance: sums depend in the last bits on the rest of the batch."""


@pytest.fixture(scope="module")
def project(toy: SimpleNamespace) -> Project:
    small = {"tune": "frozen", "width": 8, "heads": 2, "layers": 1, "max_tokens": 12, "device": "cpu"}
    return toy.project(slices={"every": "6h"}, interest=small, scale={"scorers": 3})


@pytest.fixture(scope="module")
def version(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model with the packaged encoder."""
    model = InterestModel(interest_config(project.interest, project.behaviour, project.seed))
    items = ItemArrays.of_texts(["text 1", "text 2", "text 3"])
    items = replace(items, number=np.array([[1.0], [2.0], [5.0]], np.float32))
    model.decoder.items.standardise(embed(model, items))
    folder = tmp_path_factory.mktemp("model") / "version"
    model.save(folder)
    return folder


@pytest.fixture
def world(toy: SimpleNamespace, project: Project, version: Path, tmp_path: Path) -> SimpleNamespace:
    """A lake with the second slice and the state before it, and the slice's scores from one process."""
    events, noon = toy.busy(), toy.START + timedelta(hours=6)
    first, second = project.slices.keys(toy.START, toy.END)
    state = advance(
        start(project.slices.start, project.behaviour), toy.between(events, toy.START, noon), noon
    )
    given = toy.between(events, noon, toy.END)
    lake = Lake(f"{tmp_path}/lake")
    for name, table in state.tables().items():
        lake.write(f"{STATE}/{name}", first, table)
    for name in ("items", "impressions", "interactions"):
        lake.write(name, second, getattr(given, name))
    expected = interest_scores(interest_input(state, given), version, first, tmp_path / "cache")
    return SimpleNamespace(
        lake=lake, slice=second, model=Version("1", first), expected=expected, impressions=given.impressions
    )


def score(world: SimpleNamespace, project: Project, version: Path, folder: Path, engine: Any) -> Scored:
    scorer = Scorer(world.lake, project, world.slice, version, world.model.slice, folder / "cache")
    shared = None if not isinstance(engine, Cluster) else folder / "scratch" / "scorers"
    return score_by_bucket(scorer, engine, shared)


def published(world: SimpleNamespace) -> pl.DataFrame:
    return world.lake.read("interest_scores", [world.slice]).drop("slice")


def by_key(scores: pl.DataFrame) -> pl.DataFrame:
    return scores.sort("impression_id", "item_id")


def test_scores_by_bucket_equal_those_of_one_process(
    world: SimpleNamespace, project: Project, version: Path, tmp_path: Path
) -> None:
    scored = score(world, project, version, tmp_path, Engine())

    written = published(world)
    InterestScores.validate(written)
    keys = ["impression_id", "item_id"]
    assert by_key(written).drop("interest_score").equals(by_key(world.expected).drop("interest_score"))
    values = (by_key(scores)["interest_score"].to_numpy() for scores in (written, world.expected))
    np.testing.assert_allclose(*values, atol=ROUNDING)
    assert written["interest_score"].std() > 100 * ROUNDING
    assert scored.mean == pytest.approx(written["interest_score"].mean())
    assert scored.written.rows == written.height
    assert scored.head.columns == written.columns
    users = written.select(keys).join(world.impressions, on="impression_id", maintain_order="left")["user_id"]
    assert bucket(users, 3).is_sorted()


def test_scores_of_a_cluster_are_equal(
    machines: Any, world: SimpleNamespace, project: Project, version: Path, tmp_path: Path
) -> None:
    score(world, project, version, tmp_path, Engine())
    expected = published(world)

    score(world, project, version, tmp_path, Cluster(machines.address))

    assert published(world).equals(expected)
    assert not [*(tmp_path / "scratch" / "scorers").iterdir()]
