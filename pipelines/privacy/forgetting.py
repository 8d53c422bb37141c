"""Erase a user from every table, its older versions, and every page and record that names them."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.config.sections import Source
from features.errors import ProjectError
from models.interest_input import QUERY_CACHE
from models.registry.erasure import PAGE
from models.registry.registry import Kind, Registry
from models.report.audit import list_heading
from pipelines.deployment import Deployment
from pipelines.lake import SLICE, Lake
from pipelines.privacy.sweeping import SweepResult, distinctive, id_pattern, spellings, sweep

FORGOTTEN_TAG = "saw_forgotten"
"""Tag of a model version: number of users it was fitted on that were forgotten since."""

_KINDS: tuple[Kind, ...] = ("ranker", "interest")
_USER, _LIST, _RAW = "user_id", "impression_id", "raw"
_EVENTS = ("impressions", "interactions")


@dataclass(frozen=True)
class Traces:
    """Where a user's data is."""

    names: tuple[str, ...]
    """The user's id in the logs and, if different, in the tables."""
    lists: pl.Series
    """Ids of the user's impressions."""
    rows: Mapping[str, Mapping[str, int]]
    """Table → slice → number of rows about the user."""
    slices: tuple[str, ...]
    """Slices with impressions or interactions of the user."""
    versions: dict[Kind, tuple[str, ...]]
    """Model kind → versions fitted on the user's events."""

    @property
    def total(self) -> int:
        """Number of rows in all tables."""
        return sum(sum(slices.values()) for slices in self.rows.values())


@dataclass(frozen=True)
class Erased:
    """What was removed besides table rows."""

    files: int
    """Parquet files removed."""
    pages: int
    """Reports removed, here and in MLflow."""
    swept: SweepResult


def find(deployment: Deployment, user: str) -> Traces:
    """Find a user's data by their id as in the logs.

    Raises ProjectError if no table has the id, unless it was forgotten before: running again completes an interrupted
    erasure.
    """
    lake, stored = deployment.lake, deployment.privacy.stored(user)
    names = tuple(dict.fromkeys((user, stored)))
    columns = {table: lake.scan(table).collect_schema().names() for table in lake.tables()}
    with_both = [table for table, present in columns.items() if {_USER, _LIST} <= set(present)]
    impressions = [
        lake.scan(table).filter(pl.col(_USER) == stored).select(_LIST).drop_nulls().collect().to_series()
        for table in with_both
    ]
    lists = pl.concat([pl.Series(_LIST, [], pl.String), *impressions]).unique()
    rows = {}
    for table, present in columns.items():
        about = _about((stored, lists), present) | _quotes(
            names, present, _user_key(deployment.project.source)
        )
        counts = lake.scan(table).filter(about).group_by(SLICE).len().collect().sort(SLICE)
        rows[table] = dict(counts.iter_rows())
    by_id = [name for name in rows if rows[name] and ({_USER, _LIST} & {*columns[name]} or distinctive(user))]
    if not by_id and not deployment.privacy.is_forgotten(stored):
        raise ProjectError(_unknown(lake, deployment.settings.project, user))
    slices = tuple(sorted({slice for table in _EVENTS for slice in rows.get(table, {})}))
    versions = {kind: tuple(_seen(deployment.registry, kind, slices)) for kind in _KINDS}
    return Traces(names, lists, {table: counts for table, counts in rows.items() if counts}, slices, versions)


def _unknown(lake: Lake, file: Path, user: str) -> str:
    if not lake.slices(_EVENTS[0]):
        return f"nothing was changed: {lake.root} has no tables yet. `momentrank run {file}` makes them from the logs"
    return (
        f"nothing was changed: no table has a row about user {user!r}. Give the id exactly as in the logs, in the same "
        "case"
    )


def require_quiet() -> None:
    """Raise ProjectError while runs are in progress: they would write the user's rows again."""
    import dagster as dg

    from pipelines.liveness import fail_dead

    status = dg.DagsterRunStatus
    busy = [status.QUEUED, status.NOT_STARTED, status.STARTING, status.STARTED, status.CANCELING]
    with dg.DagsterInstance.get() as instance:
        fail_dead(instance)
        runs = instance.get_runs(dg.RunsFilter(statuses=busy))
    if runs:
        raise ProjectError(
            f"{len(runs)} runs are in progress, the first {runs[-1].run_id}, and would write this user's rows again: "
            "wait for them, cancel them in Dagster, or use --force"
        )


def forget(deployment: Deployment, traces: Traces) -> Erased:
    """Erase a user. The first step excludes them from ingestion. If interrupted, run it again."""
    deployment.privacy.mark_forgotten(traces.names[-1], traces.versions)
    for kind in _KINDS:
        for version, count in deployment.privacy.forgotten_since_fit(kind).items():
            deployment.registry.tag(kind, version, FORGOTTEN_TAG, count)
    _delete_rows(deployment.lake, traces, _user_key(deployment.project.source), deployment.tell)
    files = sum(deployment.lake.purge(table, strays=True) for table in deployment.lake.tables())
    # Checkpoints of an interrupted fit were trained on the user; scratch files may name them.
    shutil.rmtree(deployment.settings.checkpoints / deployment.project.name, ignore_errors=True)
    shutil.rmtree(deployment.settings.cache / QUERY_CACHE, ignore_errors=True)
    deployment.scratch().remove()
    reports = deployment.settings.report(deployment.project.name)
    pages = _erase_pages(deployment.registry, reports, traces.names)
    home = deployment.settings.home
    spared = [home / name for name in ("lake", "newsroom", "landing")]
    swept = sweep(home, traces.names, [*spared, Path(deployment.settings.lake)])
    return Erased(files, pages, swept)


