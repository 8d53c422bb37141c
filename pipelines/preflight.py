"""Checks before a run: settings that would fail later, and warnings."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta

from features.catalogue import catalogue
from features.config.project import Project
from features.config.slices import Slices
from features.errors import ProjectError
from features.ranking_dataset import text_columns
from models.evaluation.baselines import baselines_of
from models.evaluation.metrics import metrics_of
from models.interest_input import require_interest

MANY_PARTITIONS = 25_000
"""With more, Dagster's pages and daemons become slow."""
_SHORT_GAP = 7  # consecutive empty slices without a warning
_YEAR = timedelta(days=365)


def preflight(project: Project, here: bool, tell: Callable[[str], None]) -> None:
    """Raise early what a run would raise: a missing feature, metric, encoder or device. Warn about too many slices.

    `here`: whether this machine fits the models, and not a cluster.
    """
    baselines_of(project.evaluation)
    metrics_of(project.evaluation)
    columns = catalogue(project.behaviour)["name"].to_list()
    if columns == text_columns(columns):
        raise ProjectError(
            "features.select has only text features, but a ranker without text is fitted, too: select at least one "
            "feature that does not start with text_"
        )
    require_interest(project.interest, here=here)
    count = partitions(project.slices, datetime.now(UTC))
    if count > MANY_PARTITIONS:
        span = "in total" if project.slices.end else "in the first year"
        tell(
            f"warning: slices.every makes {count:,} slices {span}, and Dagster becomes slow with more than "
            f"{MANY_PARTITIONS:,}: choose a longer slices.every"
        )


def partitions(slices: Slices, now: datetime) -> int:
    """Number of slices until `slices.end`; without an end, until a year after the start or now, if later."""
    return ((slices.end or max(now, slices.start + _YEAR)) - slices.start) // slices.every


def last_with_events(with_events: Collection[str], start: datetime) -> str:
    """The newest slice with events. Raises ProjectError if there is none."""
    if not with_events:
        raise ProjectError(
            f"the logs have no impression or interaction in any slice: slices start at "
            f"{start.isoformat()}. `momentrank check` shows rejected rows"
        )
    return max(with_events)


def gap(
    with_events: Collection[str], slices: Slices, first: str | None = None, last: str | None = None
) -> str | None:
    """A warning if there are more consecutive empty slices than slices with events (`with_events`), else None.

    `first`, `last`: the run's slices; by default all that `momentrank run` would run.
    """
    first = first or slices.key(slices.start)
    last = last or (slices.last_ended(datetime.now(UTC)) if slices.end else max(with_events, default=None))
    if last is None:
        return None
    with_events = {key for key in with_events if first <= key <= last}
    widest = slices.widest_gap(first, last, with_events)
    if widest is None or widest[2] <= max(_SHORT_GAP, len(with_events)):
        return None
    begin, end, empty = widest
    return (
        f"warning: {empty:,} slices in a row, {begin} to {end}, have no events, and only {len(with_events):,} slices "
        "have any: if this is a mistake, set slices.start and slices.end, or a longer slices.every"
    )
