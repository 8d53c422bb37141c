"""The Dagster definitions: every asset, check, job and schedule of one or more deployments."""

from collections.abc import Iterator
from importlib import metadata

import dagster as dg

from features.config.project import Project
from features.config.slices import Slices
from features.errors import ProjectError
from pipelines import liveness
from pipelines.asset_steps import Step, StepRun
from pipelines.assets import events, interest, lists, moment_state, ranker, topics
from pipelines.dagster_names import PROJECT, asset_key, named, resource
from pipelines.dagster_names import step as step_name
from pipelines.deployment import Deployment
from pipelines.monitoring import alerts, checks
from pipelines.privacy import retention
from pipelines.retries import with_retries
from pipelines.settings.settings import load_all
from pipelines.table_schemas import declared
from pipelines.triggers import arrival, partitions

JOB = "advance_slices"
EXECUTORS = {"in_process": dg.in_process_executor, "multiprocess": liveness.MULTIPROCESS}


def define(*deployments: Deployment) -> dg.Definitions:
    """The merged definitions of deployments that share one Dagster.

    Raises ProjectError if two projects have the same name, where `-` and `_` count as equal.
    """
    files: dict[str, object] = {}
    for one in deployments:
        name = named(one.project.name, "")
        if name in files:
            raise ProjectError(
                f"{files[name]} and {one.settings.project} are both called {one.project.name}, but projects that share "
                "a Dagster need different names ('-' and '_' count as equal): change `name` in one"
            )
        files[name] = one.settings.project
    return dg.Definitions.merge(*map(_define, deployments))


def advance_job(deployment: Deployment) -> dg.JobDefinition:
    """The job that materialises every asset of a deployment."""
    return define(deployment).resolve_job_def(named(deployment.project.name, JOB))


def _define(deployment: Deployment) -> dg.Definitions:
    project = deployment.project
    name, tag = named(project.name, JOB), {PROJECT: project.name}
    job = dg.define_asset_job(
        name,
        selection=dg.AssetSelection.key_prefixes(project.name),
        description="Every asset, for one slice or a range of slices.",
        tags={"dagster/max_runtime": str(partitions.LONGEST_SECONDS), **tag},
    )
    # One trigger: a sensor for a landing folder, a schedule for everything else.
    arrives, keep = bool(project.source.landing), project.retention.keep
    return dg.Definitions(
        assets=[_for_project(step, project) for step in steps()],
        asset_checks=checks.build(project),
        jobs=[job, *([retention.job(project.name, project.slices, keep, tag)] if keep else [])],
        schedules=[
            *([] if arrives else [partitions.schedule(deployment.slices, name)]),
            *([retention.schedule(project.name)] if keep else []),
        ],
        sensors=[
            *([arrival.arrivals(deployment, name)] if arrives else []),
            arrival.late_interactions(deployment, name),
            *alerts.sensors(deployment.slices, deployment.settings.webhook, deployment.settings.dagster_url),
        ],
        resources={resource(project.name): _resource(deployment)},
        executor=EXECUTORS[deployment.settings.executor],
    )


def steps() -> list[Step]:
    """The steps of a run, each of which materialises one or several assets."""
    modules = (events, moment_state, interest, ranker, lists, topics)
    return [value for module in modules for value in vars(module).values() if isinstance(value, Step)]


def _for_project(step: Step, project: Project) -> dg.AssetsDefinition:
    """The assets of a step, with the project's prefix in their names."""
    key = resource(project.name)

    @dg.multi_asset(
        name=step_name(project.name, step.name),
        description=step.body.__doc__,
        specs=[_spec(spec, project.name, project.slices) for spec in step.specs],
        can_subset=step.can_subset,
        backfill_policy=partitions.ONE_RUN,
        pool=named(project.name, step.pool),
        required_resource_keys={key},
    )
    def materialize(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        deployment: Deployment = getattr(context.resources, key)
        run = StepRun(context, deployment, step.specs[0].key.to_user_string())
        with deployment.progress.step(step.name), with_retries(context.retry_number):
            step.body(run)
        for spec in step.specs:
            if spec.key.to_user_string() in run.outputs:
                yield dg.MaterializeResult(asset_key=asset_key(project.name, spec.key.to_user_string()))

    return materialize


def _spec(spec: dg.AssetSpec, project: str, slices: Slices) -> dg.AssetSpec:
    name = spec.key.to_user_string()
    deps = [
        dg.AssetDep(
            asset_key(project, dep.asset_key.to_user_string()), partition_mapping=dep.partition_mapping
        )
        for dep in spec.deps
    ]
    return spec.replace_attributes(
        key=asset_key(project, name),
        deps=deps,
        group_name=named(project, str(spec.group_name)),
        partitions_def=partitions.partitions(slices),
        owners=["team:ranking"],
        code_version=metadata.version("momentrank"),
    ).merge_attributes(metadata=declared(name))


def _resource(deployment: Deployment) -> dg.ResourceDefinition:
    """The deployment as a resource; it also marks the run as alive."""

    @dg.resource
    def deployed(context: dg.InitResourceContext) -> Iterator[Deployment]:
        if context.instance is None or context.run is None:
            yield deployment
            return
        with liveness.mark_alive(context.instance, context.run.run_id):
            yield deployment

    return deployed


@dg.definitions
def defs() -> dg.Definitions:
    """Definitions of the deployments in the environment; see `pipelines/settings/settings.py`."""
    return define(*(Deployment(settings.open_project(), settings) for settings in load_all()))
