"""Find the role of each column of a log: user, time, item and so on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import polars as pl

from features.draft.column_content import NEARLY_ALL, Column, mean, overlap
from features.draft.names import begins_with, suggests

MIN_KNOWN = 0.5
"""Share of a column's ids that the items table must contain for the column to be the item."""
MIN_KNOWN_IN_SAMPLE = 0.1
"""The same, if the items table was sampled."""


@dataclass(frozen=True)
class Roles:
    """Columns of a log by role; None if no column has the role."""

    user: Column | None
    time: Column | None
    item: Column | None
    """Single items, or lists of items shown."""
    clicked: Column | None = None
    """Lists of clicked items, a flag, or a grade."""
    graded: bool = False
    """Whether `clicked` is a grade."""
    impression: Column | None = None
    session: Column | None = None
    known_at: Column | None = None
    position: Column | None = None
    kind: Column | None = None
    """Kind of interaction, if rows have several kinds."""
    shared_impressions: bool = False
    """Whether several rows share an impression: the same `impression`, or the same user and instant."""
    context: tuple[Column, ...] = ()
    uncertain: dict[str, str] = field(default_factory=dict)
    """Role → why its column is uncertain."""


def find_roles(columns: Sequence[Column], key: Column | None, known: float = MIN_KNOWN) -> Roles:
    """Find the roles of a log's columns. `key` is the id column of the items table, if there is one.

    `known` is the share of the item column's ids that `key` must contain.
    """
    ids = key.values if key is not None else None
    left = [column for column in columns if column.rows]
    time = _time(left)
    known_at = _known_at(left, time)
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
    shared = shown is None and _share_impressions(impression, user, time)
    graded = False
    if shown is None:
        clicked = _flag(left, item, shared)
        if clicked is None:
            clicked = _grade(left)
            graded = clicked is not None
    left = [c for c in left if c is not clicked]
    position = next((c for c in left if c.integral and suggests(c.name, "position")), None)
    kind = next((c for c in left if _is_kind(c)), None) if clicked is None else None
    left = [c for c in left if c is not position and c is not kind]
    uncertain = {
        role: f"its name does not suggest {role}"
        for role, column in (("user", user), ("item", item))
        if column is not None and not suggests(column.name, role)
    }
    context = tuple(c for c in left if _is_context(c))[:4]
    return Roles(
        user=user,
        time=time,
        item=item,
        clicked=clicked,
        graded=graded,
        impression=impression,
        session=session,
        known_at=known_at,
        position=position,
        kind=kind,
        shared_impressions=shared,
        context=context,
        uncertain=uncertain,
    )


def find_key(columns: Sequence[Column], logs: Sequence[Column]) -> Column | None:
    """Find the id column of the items table: unique, and with most of the log's ids."""
    unique = [c for c in columns if c.identifier and c.distinct >= 0.98 * c.rows and c.filled > NEARLY_ALL]

    def fit(column: Column) -> tuple[float, bool, bool]:
        shared = max(
            (overlap(c.values, column.values) for c in logs if c.identifier or c.lists is not None), default=0
        )
        return (round(shared, 1), suggests(column.name, "item"), suggests(column.name, "identifier"))

    return max(unique, key=fit, default=None)


def _time(columns: Sequence[Column]) -> Column | None:
    times = [c for c in columns if c.instants is not None and c.filled > 0.5]

    def fit(column: Column) -> tuple[bool, bool, bool, float]:
        assert column.instants is not None
        own = not (suggests(column.name, "known") or suggests(column.name, "published"))
        return (own, suggests(column.name, "time"), column.instants.is_sorted(), column.filled)

    return max(times, key=fit, default=None)


def _known_at(columns: Sequence[Column], time: Column | None) -> Column | None:
    """A second time column, never before the first, whose name suggests arrival."""
    for column in columns:
        if time is None or column is time or column.instants is None or not suggests(column.name, "known"):
            continue
        assert time.instants is not None
        later = (column.instants >= time.instants).drop_nulls()
        if len(later) and later.all() and column.filled > NEARLY_ALL:
            return column
    return None


def _lists(
    columns: Sequence[Column], ids: pl.Series | None, known: float
) -> tuple[Column | None, Column | None]:
    """The list column of items shown, and the column of clicked items, a subset in each row."""
    lists = [c for c in columns if c.lists is not None]
    if ids is not None and any(overlap(c.values, ids) > known for c in lists):
        lists = [c for c in lists if overlap(c.values, ids) > known]
    pairs: list[tuple[tuple[int, bool, float], Column, Column]] = []
    for shown in lists:
        for clicked in columns:
            if clicked is shown or not _contains(shown, clicked):
                continue
            named = suggests(shown.name, "shown") + suggests(clicked.name, "clicked")
            size = mean(cast(pl.Series, shown.lists).list.len())
            pairs.append(((named, clicked.lists is not None, size), shown, clicked))
    if pairs:
        _, shown, clicked = max(pairs, key=lambda pair: pair[0])
        return shown, clicked
    single = (c for c in lists if suggests(c.name, "shown") or suggests(c.name, "item"))
    return next(single, None), None


