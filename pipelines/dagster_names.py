"""Names of a project's assets, jobs, sensors, pools and resource in a Dagster that several projects share."""

import dagster as dg

from features.config.project import Project

PROJECT = "momentrank/project"
"""Tag of the runs of a project's jobs."""


def asset_key(project: Project, asset: str) -> dg.AssetKey:
    """The key of an asset: `newsroom/features`."""
    return dg.AssetKey([project.name, asset])


def step(project: Project, name: str) -> str:
    """The name of an asset's step, in Dagster's own form: `newsroom__features`."""
    return asset_key(project, name).to_python_identifier()


def named(project: Project, name: str) -> str:
    """The name of anything else: `newsroom_writer`. Dagster allows no hyphen in it."""
    return f"{project.name.replace('-', '_')}_{name}"


def is_of(project: Project, run: dg.DagsterRun) -> bool:
    """Whether a run belongs to a job of the project or materializes one of its assets."""
    selected = run.asset_selection or ()
    return run.tags.get(PROJECT) == project.name or any(key.path[0] == project.name for key in selected)


def resource(project: Project) -> str:
    """The resource key of the project's deployment."""
    return named(project, "deployment")
