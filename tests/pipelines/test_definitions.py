"""A snapshot of the asset graph, so that dependencies change only on purpose."""

from importlib import metadata
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from features.catalogue import catalogue
from pipelines.definitions import define
from pipelines.deployment import Deployment
from pipelines.settings import settings
from pipelines.table_schemas import described

GRAPH = {
    "events": {
        "items": set(),
        "impressions": set(),
        "interactions": set(),
        "candidates": set(),
        "rejects": set(),
    },
    "moments": {
        "moment_state": {"items", "impressions", "interactions", "moment_state"},
        "features": {"items", "impressions", "interactions", "item_vectors", "moment_state"},
        "topic_shifts": {
            "candidates",
            "interest_scores",
            "item_vectors",
            "moment_state",
            "topic_shifts",
        },
    },
    "interest": {
        "item_vectors": {"items"},
        "interest_model": {
            "items",
            "impressions",
            "interactions",
            "candidates",
            "moment_state",
            "interest_model",
        },
        "interest_scores": {
            "items",
            "impressions",
            "interactions",
            "candidates",
            "moment_state",
            "interest_model",
        },
    },
    "ranker": {
        "ranking_dataset": {"candidates", "features", "interest_scores"},
        "ranker": {"ranking_dataset"},
        "evaluation": {"ranking_dataset", "ranker", "moment_state"},
        "exposure": {"evaluation", "item_vectors"},
        "promotion": {"evaluation"},
        "experiment": {"candidates"},
    },
    "lists": {
        "ranked_lists": {
            "promotion",
            "ranker",
            "interest_model",
            "moment_state",
            "item_vectors",
            "impressions",
        },
        "report": {"evaluation", "exposure", "ranked_lists", "rejects"},
    },
}


def definitions_of(home: Path, *overrides: str) -> dg.Definitions:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOMENTRANK_HOME", str(home))
        patch.setenv("MOMENTRANK_SET", "\n".join(overrides))
        loaded = settings.load()
    return define(Deployment(loaded.open_project(), loaded))


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return definitions_of(tmp_path_factory.mktemp("home"))


def test_the_asset_graph_is_as_declared(definitions: dg.Definitions) -> None:
    graph: dict[str, dict[str, set[str]]] = {}
    for spec in definitions.resolve_all_asset_specs():
        depends = {dependency.asset_key.path[-1] for dependency in spec.deps}
        graph.setdefault(str(spec.group_name).removeprefix("newsroom_"), {})[spec.key.path[-1]] = depends
    assert graph == GRAPH


def test_every_asset_is_described_owned_and_sliced(definitions: dg.Definitions) -> None:
    for spec in definitions.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.owners == ["team:ranking"]
        assert spec.partitions_def is not None
        assert spec.kinds


def test_every_asset_has_a_code_version_and_its_columns_are_described(definitions: dg.Definitions) -> None:
    columns = {}
    for spec in definitions.resolve_all_asset_specs():
        assert spec.code_version == metadata.version("momentrank")
        columns[spec.key.path[-1]] = spec.metadata.get("dagster/column_schema")
    (as_of,) = [column for column in columns["candidates"].columns if column.name == "as_of"]
    assert as_of.type == "Datetime(time_unit='us', time_zone='UTC')"
    assert as_of.description.startswith("When the impression was shown.")


def test_columns_of_features_are_described_by_the_catalogue(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOMENTRANK_HOME", str(tmp_path))
        project = settings.load().open_project()
    name, meaning = catalogue(project.behaviour).select("name", "meaning").row(0)

    schema = described(
        "ranking_dataset", {"label": pl.Float64(), name: pl.Float32(), "own": pl.Int8()}, project.behaviour
    )

    label, feature, unknown = schema.columns
    assert (feature.description, feature.type) == (meaning, "Float32")
    assert label.description
    assert unknown.description is None


@pytest.mark.parametrize("executor", ["in_process", "multiprocess"])
def test_the_executor_of_runs_is_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    monkeypatch.setenv("MOMENTRANK_EXECUTOR", executor)

    job = definitions_of(tmp_path).resolve_job_def("newsroom_advance_slices")

    assert job.executor_def.name == executor


def test_a_slice_reads_models_and_state_of_the_previous_slice(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    previous = {"features": "moment_state", "interest_scores": "interest_model", "evaluation": "ranker"}
    for asset, upstream in previous.items():
        node = graph.get(dg.AssetKey(["newsroom", asset]))
        mapping = node.partition_mappings[dg.AssetKey(["newsroom", upstream])]
        assert (mapping.start_offset, mapping.end_offset) == (-1, -1)


def test_every_table_is_checked_and_one_job_and_schedule_run_it(definitions: dg.Definitions) -> None:
    checked = {key.asset_key.path[-1] for key in definitions.resolve_asset_graph().asset_check_keys}
    tables = {name for group in GRAPH.values() for name in group} - {
        "interest_model", "ranker", "report",
    }  # fmt: skip
    assert checked >= tables
    assert definitions.resolve_job_def("newsroom_advance_slices")
    schedule = definitions.resolve_schedule_def("newsroom_advance_slices_every_slice")
    assert schedule.cron_schedule == "30 0 * * *"


def test_runs_are_triggered_by_the_schedule_or_by_arriving_files(
    definitions: dg.Definitions, tmp_path: Path
) -> None:
    arriving = definitions_of(tmp_path, f"source.landing={str(tmp_path / 'in')!r}")
    always = {
        f"newsroom_{name}" for name in ("late_interactions", "failed_runs", "failed_checks", "missing_slices")
    }
    for defs, schedules, sensors in (
        (definitions, {"newsroom_advance_slices_every_slice"}, always),
        (arriving, set(), {"newsroom_arriving_logs", *always}),
    ):
        repository = defs.get_repository_def()
        assert {schedule.name for schedule in repository.schedule_defs} == schedules
        assert {sensor.name for sensor in repository.sensor_defs} == sensors
        for trigger in (*repository.schedule_defs, *repository.sensor_defs):
            assert trigger.default_status.value == "STOPPED"
            assert trigger.description or trigger.name


def test_every_step_has_a_pool_and_a_run_has_an_end(definitions: dg.Definitions) -> None:
    pools = {asset.op.pool for asset in definitions.assets or [] if isinstance(asset, dg.AssetsDefinition)}
    assert pools == {"newsroom_trainer", "newsroom_writer"}
    assert definitions.resolve_job_def("newsroom_advance_slices").run_tags["dagster/max_runtime"] == "43200"


def test_a_project_with_retention_has_its_job_and_schedule(
    definitions: dg.Definitions, tmp_path: Path
) -> None:
    kept = definitions_of(tmp_path, 'retention.keep="30d"')

    names = [{job.name for job in defs.jobs or []} for defs in (definitions, kept)]
    assert names[1] - names[0] == {"newsroom_retire_slices"}
    assert kept.resolve_schedule_def("newsroom_retire_slices_schedule").cron_schedule == "0 4 * * *"
