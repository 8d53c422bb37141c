"""The one `Definitions`: every asset, check, job and schedule of a deployment."""

from collections.abc import Iterator

import dagster as dg

from pipelines import checks, timetable
from pipelines.assets import events, interest, lists, moments, ranker
from pipelines.deployment import Deployment
from pipelines.settings import load

JOB = "advance_slices"


def _assets() -> Iterator[dg.AssetsDefinition]:
    for asset in dg.load_assets_from_modules([events, moments, interest, ranker, lists]):
        if isinstance(asset, dg.AssetsDefinition):
            yield asset


def define(deployment: Deployment) -> dg.Definitions:
    """The definitions of one deployment."""
    project = deployment.project
    slices = timetable.partitions(project)
    assets = dg.map_asset_specs(
        lambda spec: spec.replace_attributes(partitions_def=slices, owners=["team:ranking"]),
        [*_assets()],
    )
    job = dg.define_asset_job(
        JOB, selection="*", description="Every asset, for one slice or a range of slices."
    )
    return dg.Definitions(
        assets=assets,
        asset_checks=checks.CHECKS,
        jobs=[job],
        schedules=[timetable.schedule(project, JOB)],
        resources={"deployment": deployment},
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The deployment that the environment names; see `pipelines/settings.py`."""
    settings = load()
    return define(Deployment(settings.open_project(), settings))
