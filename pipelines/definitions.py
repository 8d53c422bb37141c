"""The one `Definitions`: every asset, check, job and schedule of a deployment."""

from collections.abc import Iterator
from importlib import metadata

import dagster as dg

from pipelines import arrival, liveness, timetable
from pipelines.assets import events, interest, lists, moments, ranker, topics
from pipelines.deployment import Deployment
from pipelines.privacy import retention
from pipelines.settings import load
from pipelines.table_schemas import declared
from pipelines.watch import alerts, checks

JOB = "advance_slices"
EXECUTORS = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}


def assets() -> list[dg.AssetsDefinition]:
    """The steps of a run."""
    found = dg.load_assets_from_modules([events, moments, interest, ranker, lists, topics])
    return [asset for asset in found if isinstance(asset, dg.AssetsDefinition)]


def define(deployment: Deployment) -> dg.Definitions:
    """The definitions of one deployment."""
    project = deployment.project
    slices = timetable.partitions(project)
    code = metadata.version("momentrank")
    own = dg.map_asset_specs(
        lambda spec: spec.replace_attributes(
            partitions_def=slices, owners=["team:ranking"], code_version=code
        ).merge_attributes(metadata=declared(spec.key.to_user_string())),
        assets(),
    )
    job = dg.define_asset_job(
        JOB,
        selection="*",
        description="Every asset, for one slice or a range of slices.",
        tags={"dagster/max_runtime": str(timetable.LONGEST_SECONDS)},
    )
    # One trigger: what arrives in a folder says itself when there is work, everything else goes by the clock.
    arrives = bool(project.source.landing)
    return dg.Definitions(
        assets=own,
        asset_checks=checks.build(project),
        jobs=[job, *retention.jobs(project)],
        schedules=[*([] if arrives else [timetable.schedule(project, JOB)]), *retention.schedules(project)],
        sensors=[
            *([arrival.arrivals(JOB)] if arrives else []),
            arrival.late_interactions(JOB),
            *alerts.sensors(deployment.settings),
        ],
        resources={"deployment": _held(deployment)},
        executor=EXECUTORS[deployment.settings.executor],
    )


def _held(deployment: Deployment) -> dg.ResourceDefinition:
    """The deployment as a resource; a run that has it shows that it is alive."""

    @dg.resource
    def held(context: dg.InitResourceContext) -> Iterator[Deployment]:
        # A tick of a schedule or sensor has an instance and no run.
        if context.instance is None or context.run is None:
            yield deployment
            return
        with liveness.holding(context.instance, context.run.run_id):
            yield deployment

    return held


@dg.definitions
def defs() -> dg.Definitions:
    """The deployment that the environment names; see `pipelines/settings.py`."""
    settings = load()
    return define(Deployment(settings.open_project(), settings))
