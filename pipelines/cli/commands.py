"""The command line `momentrank`: each command opens a deployment and calls one function."""

import json
import sys
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from features.config.slices import parse_instant
from features.errors import ProjectError
from features.events.log_problems import Read, find_problems
from models.correctable import CORRECTABLE
from pipelines import error_messages
from pipelines.cli import console as show
from pipelines.deployment import Deployment
from pipelines.identities import Privacy
from pipelines.lake import Lake
from pipelines.preflight import gap, preflight
from pipelines.progress import Lines, RunProgress
from pipelines.settings import storage_check as storage
from pipelines.settings.settings import find_project, initialise_dagster, load, prepare
from pipelines.terminal import Terminal, styled


def _not_blank(user: str | None) -> str | None:
    if user is not None and not user.strip():
        raise ProjectError("--user is empty: give a user id as in the logs")
    return user


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
out = Terminal()

ProjectFile = Annotated[Path, typer.Argument(help="Project file, for example projects/newsroom.toml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting: key.path=value, with a TOML value. Repeatable."),
]

UserId = Annotated[str, typer.Option(help="User id, as in the logs.", callback=_not_blank)]
At = Annotated[
    str | None, typer.Option(help="Instant of the user's request. Default: the newest slice's end.")
]
Query = Annotated[str | None, typer.Option(help="What the user typed.")]
Reason = Annotated[str, typer.Option(help="Reason, recorded in the history.")]


def main() -> None:
    """Run the command line. Any error is printed as one message, with exit status 1."""
    try:
        app()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # a Polars panic is not an Exception
        Terminal(stderr=True).print(
            styled(("error", "bold red"), (f" {_message(error)}", "")), soft_wrap=True
        )
        sys.exit(1)


def _message(error: BaseException) -> str:
    """The message of an error that the user can correct; for any other, a sentence and the traceback's file."""
    if isinstance(error, CORRECTABLE) and not error_messages.out_of_space(error):
        return str(error)
    try:
        return error_messages.sentence(error, load().home)
    except (OSError, *CORRECTABLE):  # the home is not writable
        return "".join(traceback.format_exception(error))


def _open(project: Path, overrides: list[str] | None = None) -> Deployment:
    settings = load()
    settings = settings.model_copy(
        update={"project": find_project(project), "overrides": (*settings.overrides, *(overrides or ()))}
    )
    prepare(settings)
    storage.check(settings)
    return Deployment(settings.open_project(), settings, Lines(out))


