"""Names of a project's assets, jobs, sensors, pools and resource in a Dagster that several projects share.

`project` is a project's name.
"""

import dagster as dg

PROJECT = "momentrank/project"
"""Tag of the runs of a project's jobs."""


def asset_key(project: str, asset: str) -> dg.AssetKey:
    """The key of an asset: `newsroom/features`."""
    return dg.AssetKey([project, asset])


def step(project: str, name: str) -> str:
    """The name of an asset's step, in Dagster's own form: `newsroom__features`."""
    return asset_key(project, name).to_python_identifier()


def named(project: str, name: str) -> str:
    """The name of anything else: `newsroom_writer`. Dagster allows no hyphen in it."""
    return f"{project.replace('-', '_')}_{name}"


def is_of(project: str, run: dg.DagsterRun) -> bool:
    """Whether a run belongs to a job of the project or materializes one of its assets."""
    selected = run.asset_selection or ()
    return run.tags.get(PROJECT) == project or any(key.path[0] == project for key in selected)


def resource(project: str) -> str:
    """The resource key of the project's deployment."""
    return named(project, "deployment")
