"""A version's metrics on a slice are logged to its run and its logged model, with the table."""

import mlflow
import polars as pl
import pytest

from models.registry.quality import Table, points

EVALUATED = Table("ranking_dataset", 12, "s3://lake/newsroom/ranking_dataset")
EVALUATION = pl.DataFrame(
    [
        ("full", "ndcg@10", "all", 0.62, 0.6, 0.64),
        ("popularity", "ndcg@10", "all", 0.5, 0.48, 0.52),
        ("full", "pooled_auc", "category=home & garden", 0.7, None, None),
    ],
    schema=["scorer", "metric", "segment", "mean", "low", "high"],
    orient="row",
)


def test_each_scorer_metric_and_segment_has_a_readable_name():
    assert points(EVALUATION) == {
        "full/ndcg_at_10": 0.62,
        "full/ndcg_at_10_low": 0.6,
        "full/ndcg_at_10_high": 0.64,
        "popularity/ndcg_at_10": 0.5,
        "popularity/ndcg_at_10_low": 0.48,
        "popularity/ndcg_at_10_high": 0.52,
        "segment/category_home_garden/full/pooled_auc": 0.7,
    }


@pytest.fixture
def evaluated(registry, register):
    """A version evaluated on two slices, its run, and a function that reads its logged metrics."""
    version = register("2026-01-05", trained_on=[EVALUATED._replace(version=7)])
    registry.log_quality(version, 2, points(EVALUATION), EVALUATED)
    registry.log_quality(version, 3, points(EVALUATION), EVALUATED._replace(version=13))
    client = mlflow.MlflowClient(registry.tracking_uri)
    registered = client.get_model_version("newsroom-ranker", version)
    return (
        version,
        registered.run_id,
        lambda: client.get_logged_model(registered.source.rpartition("/")[2]).metrics,
    )


def series(metrics, name):
    """(step, value, dataset, digest) of each point, in order of time."""
    points_of = sorted((m for m in metrics if m.key == name), key=lambda m: (m.step, m.timestamp))
    return [(m.step, m.value, m.dataset_name, m.dataset_digest) for m in points_of]


def test_the_logged_model_has_one_point_per_slice_with_its_table(evaluated):
    _, _, metrics = evaluated

    assert series(metrics(), "full/ndcg_at_10") == [
        (2, 0.62, "ranking_dataset", "12"),
        (3, 0.62, "ranking_dataset", "13"),
    ]
    assert {m.key for m in metrics()} >= points(EVALUATION).keys()


def test_the_run_has_the_same_metrics_and_its_tables_as_inputs(evaluated, registry):
    _, run_id, _ = evaluated
    run = mlflow.MlflowClient(registry.tracking_uri).get_run(run_id)

    assert run.data.metrics["segment/category_home_garden/full/pooled_auc"] == 0.7
    inputs = {
        (one.dataset.digest, one.tags[0].value, mlflow.data.get_source(one).path)
        for one in run.inputs.dataset_inputs
    }
    assert inputs == {
        ("7", "training", EVALUATED.location),
        ("12", "evaluation", EVALUATED.location),
        ("13", "evaluation", EVALUATED.location),
    }
    assert registry.versions("ranker")[0]["metrics"] == {"ndcg@10": 0.61}


def test_evaluating_a_slice_again_logs_only_changed_values(evaluated, registry):
    version, run, metrics = evaluated
    before = len(metrics())

    registry.log_quality(version, 3, points(EVALUATION), EVALUATED._replace(version=14))
    assert len(metrics()) == before

    registry.log_quality(
        version, 3, points(EVALUATION) | {"full/ndcg_at_10": 0.8}, EVALUATED._replace(version=15)
    )
    assert len(metrics()) == before + 1
    assert series(metrics(), "full/ndcg_at_10")[-1] == (3, 0.8, "ranking_dataset", "15")
    assert mlflow.MlflowClient(registry.tracking_uri).get_run(run).data.metrics["full/ndcg_at_10"] == 0.8
