"""Promotion through its assets on a small newsroom, with two concurrent runs."""

import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from features.behaviour import lookup_and_update
from features.config.sections import Evaluation
from features.errors import ModelError
from features.events.labels import attribute
from features.ranking_dataset import assemble, feature_columns
from features.schemas import InterestScores, ItemVectors
from features.state import SliceEvents, start
from models.prequential import scorers
from models.ranker import Ranker, fit
from pipelines.dagster_names import asset_key
from pipelines.definitions import advance_job
from pipelines.deployment import Deployment
from pipelines.lake import STATE, Lake
from pipelines.promoting import evaluated_version, experiment_figures, promote
from pipelines.slice_tables import SliceTables

SLICES = ["2026-01-05", "2026-01-06", "2026-01-07"]
EVALUATED = (
    "source.newsroom.users=40",
    "source.newsroom.impressions_a_day=220",
    "source.newsroom.list_size=10",
    "ranker.num_iterations=40",
    "ranker.early_stopping_round=10",
    "ranker.min_data_in_leaf=10",
    "lists.k=4",
    "evaluation.min_impressions=5",
)


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, small_newsroom: Callable[..., Deployment]
) -> Deployment:
    """Three days of every table that an evaluation reads, without an interest model."""
    deployment = small_newsroom(tmp_path_factory.mktemp("home"), *EVALUATED)
    log, state = deployment.ingest(), start(deployment.project.slices.start, deployment.project.behaviour)
    for slice in SLICES:
        items, impressions, interactions = (
            table.filter(slice=slice).drop("slice")
            for table in (log.items, log.impressions, log.interactions)
        )
        labels = attribute(impressions, log.interactions.drop("slice"), deployment.project.labels)
        _, end = deployment.project.slices.window(slice)
        events, vectors = SliceEvents(items, impressions, interactions), ItemVectors.create_empty()
        features, state = lookup_and_update(state, events, end, vectors)
        unknown = labels.select("impression_id", "item_id").with_columns(
            interest_score=pl.lit(None, pl.Float32), interest_slice=pl.lit(None, pl.String)
        )
        dataset = assemble(labels, features, InterestScores.validate(unknown))
        states = {f"{STATE}/{name}": table for name, table in state.tables().items()}
        read = {"items": items, "impressions": impressions, "interactions": interactions}
        tables = {**read, "item_vectors": vectors, "ranking_dataset": dataset, **states}
        for name, table in tables.items():
            deployment.lake.write(name, slice, table)
    return deployment


def _fit(deployment: Deployment, slices: list[str], *, shuffled: bool = False, family: str = "") -> Ranker:
    """A ranker fitted on `slices`, on the columns that start with `family`.

    `shuffled`: labels are shuffled within each impression.
    """
    dataset = deployment.lake.read("ranking_dataset", slices)
    if shuffled:
        wrong = pl.col("label").shuffle(seed=5).over("impression_id")
        dataset = dataset.with_columns(label=wrong).with_columns(clicked=pl.col("label") > 0)
    names = [name for name in feature_columns(dataset) if name.startswith(family)]
    project = deployment.project
    return fit(dataset, names, project.ranker, project.labels, project.seed)


def _register(deployment: Deployment, ranker: Ranker, slice: str, run: str) -> str:
    example = deployment.lake.read("ranking_dataset", [slice]).tail(3)
    ablations = {"behaviour_only": ranker}
    return deployment.registry.register_ranker(ranker, slice, run, {}, {}, {}, example, ablations=ablations)


def _evaluate(deployment: Deployment, slice: str, run: str) -> dict[str, object]:
    """Materialize the evaluation assets of a slice in a Dagster run; returns the slice's row of `promotion`."""
    job = advance_job(deployment)
    selected = [asset_key(deployment.project.name, name) for name in ("evaluation", "exposure", "promotion")]
    assert job.execute_in_process(partition_key=slice, run_id=run, asset_selection=selected).success
    return deployment.lake.read("promotion", [slice]).row(0, named=True)


