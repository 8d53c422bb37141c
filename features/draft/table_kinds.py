"""Choose the log and the items table among several tables."""

from collections.abc import Sequence

from features.draft.column_content import Column, describe, overlap
from features.draft.guesses import join_names
from features.draft.names import suggests
from features.draft.roles import MIN_KNOWN, MIN_KNOWN_IN_SAMPLE, find_key, find_roles
from features.draft.sample import ITEMS_FACTOR, Sample, read_samples
from features.errors import SourceError


def choose_tables(
    samples: Sequence[Sample], items: Sequence[Sample]
) -> tuple[Sample, Sample | None, Column | None]:
    """Choose the log, the items and the items' id column. Raises SourceError if no table can be a log."""
    tables = [sample for sample in samples if sample.frame.width > 1 and sample.frame.height]
    if not tables:
        raise SourceError(
            _not_a_table([*samples, *items]) if samples else not_a_log(items[0], "only the items")
        )
    if items:
        described = items[0]
        others = [s for s in tables if set(s.files).isdisjoint(described.files)]
        if not others:
            raise SourceError(not_a_log(described, "only the items"))
        log = max(others, key=lambda s: _log_score(s, describe(described.frame)))
        key = find_key(describe(described.frame), describe(log.frame))
        if key is None:
            raise SourceError(
                f"{described.files[0]} has no column of unique ids, only {join_names(described.frame.columns)}: "
                "an items file has one row per item, with its id as in the log"
            )
        return log, described, key
    log = max(tables, key=lambda s: _log_score(s, []))
    columns = describe(log.frame)
    others = [s if s.complete else read_samples(s.files, ITEMS_FACTOR)[0] for s in tables if s is not log]
    keys = [(s, find_key(describe(s.frame), columns)) for s in others]
    scored = [(_items_score(s, key, columns), s, key) for s, key in keys if key is not None]
    best = max(scored, key=lambda entry: entry[0], default=None)
    if best is None or best[0] <= 0:
        return log, None, None
    return log, best[1], best[2]


def min_known_share(described: Sample) -> float:
    """Share of the log's ids that a sample of items must contain."""
    return MIN_KNOWN if described.complete else MIN_KNOWN_IN_SAMPLE


def _log_score(sample: Sample, items: Sequence[Column]) -> tuple[bool, int, int]:
    """Score a table as a log: a time, a repeated user and an item; clicks or grades; size."""
    columns = describe(sample.frame)
    roles = find_roles(columns, find_key(items, columns) if items else None)
    repeats = roles.user is not None and not roles.user.unique
    complete = roles.time is not None and repeats and roles.item is not None
    return (complete, (roles.time is not None) + (roles.clicked is not None), sample.size)


def _items_score(sample: Sample, key: Column, log: Sequence[Column]) -> float:
    """Score a table as the items: its ids are item ids of the log, and it has texts."""
    known = min_known_share(sample)
    roles = find_roles(log, key, known)
    if roles.item is None or overlap(roles.item.values, key.values) <= known:
        return 0.0
    if suggests(key.name, "user") and not suggests(key.name, "item"):
        return 0.0
    return 1.0 + sum(column.sentences for column in describe(sample.frame))


def _not_a_table(samples: Sequence[Sample]) -> str:
    for sample in samples:
        if sample.frame.width == 1:
            return (
                f"{sample.files[0]} has one column, {sample.frame.columns[0]!r}: a log has at least a user, "
                "a time and an item. Is its separator other than , tab ; or |?"
            )
    return f"{samples[0].files[0]} has no rows: expected a header and rows"


def not_a_log(sample: Sample, problem: str) -> str:
    """The error message for a table that cannot be a log."""
    return (
        f"{sample.files[0]} is not a log: found {problem} in the columns {join_names(sample.frame.columns, 12)}. "
        "A log has a user, an item and a time. Name it: momentrank init LOGS --items ITEMS"
    )