def summary(registry: Registry, file: Path, traces: Traces, erased: Erased) -> Iterator[str]:
    """Lines that say what was erased, what was not, and what remains to be done; `file`: the project file."""
    tables = ", ".join(f"{table} {sum(slices.values()):,}" for table, slices in traces.rows.items())
    yield f"{traces.total:,} rows deleted ({tables or 'there were none'})"
    yield f"{erased.files:,} files of older table versions removed; those versions can no longer be read"
    yield f"{erased.pages} reports removed, {len(erased.swept.mended)} other files cleaned of the id"
    for path in erased.swept.left:
        yield f"could not be cleaned: {path}. Stop the process that uses it and run this command again"
    if not distinctive(traces.names[0]):
        yield f"{traces.names[0]!r} is too short to search for: logs and run records stay as they are"
    yield "the source's log files still contain this user: clean them yourself. Their rows are ignored from now on"
    yield "anonymous counters of items, attributes and all users still include their events"
    for kind, versions in traces.versions.items():
        if versions:
            name, numbers = registry.name(kind), ", ".join(versions)
            yield f"{name}: versions {numbers} were fitted on this user's impressions and are tagged {FORGOTTEN_TAG}"
    if traces.slices:
        yield (
            f"to rebuild counters and models without them: momentrank run {file} --from {traces.slices[0]}"
        )
    champion = registry.champion()
    if champion and champion.version in traces.versions["ranker"]:
        yield (
            f"the champion, version {champion.version}, is one of them and serves until another one is promoted: after "
            f"that run, momentrank promote {file} challenger"
        )


def _about(traces: tuple[str, pl.Series], columns: Sequence[str]) -> pl.Expr:
    """Whether a row is about the user, by their stored id or one of their impressions."""
    stored, lists = traces
    conditions = [pl.lit(False)]
    if _USER in columns:
        conditions.append(pl.col(_USER) == stored)
    if _LIST in columns:
        conditions.append(pl.col(_LIST).is_in(lists.implode()))
    return pl.any_horizontal(conditions).fill_null(False)


def _quotes(names: Sequence[str], columns: Sequence[str], key: str) -> pl.Expr:
    """Whether a rejected row's text names the user.

    A short id counts only as the value of `key`, or as a whole cell if the text has no keys.
    """
    if _RAW not in columns:
        return pl.lit(False)
    return pl.any_horizontal(pl.col(_RAW).str.contains(_naming(name, key)) for name in names)


def _naming(name: str, key: str) -> str:
    # Polars' regular expressions have no look-around. Blanking one text too many does no harm.
    literal = "|".join(map(re.escape, spellings(name)))
    if distinctive(name):
        return rf"(?:^|[^A-Za-z0-9_-])(?:{literal})(?:$|[^A-Za-z0-9_-])"
    value = rf'\s*"?(?:{literal})"?\s*'
    member, cell = rf'"{re.escape(key)}"\s*:{value}(?:[,}}]|$)', rf"{value}(?:[,;|\t]|$)"
    return rf"(?s){member}|^{cell}|^[^{{].*[,;|\t]{cell}"


def _user_key(source: Source) -> str:
    """Field of the user id in the logs."""
    tables = source.tables
    return tables.user if tables else "user"


def _delete_rows(lake: Lake, traces: Traces, key: str, tell: Callable[[str], None]) -> None:
    for table, slices in traces.rows.items():
        for slice in slices:
            frame = lake.read(table, [slice])
            rows = frame.filter(~_about((traces.names[-1], traces.lists), frame.columns))
            if _RAW in frame.columns:
                quotes = _quotes(traces.names, frame.columns, key)
                blank = pl.when(quotes).then(pl.lit("")).otherwise(_RAW)
                rows = rows.with_columns(blank.alias(_RAW))
            lake.write(table, slice, rows)
        tell(f"{table}: {sum(slices.values()):,} rows in {len(slices)} slices")


def _seen(registry: Registry, kind: Kind, slices: Sequence[str]) -> Iterator[str]:
    """Versions fitted on any of the slices. An interest model continues from all earlier slices."""
    for version in registry.versions(kind) if slices else ():
        first, last = "", version["slice"] or ""
        if kind == "ranker":
            first = version["tags"].get("window", "").partition(" … ")[0]
        if any(first <= slice <= last for slice in slices):
            yield version["version"]


def _erase_pages(registry: Registry, folder: Path, names: Sequence[str]) -> int:
    pattern, headings = id_pattern(names), [*map(list_heading, names)]

    def names_user(page: str) -> bool:
        return any(heading in page for heading in headings) or bool(pattern.search(page))

    reports = [path for path in folder.rglob(f"*{PAGE}") if names_user(path.read_text(encoding="utf-8"))]
    for path in reports:
        path.unlink()
    return len(reports) + registry.erase_pages(lambda _, page: names_user(page))
