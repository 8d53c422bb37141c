"""Which of several tables is the log, and which describes the items."""

from collections.abc import Sequence

from features.draft.columns import Column, describe, overlap
from features.draft.guesses import listed
from features.draft.names import says
from features.draft.roles import KNOWN, KNOWN_IN_PART, find_key, find_roles
from features.draft.sample import MORE, Sample, take
from features.errors import SourceError


def choose_tables(
    samples: Sequence[Sample], items: Sequence[Sample]
) -> tuple[Sample, Sample | None, Column | None]:
    """The log, the items and the items' column of ids. Raises SourceError where no table can be a log."""
    tables = [sample for sample in samples if sample.frame.width > 1 and sample.frame.height]
    if not tables:
        raise SourceError(_too_little([*samples, *items]) if samples else no_log(items[0], "the items only"))
    if items:
        described = items[0]
        others = [s for s in tables if set(s.files).isdisjoint(described.files)]
        if not others:
            raise SourceError(no_log(described, "the items only"))
        log = max(others, key=lambda s: _likeness_of_log(s, describe(described.frame)))
        key = find_key(describe(described.frame), describe(log.frame))
        if key is None:
            raise SourceError(
                f"{described.files[0]} has no column of unique ids, only {listed(described.frame.columns)}: "
                "an items file has one row an item, with its id as in the log"
            )
        return log, described, key
    log = max(tables, key=lambda s: _likeness_of_log(s, []))
    columns = describe(log.frame)
    others = [s if s.complete else take(s.files, MORE)[0] for s in tables if s is not log]
    found = [(s, find_key(describe(s.frame), columns)) for s in others]
    fitting = [(_likeness_of_items(s, key, columns), s, key) for s, key in found if key is not None]
    best = max(fitting, key=lambda one: one[0], default=None)
    if best is None or best[0] <= 0:
        return log, None, None
    return log, best[1], best[2]


def share_known(described: Sample) -> float:
    """The share of the log's ids that a sample of items must hold to be believed."""
    return KNOWN if described.complete else KNOWN_IN_PART


def _likeness_of_log(sample: Sample, items: Sequence[Column]) -> tuple[bool, int, int]:
    """How much a table looks like a log: it has a time, a person and an item; clicks or grades; it is large."""
    columns = describe(sample.frame)
    roles = find_roles(columns, find_key(items, columns) if items else None)
    repeats = roles.user is not None and not roles.user.unique
    complete = roles.time is not None and repeats and roles.item is not None
    return (complete, (roles.time is not None) + (roles.clicked is not None), sample.size)


def _likeness_of_items(sample: Sample, key: Column, log: Sequence[Column]) -> float:
    """How much a table looks like the items: its ids are in the log and are no persons', and it has texts."""
    known = share_known(sample)
    roles = find_roles(log, key, known)
    if roles.item is None or overlap(roles.item.values, key.values) <= known:
        return 0.0
    if says(key.name, "user") and not says(key.name, "item"):
        return 0.0
    return 1.0 + sum(column.sentences for column in describe(sample.frame))


def _too_little(samples: Sequence[Sample]) -> str:
    for sample in samples:
        if sample.frame.width == 1:
            return (
                f"{sample.files[0]} has one column, {sample.frame.columns[0]!r}: a log has at least a user, "
                "a time and an item. Is it parted by something other than , tab ; or |?"
            )
    return f"{samples[0].files[0]} has no rows: expected a log with a header and rows"


def no_log(sample: Sample, found: str) -> str:
    """What to say of a table that cannot be a log."""
    return (
        f"{sample.files[0]} is no log: found {found}, in the columns {listed(sample.frame.columns, 12)}. "
        "A log says who met which item when. Name it: momentrank init LOGS --items ITEMS"
    )
