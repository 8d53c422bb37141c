"""Which table is the log and which the items, and which column of the log is the person, the time, the item…"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import polars as pl

from features.draft.columns import NEARLY_ALL, Column, mean, overlap
from features.draft.names import leads, says

KNOWN = 0.5
"""Share of a log column's ids that the items table must hold for the column to be called the item by content."""
KNOWN_IN_PART = 0.1
"""The same, where only a part of the items table was looked at."""


@dataclass(frozen=True)
class Roles:
    """Columns of a log by what they hold; None where no column does."""

    user: Column | None
    time: Column | None
    item: Column | None
    """Of single items, or the list column of items shown."""
    clicked: Column | None = None
    """List column of items clicked, a flag, or a grade."""
    graded: bool = False
    """Whether `clicked` is a grade of more than two values."""
    impression: Column | None = None
    session: Column | None = None
    known_at: Column | None = None
    position: Column | None = None
    kind: Column | None = None
    """Where rows are of several kinds of interaction."""
    together: bool = False
    """Whether several rows share an impression: their `impression`, or their person and instant."""
    context: tuple[Column, ...] = ()
    likely: dict[str, str] = field(default_factory=dict)
    """Role → how its column was recognised, where its name alone did not say it."""


def find_roles(columns: Sequence[Column], key: Column | None, known: float = KNOWN) -> Roles:
    """The roles of a log's columns; `key` is the items table's column of ids, where there is one.

    `known`: the share of an item column's ids that the key must hold.
    """
    ids = key.values if key is not None else None
    left = [column for column in columns if column.rows]
    time = _time(left)
    arrived = _known(left, time)
    left = [column for column in left if column.instants is None]
    shown, clicked = _lists(left, ids, known)
    left = [c for c in left if c is not shown and c is not clicked]
    item = shown if shown is not None else _item(left, ids, known)
    left = [c for c in left if c is not item and c.lists is None]
    user = _user(left)
    left = [c for c in left if c is not user]
    session = _session(left, user)
    left = [c for c in left if c is not session]
    impression = _impression(left, user, time, item)
    left = [c for c in left if c is not impression]
    together = shown is None and _together(impression, user, time)
    graded = False
    if shown is None:
        clicked = _flag(left, item, together)
        if clicked is None:
            clicked = _grade(left)
            graded = clicked is not None
    left = [c for c in left if c is not clicked]
    position = next((c for c in left if c.whole and says(c.name, "position")), None)
    kind = next((c for c in left if _is_kind(c)), None) if clicked is None else None
    left = [c for c in left if c is not position and c is not kind]
    likely = {}
    for role, column in (("user", user), ("item", item)):
        if column is not None and not says(column.name, role):
            likely[role] = f"no column's name says {role}"
    context = tuple(c for c in left if _is_context(c))[:4]
    return Roles(
        user=user,
        time=time,
        item=item,
        clicked=clicked,
        graded=graded,
        impression=impression,
        session=session,
        known_at=arrived,
        position=position,
        kind=kind,
        together=together,
        context=context,
        likely=likely,
    )


def find_key(columns: Sequence[Column], logs: Sequence[Column]) -> Column | None:
    """The items table's column of ids: unique, and of these the one that most log ids are in."""
    unique = [c for c in columns if c.identifier and c.distinct >= 0.98 * c.rows and c.filled > NEARLY_ALL]

    def fit(column: Column) -> tuple[float, bool, bool]:
        shared = max(
            (overlap(c.values, column.values) for c in logs if c.identifier or c.lists is not None), default=0
        )
        return (round(shared, 1), says(column.name, "item"), says(column.name, "identifier"))

    return max(unique, key=fit, default=None)


def _time(columns: Sequence[Column]) -> Column | None:
    times = [c for c in columns if c.instants is not None and c.filled > 0.5]

    def fit(column: Column) -> tuple[bool, bool, bool, float]:
        assert column.instants is not None
        own = not (says(column.name, "known") or says(column.name, "published"))
        return (own, says(column.name, "time"), column.instants.is_sorted(), column.filled)

    return max(times, key=fit, default=None)


def _known(columns: Sequence[Column], time: Column | None) -> Column | None:
    """A second time column, never before the first, whose name says that something arrived."""
    for column in columns:
        if time is None or column is time or column.instants is None or not says(column.name, "known"):
            continue
        assert time.instants is not None
        later = (column.instants >= time.instants).drop_nulls()
        if len(later) and later.all() and column.filled > NEARLY_ALL:
            return column
    return None


def _lists(
    columns: Sequence[Column], ids: pl.Series | None, known: float
) -> tuple[Column | None, Column | None]:
    """The list column of items shown, and the column of those clicked, which they hold row by row."""
    lists = [c for c in columns if c.lists is not None]
    if ids is not None and any(overlap(c.values, ids) > known for c in lists):
        lists = [c for c in lists if overlap(c.values, ids) > known]
    found: list[tuple[tuple[int, bool, float], Column, Column]] = []
    for shown in lists:
        for clicked in columns:
            if clicked is shown or not _holds(shown, clicked):
                continue
            named = says(shown.name, "shown") + says(clicked.name, "clicked")
            size = mean(cast(pl.Series, shown.lists).list.len())
            found.append(((named, clicked.lists is not None, size), shown, clicked))
    if found:
        _, shown, clicked = max(found, key=lambda one: one[0])
        return shown, clicked
    alone = (c for c in lists if says(c.name, "shown") or says(c.name, "item"))
    return next(alone, None), None


