"""`momentrank`: check, run, evaluate, rank, explain, promote, roll back, and the two pages. No second code path."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console

from features.errors import MomentRankError, ProjectError
from features.slices import parse_instant
from pipelines import console as show
from pipelines.deployment import Deployment
from pipelines.settings import initialise_dagster, load, prepare

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
out = Console(highlight=False)

ProjectFile = Annotated[Path, typer.Argument(help="Project file, for example projects/newsroom.toml.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="key.path=value, the value as TOML. Repeatable.")
]


def main() -> None:
    """Run the command line; a mistake that a person can mend is one message and exit status 1."""
    try:
        app()
    except MomentRankError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]error[/] {show.escape(str(error))}")
        sys.exit(1)


def _open(project: Path, overrides: list[str] | None = None) -> Deployment:
    settings = load().model_copy(update={"project": project.resolve(), "overrides": tuple(overrides or ())})
    prepare(settings)
    return Deployment(settings.open_project(), settings, _teller())


def _teller() -> Callable[[str], None]:
    began = monotonic()

    def tell(line: str) -> None:
        out.print(f"[dim]{monotonic() - began:7.1f} s[/]  {show.escape(line)}", soft_wrap=True)

    return tell


@app.command()
def check(project: ProjectFile, overrides: Overrides = None) -> None:
    """Say what is wrong with a project file and its logs, or what was found in them."""
    deployment = _open(project, overrides)
    show.inputs(out, deployment, deployment.ingest())


@app.command()
def run(
    project: ProjectFile,
    since: Annotated[str | None, typer.Option("--from", help="First slice.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Last slice.")] = None,
    overrides: Overrides = None,
) -> None:
    """Materialise every asset over the project's slices, or a range of them, and show what came of it."""
    from pipelines.running import materialise

    deployment = _open(project, overrides)
    initialise_dagster(deployment.settings)
    began = monotonic()
    last = materialise(deployment, since, until)
    show.results(out, deployment, last, monotonic() - began)


@app.command()
def evaluate(
    project: ProjectFile,
    frozen_after: Annotated[
        str, typer.Option(help="Fit on lists shown before this instant; judge the others.")
    ],
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the figures.")] = None,
    static: Annotated[bool, typer.Option(help="Stop the moment state at the instant too.")] = False,
    new_items: Annotated[
        float | None, typer.Option(help="This share of the items is new at the instant, and judged alone.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the fits and the new items; by default the project's.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Fit with this many seeds, the next ones too.")] = 1,
    overrides: Overrides = None,
) -> None:
    """Fit once, then judge every later list with models that stay as they are."""
    from pipelines.frozen import evaluate_frozen

    deployment, cut = _open(project, overrides), _instant(frozen_after)
    first = deployment.project.seed if seed is None else seed
    figures = evaluate_frozen(
        deployment, cut, static=static, new_items=new_items, seeds=range(first, first + seeds)
    )
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    show.quality(out, figures, f"{deployment.project.name}, frozen after {frozen_after}")
    show.gain(out, figures["gain"])
    if "spread" in figures:
        show.spread(out, figures["spread"], f"over {seeds} seeds, from {first}")


@app.command()
def rank(
    project: ProjectFile,
    user: Annotated[str, typer.Option(help="User id, as in the logs.")],
    at: Annotated[
        str | None, typer.Option(help="Instant of the request; by default the newest slice's end.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Length of the list.")] = 10,
    overrides: Overrides = None,
) -> None:
    """What a user would be shown at an instant, and why."""
    from pipelines.requests import rank as rank_for

    deployment = _open(project, overrides)
    serving = show.require_ranker(deployment)
    instant = _instant(at) if at else None
    lists = rank_for(deployment, [user], instant, k, deployment.registry.load_ranker(serving.version))
    show.ranked(out, lists, f"{user}, by ranker version {serving.version}")


@app.command()
def explain(
    project: ProjectFile,
    impression: Annotated[str, typer.Option(help="Impression id, as in the logs.")],
    overrides: Overrides = None,
) -> None:
    """Why each candidate of a past list stands where the champion puts it."""
    from pipelines.requests import explain as explain_list

    deployment = _open(project, overrides)
    serving = show.require_ranker(deployment)
    rows = explain_list(deployment, impression, deployment.registry.load_ranker(serving.version))
    show.explained(out, rows, f"{impression}, by ranker version {serving.version}")


@app.command()
def promote(project: ProjectFile, version: str) -> None:
    """Make a ranker version the champion."""
    deployment = _open(project)
    deployment.registry.promote(version)
    out.print(f"{deployment.registry.name('ranker')} version {version} is champion")


@app.command()
def rollback(project: ProjectFile) -> None:
    """Make the previous champion the champion again."""
    deployment = _open(project)
    version = deployment.registry.rollback()
    out.print(f"{deployment.registry.name('ranker')} version {version} is champion again")


@app.command()
def ui(
    project: ProjectFile,
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
) -> None:
    """Open the Dagster and MLflow pages of this project, until Ctrl-C."""
    from pipelines.running import serve

    deployment = _open(project, overrides)
    initialise_dagster(deployment.settings)
    serve(deployment, host, out.print)


def _instant(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError:
        raise ProjectError(
            f"{text!r} is not an instant: write for example {datetime.now(UTC).isoformat(timespec='seconds')!r}"
        ) from None
