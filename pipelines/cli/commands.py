"""The command `momentrank`. Each command opens a deployment and calls one function; there is no second code path."""

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
from pipelines import error_messages as mishaps
from pipelines.cli import console as show
from pipelines.deployment import Deployment
from pipelines.preflight import gap, preflight
from pipelines.progress import Lines, RunProgress
from pipelines.settings import storage_check as storage
from pipelines.settings.settings import find_project, initialise_dagster, load, prepare
from pipelines.terminal import Terminal, styled


def _filled(user: str | None) -> str | None:
    if user is not None and not user.strip():
        raise ProjectError("--user is empty: give the id of one person, as it is in the logs")
    return user


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
out = Terminal()

ProjectFile = Annotated[Path, typer.Argument(help="Project file, for example projects/newsroom.toml.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="key.path=value, the value as TOML. Repeatable.")
]

UserId = Annotated[str, typer.Option(help="User id, as in the logs.", callback=_filled)]
Reason = Annotated[str, typer.Option(help="Why; it is kept in the history.")]


def main() -> None:
    """Run the command line; whatever goes wrong is one message and exit status 1."""
    try:
        app()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # what Polars calls a panic is no Exception
        Terminal(stderr=True).print(styled(("error", "bold red"), (f" {_said(error)}", "")), soft_wrap=True)
        sys.exit(1)


def _said(error: BaseException) -> str:
    """The message of an error that a person can mend; of any other a sentence, and where its traceback is."""
    if isinstance(error, CORRECTABLE) and not mishaps.out_of_space(error):
        return str(error)
    try:
        return mishaps.sentence(error, load().home)
    except (OSError, *CORRECTABLE):  # no home to write to
        return "".join(traceback.format_exception(error))


def _open(project: Path, overrides: list[str] | None = None) -> Deployment:
    found = load()
    settings = found.model_copy(
        update={"project": find_project(project), "overrides": (*found.overrides, *(overrides or ()))}
    )
    prepare(settings)
    storage.check(settings)
    return Deployment(settings.open_project(), settings, Lines(out))


@app.command()
def init(
    logs: Annotated[list[Path], typer.Argument(help="Log files, or folders of them; a sample is enough.")],
    items: Annotated[
        list[Path] | None,
        typer.Option(help="File of the items, where it is apart from the logs. Repeatable."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; by default projects/NAME.toml.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the project; by default the folder's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
) -> None:
    """Draft a project file from sample logs, and say what was guessed and why."""
    from pipelines.cli.init import show_draft, write_draft

    show_draft(out, *write_draft(logs, items or [], output, name, force))


@app.command()
def check(project: ProjectFile, overrides: Overrides = None) -> None:
    """Say what is wrong with a project file and its logs, or what was found in them.

    Exits with 1 where a run would have nothing to learn from.
    """
    deployment = _open(project, overrides)
    preflight(deployment)
    deployment.take_in()
    events = deployment.log.events()
    read = sum((record.read for record in deployment.log.records()), Read())
    problems = find_problems(read, events, deployment.project)
    if empty := gap(deployment.held(), deployment.project):
        deployment.tell(empty)
    show.inputs(out, deployment, events, problems)
    if any(problem.fatal for problem in problems):
        raise typer.Exit(1)


@app.command()
def run(
    project: ProjectFile,
    since: Annotated[str | None, typer.Option("--from", help="First slice.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Last slice.")] = None,
    overrides: Overrides = None,
) -> None:
    """Materialise every asset over the project's slices, or a range of them, and show what came of it."""
    from pipelines.definitions import assets
    from pipelines.running import materialise

    deployment = _open(project, overrides)
    initialise_dagster(deployment.settings)
    began = monotonic()
    with RunProgress(out, deployment.settings.logs, len(assets())) as progress:
        last = materialise(replace(deployment, progress=progress), since, until)
    show.results(out, deployment, last, monotonic() - began)
    out.print(f"log      {progress.log}", soft_wrap=True)


@app.command()
def backtest(
    project: ProjectFile,
    after: Annotated[
        str, typer.Option(help="Fit on impressions shown before this instant; evaluate the others.")
    ],
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the figures.")] = None,
    static: Annotated[
        bool, typer.Option("--static", help="Stop the moment state at the instant too.")
    ] = False,
    new_items: Annotated[
        float | None,
        typer.Option(help="Share of the items that is unknown before the instant, and alone after it."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the fits and the new items; by default the project's.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of seeds to fit with, counted up from --seed.")
    ] = 1,
    overrides: Overrides = None,
) -> None:
    """Fit once on everything before an instant, and evaluate every later impression. Registers nothing."""
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
    trials: Annotated[int, typer.Option(min=1, help="Settings to try beside the present ones.")] = 20,
    folds: Annotated[int, typer.Option(min=1, help="Slices to evaluate on, each by what came before.")] = 3,
    seconds: Annotated[float | None, typer.Option(help="Begin no trial after this long.")] = None,
    overrides: Overrides = None,
) -> None:
    """Search better settings of the ranker on the slices of the lake; nothing is registered."""
    from pipelines.tuning import tune as search

    search(_open(project, overrides), out, trials, folds, seconds)


@app.command()
def rank(
    project: ProjectFile,
    user: UserId,
    at: Annotated[
        str | None, typer.Option(help="Instant of the request; by default the newest slice's end.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Length of the list.")] = 10,
    overrides: Overrides = None,
) -> None:
    """What a user would be shown at an instant, and why."""
    from pipelines.requests import rank as rank_for

    deployment = _open(project, overrides)
    serving = show.require_ranker(deployment)
    instant = _instant(at) if at else None
    stored = _stored(deployment, user)
    lists = rank_for(deployment, [stored], instant, k, deployment.registry.load_ranker(serving.version))
    show.ranked(out, lists, f"{user}, by ranker version {serving.version}")


@app.command()
def explain(
    project: ProjectFile,
    impression: Annotated[
        str | None, typer.Option(help="Impression id, as in the logs: a list that was shown.")
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="User id, as in the logs: what they would be shown.", callback=_filled),
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Instant of the user's request; by default the newest slice's end.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Why each candidate stands where the champion puts it, in a past list or for a user at an instant."""
    from pipelines import requests

    if (impression is None) == (user is None) or (at and impression):
        raise ProjectError(
            "explain takes either --impression ID, or --user ID and, if you like, --at INSTANT"
        )
    deployment = _open(project, overrides)
    serving = show.require_ranker(deployment)
    ranker = deployment.registry.load_ranker(serving.version)
    if user is None:
        rows = requests.explain(deployment, str(impression), ranker)
    else:
        instant, k = _instant(at) if at else None, deployment.project.lists.k
        stored = _stored(deployment, user)
        rows = requests.explain_user(deployment, stored, instant, k, ranker)
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
    promoted = promote_by_hand(deployment, version, reason)
    out.print(f"{deployment.registry.name('ranker')} version {promoted} is champion")


@app.command()
def rollback(project: ProjectFile, reason: Reason = "", overrides: Overrides = None) -> None:
    """Make the champion before the present one champion again. Twice goes back two."""
    registry = _open(project, overrides).registry
    out.print(f"{registry.name('ranker')} version {registry.rollback(reason)} is champion again")


@app.command()
def history(project: ProjectFile, overrides: Overrides = None) -> None:
    """Who was made champion when, in whose place, and why."""
    registry = _open(project, overrides).registry
    show.history(out, registry.history(), registry.champion(), registry.name("ranker"))


@app.command()
def forget(
    project: ProjectFile,
    user: UserId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even if runs seem to be under way.")] = False,
    overrides: Overrides = None,
) -> None:
    """Erase a person from tables, old versions of tables, pages and records, and leave them out from now on."""
    from pipelines.privacy import forgetting

    deployment = _open(project, overrides)
    initialise_dagster(deployment.settings)
    if not force:
        forgetting.require_quiet()
    traces = forgetting.find(deployment, user)
    out.print(f"{user}: {traces.total:,} rows in {len(traces.rows)} tables")
    if not yes:
        typer.confirm("Delete them for ever, with all older versions of all tables?", abort=True)
    for line in forgetting.told(deployment, traces, forgetting.forget(deployment, traces)):
        out.print(line, soft_wrap=True)


@app.command()
def ui(
    projects: Annotated[list[Path], typer.Argument(help="Project files; several are shown in one Dagster.")],
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of Dagster's page; by default 3000.")
    ] = None,
    mlflow_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of MLflow's page; by default 5000.")
    ] = None,
) -> None:
    """Open the Dagster and MLflow pages of one or more projects, until Ctrl-C."""
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
    from pipelines.service.running import run as serve_until_stopped

    serve_until_stopped(_open(project, overrides), host, port, lambda line: out.print(line, soft_wrap=True))


def _stored(deployment: Deployment, user: str) -> str:
    """A user id of the logs as the tables have it; says so where nobody has it."""
    from pipelines.requests import met

    stored = deployment.privacy.stored(user)
    if not met(deployment.lake, stored):
        out.print(f"no log has a user {user!r}: ranked as a new user, by what everybody does")
    return stored


def _instant(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError:
        raise ProjectError(
            f"{text!r} is not an instant: write for example {datetime.now(UTC).isoformat(timespec='seconds')!r}"
        ) from None
