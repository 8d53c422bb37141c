"""Forgetting a person: out of every table, every older version of one, every page and record that names them."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.config.sections import Source
from features.errors import ProjectError
from models.registry.erasure import PAGE
from models.registry.registry import Kind, Registry
from models.report.audit import list_heading
from pipelines.compute.scratch import Scratch
from pipelines.deployment import Deployment
from pipelines.lake import SLICE, Lake
from pipelines.privacy.sweeping import Swept, distinctive, quoting, spellings, sweep
from pipelines.settings.settings import Settings

SAW = "saw_forgotten"
"""Tag of a model version: how many people it was fitted on who were forgotten since."""

_KINDS: tuple[Kind, ...] = ("ranker", "interest")
_USER, _LIST, _RAW = "user_id", "impression_id", "raw"
_FACTS = ("impressions", "interactions")


@dataclass(frozen=True)
class Traces:
    """What is known of a person."""

    names: tuple[str, ...]
    """Their id in the logs and, where it is another, in the tables."""
    lists: pl.Series
    """Ids of the lists that they were shown."""
    rows: Mapping[str, Mapping[str, int]]
    """Table → slice → rows about them."""
    slices: tuple[str, ...]
    """Slices in which they were shown or did something."""
    seen: dict[Kind, tuple[str, ...]]
    """Versions of each kind of model that were fitted on them."""

    @property
    def total(self) -> int:
        """Rows in all tables."""
        return sum(sum(slices.values()) for slices in self.rows.values())


@dataclass(frozen=True)
class Erased:
    """What forgetting did beside deleting the rows."""

    files: int
    """Parquet files removed."""
    pages: int
    """Reports removed, here and in MLflow."""
    swept: Swept


def find(deployment: Deployment, user: str) -> Traces:
    """What the tables hold of a person, by their id as in the logs.

    Raises ProjectError before any run, and for an id that no table knows, unless it was forgotten before: what was
    cut short then is finished by asking again.
    """
    lake, stored = deployment.lake, deployment.privacy.stored(user)
    names = tuple(dict.fromkeys((user, stored)))
    columns = {table: lake.scan(table).collect_schema().names() for table in lake.tables()}
    both = [table for table, has in columns.items() if {_USER, _LIST} <= set(has)]
    shown = [
        lake.scan(table).filter(pl.col(_USER) == stored).select(_LIST).drop_nulls().collect().to_series()
        for table in both
    ]
    lists = pl.concat([pl.Series(_LIST, [], pl.String), *shown]).unique()
    rows = {}
    for table, has in columns.items():
        about = _about((stored, lists), has) | _quotes(names, has, _user_key(deployment.project.source))
        found = lake.scan(table).filter(about).group_by(SLICE).len().collect().sort(SLICE)
        rows[table] = dict(found.iter_rows())
    by_id = [name for name in rows if rows[name] and ({_USER, _LIST} & {*columns[name]} or distinctive(user))]
    if not by_id and not deployment.privacy.forgot(stored):
        raise ProjectError(_unknown(lake, deployment.settings.project, user))
    slices = tuple(sorted({slice for table in _FACTS for slice in rows.get(table, {})}))
    seen = {kind: tuple(_seen(deployment.registry, kind, slices)) for kind in _KINDS}
    return Traces(names, lists, {table: found for table, found in rows.items() if found}, slices, seen)


def _unknown(lake: Lake, file: Path, user: str) -> str:
    if not lake.slices(_FACTS[0]):
        return (
            f"nothing is kept of anybody yet, so nothing was changed: there is no table in {lake.root}. "
            f"momentrank run {file} makes them from the logs"
        )
    return (
        f"no table has a row about user {user!r}, so nothing was changed: give the id exactly as it is in the logs "
        "(one person's, upper and lower case kept)"
    )


def require_quiet() -> None:
    """Raise ProjectError while runs are under way: one of them would write the person's rows once more."""
    import dagster as dg

    from pipelines.liveness import fail_dead

    status = dg.DagsterRunStatus
    busy = [status.QUEUED, status.NOT_STARTED, status.STARTING, status.STARTED, status.CANCELING]
    with dg.DagsterInstance.get() as instance:
        fail_dead(instance)
        runs = instance.get_runs(dg.RunsFilter(statuses=busy))
    if runs:
        raise ProjectError(
            f"{len(runs)} runs are under way, the first {runs[-1].run_id}, and would write this person's rows once "
            "more: let them end, or cancel them in Dagster's page; --force goes on beside them"
        )


def forget(deployment: Deployment, traces: Traces) -> Erased:
    """Erase a person. What is cut short is finished by asking again: they are left out from the first step on."""
    deployment.privacy.remember(traces.names[-1], traces.seen)
    for kind in _KINDS:
        for version, count in deployment.privacy.saw(kind).items():
            deployment.registry.tag(kind, version, SAW, count)
    _delete_rows(deployment.lake, traces, _user_key(deployment.project.source), deployment.tell)
    files = sum(deployment.lake.purge(table, strays=True) for table in deployment.lake.tables())
    # An interrupted fit would go on with what it has learnt of them, and what was to be handed on names them.
    shutil.rmtree(deployment.settings.checkpoints / deployment.project.name, ignore_errors=True)
    Scratch(deployment.scratch(), deployment.settings.storage_options).remove()
    reports = deployment.settings.report(deployment.project.name)
    pages = _erase_pages(deployment.registry, reports, traces.names)
    swept = sweep(deployment.settings.home, traces.names, _spared(deployment.settings))
    return Erased(files, pages, swept)