def test_a_better_version_is_promoted_a_worse_one_is_not_and_a_rollback_restores(
    deployment: Deployment,
) -> None:
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    plain = _register(deployment, _fit(deployment, SLICES[:1], family="item_"), SLICES[0], one)

    first = _evaluate(deployment, SLICES[1], one)

    assert (first["promoted"], first["challenger"], first["champion_before"]) == (True, plain, None)
    assert "There is no champion yet" in str(first["reasons"])

    # Two runs at the same time: each registers for the same slice before either evaluates.
    worse = _register(deployment, _fit(deployment, SLICES[:2], shuffled=True), SLICES[1], one)
    better = _register(deployment, _fit(deployment, SLICES[:2]), SLICES[1], other)

    rejected = _evaluate(deployment, SLICES[2], one)

    assert (rejected["promoted"], rejected["challenger"], rejected["champion_before"]) == (
        False,
        worse,
        plain,
    )
    assert rejected["challenger_slice"] == SLICES[1]
    assert rejected["difference"] < -0.01  # type: ignore[operator]
    assert "below the required +0.0000" in str(rejected["reasons"])
    assert "it may be worse by more than the margin" in str(rejected["reasons"])
    assert deployment.registry.champion() == (plain, SLICES[0])
    assert evaluated_version(deployment.lake, SLICES[2]) == (worse, SLICES[1])

    accepted = _evaluate(deployment, SLICES[2], other)

    assert (accepted["promoted"], accepted["challenger"], accepted["champion_before"]) == (
        True,
        better,
        plain,
    )
    assert accepted["difference"] > 0  # type: ignore[operator]
    assert deployment.registry.champion() == (better, SLICES[1])
    tags = {
        version["version"]: version["tags"]["promotion"] for version in deployment.registry.versions("ranker")
    }
    assert tags == {plain: first["reasons"], worse: rejected["reasons"], better: accepted["reasons"]}

    assert deployment.registry.rollback("it was a test") == plain
    assert deployment.registry.champion() == (plain, SLICES[0])


def test_a_version_registered_after_the_evaluation_is_not_promoted(
    deployment: Deployment,
) -> None:
    late = str(uuid.uuid4())
    before = evaluated_version(deployment.lake, SLICES[2])
    _register(deployment, _fit(deployment, SLICES[:2], shuffled=True), SLICES[1], late)
    job = advance_job(deployment)

    promotion = [asset_key(deployment.project.name, "promotion")]
    assert job.execute_in_process(partition_key=SLICES[2], run_id=late, asset_selection=promotion).success

    assert deployment.lake.read("promotion", [SLICES[2]])["challenger"].item() == before[0]  # type: ignore[index]


def test_an_evaluation_names_its_version_and_describes_the_top_positions(deployment: Deployment) -> None:
    scored = deployment.lake.read("evaluation_scores", [SLICES[2]])
    evaluated = deployment.lake.read("evaluation", [SLICES[2]])
    shown = deployment.lake.read("exposure", [SLICES[2]])
    assert scored["click_probability"].is_between(0, 1).all()
    assert (scored["ranker_slice"] < scored["slice"]).all()
    known = deployment.lake.read("items").filter(pl.col("attributes").list.len() > 0)["item_id"].implode()
    assert scored.filter(pl.col("item_id").is_in(known))["attributes"].null_count() < scored.height / 20
    assert {"all", "new_items", "06–12 h"} < set(evaluated["segment"])
    assert any(name.startswith("category: ") for name in evaluated["segment"])
    assert set(shown["attribute"]) == set(deployment.project.items.categorical)
    places = shown.group_by("scorer", "attribute").agg(pl.col("places").sum())["places"]
    assert places.to_list() == pytest.approx([4 * scored["impression_id"].n_unique()] * places.len())
    around = deployment.lake.read("beyond_accuracy", [SLICES[2]])
    assert around["scorer"].to_list() == list(scorers(Evaluation()))
    assert around.sort("popularity_lift")["scorer"][-1] == "popularity"
    assert around["diversity"].null_count() == around.height  # no vectors here


def test_a_version_of_another_project_is_not_promoted(deployment: Deployment) -> None:
    dataset = deployment.lake.read("ranking_dataset", SLICES[:1])
    names = [name for name in feature_columns(dataset) if name.startswith("item_")]
    theirs = dataset.rename({name: f"theirs_{name}" for name in names})
    project, registry = deployment.project, deployment.registry
    ranker = fit(theirs, [f"theirs_{n}" for n in names], project.ranker, project.labels, project.seed)
    foreign = registry.register_ranker(ranker, SLICES[0], "theirs", {}, {}, {}, theirs.tail(3))
    before = registry.champion()

    with pytest.raises(ModelError, match=f"version {foreign} reads {len(names)} columns .*another project"):
        promote(deployment.lake, deployment.registry, foreign, "")

    assert registry.champion() == before
    ours = next(version["version"] for version in registry.versions("ranker"))
    assert promote(deployment.lake, deployment.registry, ours, "") == ours


def test_an_experiment_counts_impressions_since_its_start_and_ends_with_its_share(
    toy: SimpleNamespace, tmp_path: Path
) -> None:
    lake, key, since = Lake(str(tmp_path)), toy.project().slices.key(toy.START), toy.at(10)
    shown = {"user_id": ["a", "b"], "impression_id": ["1", "2"], "as_of": [toy.at(5), toy.at(15)]}
    lake.write("candidates", key, pl.DataFrame(shown | {"clicked": [True, False], "label": [1.0, 0.0]}))

    def figures(share: float) -> pl.DataFrame | None:
        config = {"challenger_share": share, "challenger": "1", "since": since}
        return experiment_figures(SliceTables(lake, toy.project(experiment=config)), key)

    running = figures(0.5)
    assert running is not None
    assert (
        running.select(pl.sum_horizontal("users_challenger", "users_champion"))["users_challenger"].to_list()
        == [1] * 3
    )
    assert figures(0.0) is None