def _contains(shown: Column, clicked: Column) -> bool:
    """Whether clicked items are among those shown in the row, and fewer."""
    assert shown.lists is not None
    if clicked.lists is None and not clicked.identifier:
        return False
    clicked_items = (
        clicked.lists
        if clicked.lists is not None
        else clicked.cells.cast(pl.String).reshape((-1, 1)).arr.to_list()
    )
    rows = pl.DataFrame({"shown": shown.lists, "clicked_items": clicked_items.list.drop_nulls()}).drop_nulls()
    rows = rows.filter(pl.col("clicked_items").list.len() > 0)
    if rows.height < 2:
        return False
    inside = pl.col("clicked_items").list.set_difference("shown").list.len() == 0
    fewer = pl.col("clicked_items").list.len() < pl.col("shown").list.len()
    inside_share, fewer_share = rows.select(inside=inside.mean(), fewer=fewer.mean()).row(0)
    return bool(inside_share >= NEARLY_ALL and fewer_share > 0.3)


def _item(columns: Sequence[Column], ids: pl.Series | None, known: float) -> Column | None:
    single = [c for c in columns if c.identifier and not c.flag]

    def fit(column: Column) -> tuple[bool, bool, bool, int]:
        described = ids is not None and overlap(column.values, ids) > known
        own = not suggests(column.name, "user") and not suggests(column.name, "session")
        name = column.name
        return described, own and suggests(name, "item"), own and begins_with(name, "item"), column.distinct

    best = max(single, key=fit, default=None)
    return best if best is not None and any(fit(best)[:2]) else None


def _user(columns: Sequence[Column]) -> Column | None:
    single = [c for c in columns if c.identifier and not c.flag and c.filled > 0.5]

    def fit(column: Column) -> tuple[bool, bool, int]:
        other = any(suggests(column.name, role) for role in ("session", "impression", "kind"))
        return (suggests(column.name, "user") and not other, not column.unique and not other, column.distinct)

    best = max(single, key=fit, default=None)
    return best if best is not None and (fit(best)[0] or (fit(best)[1] and best.distinct > 2)) else None


def _session(columns: Sequence[Column], user: Column | None) -> Column | None:
    """A column whose name suggests sessions and whose values have one user each."""
    named = (c for c in columns if c.identifier and suggests(c.name, "session"))
    return next((c for c in named if user is None or _constant(user, c)), None)


def _impression(
    columns: Sequence[Column], user: Column | None, time: Column | None, item: Column | None
) -> Column | None:
    """A column of ids with one user and one instant each: unique in lists, else shared by rows."""
    if user is None or time is None:
        return None
    single = [c for c in columns if c.identifier and not c.flag and c.filled == 1]
    single = [c for c in single if _constant(user, c) and _constant(time, c) and c.distinct > 0.01 * c.rows]
    named = [c for c in single if suggests(c.name, "impression")]
    if item is None or item.lists is None:
        # If rows are single items, an id that no two rows share identifies events.
        named = [c for c in named if not c.unique]
        single = [c for c in single if not c.unique]
    else:
        single = [c for c in single if c.unique]
    return next(iter(named or single), None)


def _constant(column: Column, within: Column) -> bool:
    """Whether `column` is constant within nearly all values of `within`."""
    frame = pl.DataFrame({"group": within.cells, "value": column.cells})
    constant = frame.group_by("group").agg(pl.col("value").n_unique() == 1)
    return mean(constant["value"]) >= NEARLY_ALL


def _share_impressions(impression: Column | None, user: Column | None, time: Column | None) -> bool:
    if impression is not None:
        return True
    if user is None or time is None:
        return False
    sizes = pl.DataFrame({"user": user.cells, "time": time.cells}).group_by("user", "time").len()["len"]
    return mean(sizes) >= 2


def _flag(columns: Sequence[Column], item: Column | None, shared: bool) -> Column | None:
    """The click flag: by its name, or as the only flag of rows that share impressions."""
    if item is None:
        return None
    flags = [c for c in columns if c.flag and c.distinct == 2]
    named = [c for c in flags if suggests(c.name, "clicked")]
    return next(iter(named or (flags if shared and len(flags) == 1 else [])), None)


def _grade(columns: Sequence[Column]) -> Column | None:
    """A number with few values whose name suggests a grade."""
    grades = (
        c for c in columns if c.numbers is not None and 2 <= c.distinct <= 101 and suggests(c.name, "grade")
    )
    return next(grades, None)


def _is_kind(column: Column) -> bool:
    fits = column.identifier and column.numbers is None and suggests(column.name, "kind")
    return fits and 2 <= column.distinct <= 20


def _is_context(column: Column) -> bool:
    """Whether a column can be context: few values, and not an outcome."""
    few = 2 <= column.distinct <= min(50, 0.2 * column.rows)
    is_input = not suggests(column.name, "outcome") and not column.flag
    return few and is_input and column.identifier and column.filled > NEARLY_ALL