@app.command()
def init(
    logs: Annotated[list[Path], typer.Argument(help="Log files or folders; a sample is enough.")],
    items: Annotated[
        list[Path] | None,
        typer.Option(help="Item file, if items are not in the logs. Repeatable."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Project file to write. Default: projects/NAME.toml."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Project name. Default: the name of the logs' folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
) -> None:
    """Draft a project file from sample logs, and show each guess with its evidence."""
    from pipelines.cli.init import show_draft, write_draft

    show_draft(out, *write_draft(logs, items or [], output, name, force))


@app.command()
def check(project: ProjectFile, overrides: Overrides = None) -> None:
    """Validate a project file and its logs, and count the events per slice.

    Exit status 1 means that a run could not train on these logs.
    """
    deployment = _open(project, overrides)
    preflight(deployment.project, deployment.settings.engine == "embedded", deployment.tell)
    deployment.take_in()
    events = deployment.log.events()
    read = sum((record.read for record in deployment.log.records()), Read())
    config = deployment.project
    problems = find_problems(read, events, config.source.tables, config.slices, config.labels)
    if empty := gap(deployment.slices_with_events(), config.slices):
        deployment.tell(empty)
    show.inputs(out, config.name, config.source, deployment.settings.project, events, problems)
    if any(problem.fatal for problem in problems):
        raise typer.Exit(1)


@app.command()
def run(
    project: ProjectFile,
    since: Annotated[str | None, typer.Option("--from", help="First slice.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Last slice.")] = None,
    overrides: Overrides = None,
) -> None:
    """Materialize every asset over the project's slices, or a range of them, and show the results."""
    from pipelines.definitions import steps
    from pipelines.running import materialise

    deployment = _open(project, overrides)
    initialise_dagster(deployment.settings)
    started = monotonic()
    with RunProgress(out, deployment.settings.logs, len(steps())) as progress:
        last = materialise(replace(deployment, progress=progress), since, until)
    show.results(out, deployment, last, monotonic() - started)
    out.print(f"log      {progress.log}", soft_wrap=True)


@app.command()
def backtest(
    project: ProjectFile,
    after: Annotated[
        str, typer.Option(help="Instant: fit on impressions shown before it, evaluate those after.")
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="JSON file to write the metrics to.")
    ] = None,
    static: Annotated[
        bool, typer.Option("--static", help="Freeze the moment state at the instant, too.")
    ] = False,
    new_items: Annotated[
        float | None,
        typer.Option(
            help="Share of items to hold out: hidden before the instant, and the only candidates after it."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Random seed of fits and held-out items. Default: the project's.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds to fit with: --seed, --seed + 1, …")] = 1,
    overrides: Overrides = None,
) -> None:
    """Fit once on everything before an instant and evaluate every later impression. Registers nothing."""
    from pipelines.backtest import backtest as run_backtest

    deployment, instant = _open(project, overrides), _instant(after)
    first = deployment.project.seed if seed is None else seed
    figures = run_backtest(
        deployment, instant, static=static, new_items=new_items, seeds=range(first, first + seeds)
    )
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    show.quality(out, figures, f"{deployment.project.name}, backtest after {after}")
    show.gain(out, figures["gain"])
    if "seed_variance" in figures:
        show.seed_variance(out, figures["seed_variance"], f"over {seeds} seeds, from {first}")


@app.command()
def tune(
    project: ProjectFile,
    trials: Annotated[
        int, typer.Option(min=1, help="Number of settings to try, besides the current ones.")
    ] = 20,
    folds: Annotated[
        int, typer.Option(min=1, help="Number of slices to evaluate on, each after a fit on earlier ones.")
    ] = 3,
    seconds: Annotated[float | None, typer.Option(help="Start no new trial after this many seconds.")] = None,
    overrides: Overrides = None,
) -> None:
    """Search better ranker settings on past slices. Registers nothing."""
    from pipelines.cli.tune import tune as search

    deployment = _open(project, overrides)
    search(deployment.slices, deployment.registry, out, trials, folds, seconds)


@app.command()
def estimate(
    project: ProjectFile,
    challenger: Annotated[
        str, typer.Option(help="Ranker version, for example 7, or an alias.")
    ] = "challenger",
    k: Annotated[
        int | None, typer.Option("-k", min=1, help="Positions that count. Default: lists.k.")
    ] = None,
    slices: Annotated[int, typer.Option(min=1, help="Number of newest slices of traffic.")] = 7,
    overrides: Overrides = None,
) -> None:
    """Estimate the click rate that a ranker version would have had on logged traffic, and log it to MLflow."""
    from pipelines.estimating import estimate_version

    deployment = _open(project, overrides)
    positions = k or deployment.project.lists.k
    estimated = estimate_version(deployment.slices, deployment.registry, challenger, positions, slices)
    show.estimated(out, estimated, positions)


@app.command()
def rank(
    project: ProjectFile,
    user: UserId,
    at: At = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of items to show.")] = 10,
    query: Query = None,
    overrides: Overrides = None,
) -> None:
    """Rank items for a user at an instant, and say why."""
    deployment = _open(project, overrides)
    serving = deployment.require_ranker()
    instant = _instant(at) if at else None
    stored = _stored_id(deployment.lake, deployment.privacy, user)
    ranker = deployment.registry.load_ranker(serving.version)
    lists = deployment.requests.rank([stored], instant, k, ranker, query)
    show.ranked(out, lists, f"{user}, by ranker version {serving.version}")


@app.command()
def explain(
    project: ProjectFile,
    impression: Annotated[
        str | None, typer.Option(help="Impression id, as in the logs: explain a past impression.")
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="User id, as in the logs: explain a new ranking.", callback=_not_blank),
    ] = None,
    at: At = None,
    query: Query = None,
    overrides: Overrides = None,
) -> None:
    """Explain how the champion ranks a past impression, or the candidates of a user at an instant."""
    if (impression is None) == (user is None) or (at and impression):
        raise ProjectError(
            "explain needs either --impression ID or --user ID; --at INSTANT goes with --user only"
        )
    deployment = _open(project, overrides)
    serving = deployment.require_ranker()
    ranker = deployment.registry.load_ranker(serving.version)
    if user is None:
        rows = deployment.requests.explain(str(impression), ranker)
    else:
        instant, k = _instant(at) if at else None, deployment.project.lists.k
        stored = _stored_id(deployment.lake, deployment.privacy, user)
        rows = deployment.requests.explain_user(stored, instant, k, ranker, query)
    show.explained(out, rows, f"{impression or user}, by ranker version {serving.version}")


@app.command()
def promote(
    project: ProjectFile,
    version: Annotated[str, typer.Argument(help="Ranker version, for example 7, or challenger.")],
    reason: Reason = "",
    overrides: Overrides = None,
) -> None:
    """Make a ranker version the champion."""
    from pipelines.promoting import promote as promote_by_hand

    deployment = _open(project, overrides)
    promoted = promote_by_hand(deployment.lake, deployment.registry, version, reason)
    out.print(f"{deployment.registry.name('ranker')} version {promoted} is champion")


@app.command()
def rollback(project: ProjectFile, reason: Reason = "", overrides: Overrides = None) -> None:
    """Restore the previous champion. Running it twice goes back two."""
    registry = _open(project, overrides).registry
    out.print(f"{registry.name('ranker')} version {registry.rollback(reason)} is champion again")


@app.command()
def history(project: ProjectFile, overrides: Overrides = None) -> None:
    """List each change of the champion, with time and reason."""
    registry = _open(project, overrides).registry
    show.history(out, registry.history(), registry.champion(), registry.name("ranker"))


@app.command()
def forget(
    project: ProjectFile,
    user: UserId,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Delete even if runs seem to be in progress.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Erase a user from tables, their old versions, pages and run records, and ignore them from now on."""
    from pipelines.privacy import forgetting

    deployment = _open(project, overrides)
    initialise_dagster(deployment.settings)
    if not force:
        forgetting.require_quiet()
    traces = forgetting.find(deployment, user)
    out.print(f"{user}: {traces.total:,} rows in {len(traces.rows)} tables")
    if not yes:
        typer.confirm("Delete them for good, with all older versions of all tables?", abort=True)
    for line in forgetting.summary(
        deployment.registry, deployment.settings.project, traces, forgetting.forget(deployment, traces)
    ):
        out.print(line, soft_wrap=True)


@app.command()
def ui(
    projects: Annotated[list[Path], typer.Argument(help="Project files; one Dagster shows them all.")],
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of Dagster's page. Default: 3000.")
    ] = None,
    mlflow_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of MLflow's page. Default: 5000.")
    ] = None,
) -> None:
    """Serve the Dagster and MLflow pages of one or more projects until Ctrl-C."""
    from pipelines.definitions import define
    from pipelines.pages import serve

    deployments = [_open(project, overrides) for project in projects]
    define(*deployments)
    initialise_dagster(deployments[0].settings)
    serve(deployments, host, lambda line: out.print(line, soft_wrap=True), port, mlflow_port)


@app.command()
def serve(
    project: ProjectFile,
    overrides: Overrides = None,
    host: Annotated[
        str, typer.Option(help="Address to bind to; 0.0.0.0 lets other machines call.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the service.")] = 8000,
) -> None:
    """Rank live requests over HTTP from the state in memory, and learn from events as they come, until Ctrl-C."""
    from pipelines.service.app import run as serve_until_stopped

    serve_until_stopped(_open(project, overrides), host, port, lambda line: out.print(line, soft_wrap=True))


def _stored_id(lake: Lake, privacy: Privacy, user: str) -> str:
    """A user id of the logs as stored in the tables; prints a note if the user is unknown."""
    from pipelines.requests import is_known_user

    stored = privacy.stored(user)
    if not is_known_user(lake, stored):
        out.print(f"user {user!r} is in no log and is ranked as a new user")
    return stored


def _instant(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError:
        raise ProjectError(
            f"{text!r} is not an instant: write, for example, {datetime.now(UTC).isoformat(timespec='seconds')!r}"
        ) from None