def told(deployment: Deployment, traces: Traces, erased: Erased) -> Iterator[str]:
    """What was done, what was not, and what remains to be done, in sentences."""
    tables = ", ".join(f"{table} {sum(slices.values()):,}" for table, slices in traces.rows.items())
    yield f"{traces.total:,} rows deleted ({tables or 'none was there'})"
    yield f"{erased.files:,} files of older table versions removed; those versions can no longer be read"
    yield f"{erased.pages} reports removed, {len(erased.swept.mended)} other files cleaned of the id"
    for path in erased.swept.left:
        yield f"could not be cleaned, stop what uses it and run this again: {path}"
    if not distinctive(traces.names[0]):
        yield f"{traces.names[0]!r} is too short to be told from other text: logs and run records were not searched"
    yield "the source's logs still hold this person: they are yours to clean; ingest leaves their rows out from now on"
    yield "totals of items, attributes and everybody together still count what they did, under no name"
    yield from _about_models(deployment, traces)


def _about_models(deployment: Deployment, traces: Traces) -> Iterator[str]:
    for kind, versions in traces.seen.items():
        if versions:
            name, numbers = deployment.registry.name(kind), ", ".join(versions)
            yield f"{name}: versions {numbers} were fitted on this person's lists and are tagged {SAW}"
    if traces.slices:
        yield (
            f"to have totals and models without them: momentrank run {deployment.settings.project} --from "
            f"{traces.slices[0]}"
        )
    champion = deployment.champion()
    if champion and champion.version in traces.seen["ranker"]:
        yield (
            f"the champion, version {champion.version}, is one of them and serves until another is promoted: after "
            f"that run, momentrank promote {deployment.settings.project} challenger"
        )


def _about(traces: tuple[str, pl.Series], columns: Sequence[str]) -> pl.Expr:
    """Which rows of a table with these columns are about the person, by their stored id or one of their lists."""
    stored, lists = traces
    conditions = [pl.lit(False)]
    if _USER in columns:
        conditions.append(pl.col(_USER) == stored)
    if _LIST in columns:
        conditions.append(pl.col(_LIST).is_in(lists.implode()))
    return pl.any_horizontal(conditions).fill_null(False)


def _quotes(names: Sequence[str], columns: Sequence[str], key: str) -> pl.Expr:
    """Which rows of a table with these columns name the person in the text of a refused row.

    A short id may be anything: it counts as the value of the logs' `key`, or where a row has no keys, as a whole cell.
    """
    if _RAW not in columns:
        return pl.lit(False)
    return pl.any_horizontal(pl.col(_RAW).str.contains(_naming(name, key)) for name in names)


def _naming(name: str, key: str) -> str:
    # Polars' patterns know no look-around, and a text too many does no harm.
    literal = "|".join(map(re.escape, spellings(name)))
    if distinctive(name):
        return rf"(?:^|[^A-Za-z0-9_-])(?:{literal})(?:$|[^A-Za-z0-9_-])"
    value = rf'\s*"?(?:{literal})"?\s*'
    member, cell = rf'"{re.escape(key)}"\s*:{value}(?:[,}}]|$)', rf"{value}(?:[,;|\t]|$)"
    return rf"(?s){member}|^{cell}|^[^{{].*[,;|\t]{cell}"


def _user_key(source: Source) -> str:
    """How the logs call a user id."""
    tables = source.tables
    return tables.user if tables else "user"


def _delete_rows(lake: Lake, traces: Traces, key: str, tell: Callable[[str], None]) -> None:
    for table, slices in traces.rows.items():
        for slice in slices:
            frame = lake.read(table, [slice])
            kept = frame.filter(~_about((traces.names[-1], traces.lists), frame.columns))
            if _RAW in frame.columns:
                quotes = _quotes(traces.names, frame.columns, key)
                blank = pl.when(quotes).then(pl.lit("")).otherwise(_RAW)
                kept = kept.with_columns(blank.alias(_RAW))
            lake.write(table, slice, kept)
        tell(f"{table}: {sum(slices.values()):,} rows in {len(slices)} slices")


def _seen(registry: Registry, kind: Kind, slices: Sequence[str]) -> Iterator[str]:
    """Versions fitted on any of the slices; an interest model goes on from all those before it."""
    for version in registry.versions(kind) if slices else ():
        first, last = "", version["slice"] or ""
        if kind == "ranker":
            first = version["tags"].get("window", "").partition(" … ")[0]
        if any(first <= slice <= last for slice in slices):
            yield version["version"]


def _erase_pages(registry: Registry, folder: Path, names: Sequence[str]) -> int:
    pattern, headings = quoting(names), [*map(list_heading, names)]

    def shows(page: str) -> bool:
        return any(heading in page for heading in headings) or bool(pattern.search(page))

    here = [path for path in folder.rglob(f"*{PAGE}") if shows(path.read_text(encoding="utf-8"))]
    for path in here:
        path.unlink()
    return len(here) + registry.erase_pages(lambda _, page: shows(page))


def _spared(settings: Settings) -> list[Path]:
    """What is not swept: the tables, and logs that were copied here."""
    return [
        settings.home / "lake",
        Path(settings.lake),
        settings.home / "newsroom",
        settings.home / "landing",
    ]
