"""What is wrong, or looks wrong, before any work begins: `check` and `run` ask first."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from features.catalogue import catalogue
from features.config.project import Project
from features.errors import ProjectError
from features.ranking_dataset import text_columns
from models.interest_input import require_interest
from pipelines.deployment import Deployment

MANY_PARTITIONS = 25_000
"""Beyond so many, Dagster's pages and daemons become slow."""
_SHORT_GAP = 7  # slices that may be empty without a word
_YEAR = timedelta(days=365)


def preflight(deployment: Deployment) -> None:
    """Raise what a run would raise later: a feature, an encoder or a device that does not exist; tell what is slow."""
    project = deployment.project
    columns = catalogue(project)["name"].to_list()
    if columns == text_columns(columns):
        raise ProjectError(
            "features.select leaves no feature of behaviour, and a ranker is evaluated beside one without text: select "
            "at least one that does not begin with text_"
        )
    require_interest(project, here=deployment.settings.engine == "embedded")
    count = partitions(project, datetime.now(UTC))
    if count > MANY_PARTITIONS:
        span = "in all" if project.slices.end else "in the first year"
        deployment.tell(
            f"warning: slices.every makes {count:,} slices {span}, and Dagster becomes slow beyond "
            f"{MANY_PARTITIONS:,}: choose a longer slices.every"
        )


def partitions(project: Project, now: datetime) -> int:
    """How many slices there are, or, without an end, will be within a year of the start, if it is not longer ago."""
    slices = project.slices
    return ((slices.end or max(now, slices.start + _YEAR)) - slices.start) // slices.every


def last_with_events(held: Collection[str], project: Project) -> str:
    """The newest slice in which anything was shown or done. Raises ProjectError where there is none."""
    if not held:
        raise ProjectError(
            f"no impression and no interaction of the logs lies in a slice: slices begin at "
            f"{project.slices.start.isoformat()}; `momentrank check` says what was refused"
        )
    return max(held)


def gap(
    held: Collection[str], project: Project, first: str | None = None, last: str | None = None
) -> str | None:
    """A sentence where more slices in a row are empty than have events at all (`held`), or None.

    `first`, `last`: the run's slices; by default all that `momentrank run` would take.
    """
    slices = project.slices
    first = first or slices.key(slices.start)
    last = last or (slices.last_ended(datetime.now(UTC)) if slices.end else max(held, default=None))
    if last is None:
        return None
    held = {key for key in held if first <= key <= last}
    widest = slices.widest_gap(first, last, held)
    if widest is None or widest[2] <= max(_SHORT_GAP, len(held)):
        return None
    begin, end, empty = widest
    return (
        f"warning: {empty:,} slices in a row have no events, {begin} to {end}, and only {len(held):,} slices have "
        "any: if that is not meant, set slices.start and slices.end, or a longer slices.every"
    )