def _holds(shown: Column, clicked: Column) -> bool:
    """Whether what is clicked in a row is among what is shown in it, and is not all of it."""
    assert shown.lists is not None
    if clicked.lists is None and not clicked.identifier:
        return False
    picked = (
        clicked.lists
        if clicked.lists is not None
        else clicked.cells.cast(pl.String).reshape((-1, 1)).arr.to_list()
    )
    rows = pl.DataFrame({"shown": shown.lists, "picked": picked.list.drop_nulls()}).drop_nulls()
    rows = rows.filter(pl.col("picked").list.len() > 0)
    if rows.height < 2:
        return False
    inside = pl.col("picked").list.set_difference("shown").list.len() == 0
    fewer = pl.col("picked").list.len() < pl.col("shown").list.len()
    share, less = rows.select(inside.mean().alias("share"), fewer.mean().alias("less")).row(0)
    return bool(share >= NEARLY_ALL and less > 0.3)


def _item(columns: Sequence[Column], ids: pl.Series | None, known: float) -> Column | None:
    single = [c for c in columns if c.identifier and not c.flag]

    def fit(column: Column) -> tuple[bool, bool, bool, int]:
        described = ids is not None and overlap(column.values, ids) > known
        own = not says(column.name, "user") and not says(column.name, "session")
        return (
            described,
            own and says(column.name, "item"),
            own and leads(column.name, "item"),
            column.distinct,
        )

    best = max(single, key=fit, default=None)
    return best if best is not None and any(fit(best)[:2]) else None


def _user(columns: Sequence[Column]) -> Column | None:
    single = [c for c in columns if c.identifier and not c.flag and c.filled > 0.5]

    def fit(column: Column) -> tuple[bool, bool, int]:
        other = says(column.name, "session") or says(column.name, "impression") or says(column.name, "kind")
        return (says(column.name, "user") and not other, not column.unique and not other, column.distinct)

    best = max(single, key=fit, default=None)
    return best if best is not None and (fit(best)[0] or (fit(best)[1] and best.distinct > 2)) else None


def _session(columns: Sequence[Column], user: Column | None) -> Column | None:
    """A column that says session, and whose values have one person each."""
    named = (c for c in columns if c.identifier and says(c.name, "session"))
    return next((c for c in named if user is None or _constant(user, c)), None)


def _impression(
    columns: Sequence[Column], user: Column | None, time: Column | None, item: Column | None
) -> Column | None:
    """A column of ids with one person and one instant each: unique in lists, shared by an impression's rows."""
    if user is None or time is None:
        return None
    single = [c for c in columns if c.identifier and not c.flag and c.filled == 1]
    single = [c for c in single if _constant(user, c) and _constant(time, c) and c.distinct > 0.01 * c.rows]
    named = [c for c in single if says(c.name, "impression")]
    if item is None or item.lists is None:
        # Where rows are single items, an id that no two rows share is an event's.
        named = [c for c in named if not c.unique]
        single = [c for c in single if not c.unique]
    else:
        single = [c for c in single if c.unique]
    return next(iter(named or single), None)


def _constant(column: Column, within: Column) -> bool:
    """Whether nearly all values of a column have one value of the other."""
    frame = pl.DataFrame({"group": within.cells, "value": column.cells})
    one = frame.group_by("group").agg(pl.col("value").n_unique() == 1)
    return mean(one["value"]) >= NEARLY_ALL


def _together(impression: Column | None, user: Column | None, time: Column | None) -> bool:
    if impression is not None:
        return True
    if user is None or time is None:
        return False
    sizes = pl.DataFrame({"user": user.cells, "time": time.cells}).group_by("user", "time").len()["len"]
    return mean(sizes) >= 2


def _flag(columns: Sequence[Column], item: Column | None, together: bool) -> Column | None:
    """The flag that says clicked: by its name, or as the only flag of rows that share impressions."""
    if item is None:
        return None
    flags = [c for c in columns if c.flag and c.distinct == 2]
    named = [c for c in flags if says(c.name, "clicked")]
    return next(iter(named or (flags if together and len(flags) == 1 else [])), None)


def _grade(columns: Sequence[Column]) -> Column | None:
    """A number of few values whose name says grade."""
    grades = (
        c for c in columns if c.numbers is not None and 2 <= c.distinct <= 101 and says(c.name, "grade")
    )
    return next(grades, None)


def _is_kind(column: Column) -> bool:
    return (
        column.identifier
        and column.numbers is None
        and 2 <= column.distinct <= 20
        and says(column.name, "kind")
    )


def _is_context(column: Column) -> bool:
    """Whether a column of a log can describe the occasion: few values, and nothing that came of it."""
    if says(column.name, "outcome") or column.flag or not 2 <= column.distinct <= min(50, 0.2 * column.rows):
        return False
    return column.identifier and column.filled > NEARLY_ALL
