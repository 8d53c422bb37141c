"""Raw rows → items, impressions, interactions; every refused row goes to `rejects` with its reason.

Of rows with the same id the first known is kept, then the first by source and line; none if the id was read before
(`Known`). Rows up to `AHEAD` after now are kept in their slice.

If an impression repeats an item, the first occurrence is kept, with positions as shown; candidates without an id are
dropped. Neither is a reject. Ids of undescribed items and of unlogged impressions are kept.
"""

import operator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import dataframely as dy
import polars as pl

from features import schemas
from features.config.slices import Slices
from features.errors import TableError
from features.sources.raw import INSTANT, SCHEMAS, RawEvents, Rule, absent, refuse
from features.threads import work_ahead

MOMENT = timedelta(microseconds=1)
AHEAD = timedelta(days=30)
"""How far after now a row's time may be, as clocks differ. Later times were probably read in the wrong unit."""
MAX_VALUES = 1_000
"""Maximum attribute values of an item or an impression's context: each is counted at each exposure."""
_ORIGIN = ("source", "line", "raw")
_TIMES = pl.Schema({"source": pl.String(), "line": pl.Int64(), "at": INSTANT})


@dataclass(frozen=True)
class Events:
    """Validated tables (`features/schemas.py`), each with a `slice` column.

    Impressions are sliced by `shown_at`, interactions and item versions by `known_at` (versions known before
    the first slice belong to it), rejects by their own time, else by that of the last row before them.
    """

    items: pl.DataFrame
    impressions: pl.DataFrame
    interactions: pl.DataFrame
    rejects: pl.DataFrame


@dataclass(frozen=True)
class Known:
    """Ids read before that new rows may repeat or refer to."""

    items: pl.DataFrame = field(default_factory=lambda: known_items(schemas.Items.create_empty()))
    """`item_id, known_at`."""
    impressions: pl.DataFrame = field(default_factory=lambda: lists_shown(schemas.Impressions.create_empty()))
    """Output of `lists_shown`."""
    interactions: pl.DataFrame = field(
        default_factory=lambda: schemas.Interactions.create_empty().select("interaction_id")
    )
    """`interaction_id`."""
    last: pl.DataFrame = field(default_factory=_TIMES.to_frame)
    """`source, line, at` of each file's last row with a time; rejects without a time get its slice."""


def build(raw: RawEvents, slices: Slices, now: datetime, known: Known | None = None) -> Events:
    """Validate rows. Kept rows satisfy their schema, in slice, time and id order; the others are rejects.

    Rows more than `AHEAD` after `now` are refused as `in_future`. Raises TableError unless rows in = kept + rejected.
    """
    known = known or Known()
    items, bad_items = _items(raw.items, slices, now, known)
    impressions, bad_impressions = _impressions(raw.impressions, slices, now, known)
    interactions, bad_interactions = _interactions(raw.interactions, impressions, slices, now, known)
    refused = pl.concat([raw.rejects, *bad_items, *bad_impressions, *bad_interactions])
    finish = (
        partial(_assign_rejects, refused, raw, slices, now, known.last),
        partial(_table, items, "known_at", "item_id", schemas.Items, slices),
        partial(_table, impressions, "shown_at", "impression_id", schemas.Impressions, slices),
        partial(_table, interactions, "known_at", "interaction_id", schemas.Interactions, slices),
    )
    rejects, items, impressions, interactions = work_ahead(operator.call, finish)
    rows_out = sum(table.height for table in (items, impressions, interactions, rejects))
    if rows_out != raw.height:
        raise TableError(
            f"{raw.height} rows were read, but {rows_out} were kept or rejected: please report this bug"
        )
    return Events(items, impressions, interactions, rejects)


def known_items(items: pl.DataFrame) -> pl.DataFrame:
    """The key of item versions."""
    return items.select("item_id", "known_at")


def lists_shown(impressions: pl.DataFrame) -> pl.DataFrame:
    """`impression_id, owner, shown`: each impression's user and item ids."""
    return impressions.select("impression_id", owner="user_id", shown=_ids_shown())


def touched(raw: RawEvents, slices: Slices, now: datetime) -> list[str]:
    """Sorted keys of the slices of all rows with a time, kept or refused."""
    times = [raw.items["known_at"], raw.impressions["shown_at"], raw.interactions["known_at"]]
    known = pl.concat([time.alias("at") for time in times]).drop_nulls()
    latest = min(now + AHEAD, slices.end or now + AHEAD)
    known = known.filter(known <= latest)
    return _slice_of(known, slices).unique().sort().to_list()


def last_times(raw: RawEvents, now: datetime, slices: Slices) -> pl.DataFrame:
    """`Known.last` after these rows."""
    times = _times(raw, now, slices)
    return times.sort("line", "at").unique("source", keep="last", maintain_order=True)


def _items(
    frame: pl.DataFrame, slices: Slices, now: datetime, known: Known
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    rules = [
        ("missing_field:item", absent("item_id")),
        ("missing_field:timestamp", pl.col("known_at").is_null()),
        ("missing_field:title", pl.col("title").is_null()),
        _too_many("attributes"),
        *_out_of_time("known_at", slices, now)[:-1],
    ]
    kept, rejects = refuse(frame, rules, at="known_at")
    kept, repeats = _deduplicate(kept, "known_at", ["item_id", "known_at"], known.items)
    return kept, [rejects, repeats]


def _impressions(
    frame: pl.DataFrame, slices: Slices, now: datetime, known: Known
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    rules = [
        ("missing_field:id", absent("impression_id")),
        ("missing_field:user", absent("user_id")),
        ("missing_field:timestamp", pl.col("shown_at").is_null()),
        ("missing_field:items", pl.col("candidates").is_null()),
        ("empty_list", pl.col("candidates").list.len() == 0),
        ("bad_number:propensity", ~_propensities_are_valid()),
        _too_many("context"),
        *_out_of_time("shown_at", slices, now),
    ]
    kept, rejects = refuse(_without_repeats(frame), rules, at="shown_at")
    kept, repeats = _deduplicate(kept, "shown_at", ["impression_id"], known.impressions)
    return kept, [rejects, repeats]


def _interactions(
    frame: pl.DataFrame, impressions: pl.DataFrame, slices: Slices, now: datetime, known: Known
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    rules = [
        ("missing_field:id", absent("interaction_id")),
        ("missing_field:user", absent("user_id")),
        ("missing_field:item", absent("item_id")),
        ("missing_field:kind", absent("kind")),
        ("missing_field:timestamp", pl.col("happened_at").is_null() | pl.col("known_at").is_null()),
        ("known_before_happened", pl.col("known_at") < pl.col("happened_at")),
        *_out_of_time("known_at", slices, now),
    ]
    kept, rejects = refuse(frame, rules, at="known_at")
    lists = pl.concat([lists_shown(impressions), known.impressions])
    named = kept.lazy().select("impression_id", "user_id", "item_id")
    # Streamed over three columns, so that item ids of all impressions are never joined to interactions in memory.
    flaws = (
        named.join(lists.lazy(), on="impression_id", how="left", maintain_order="left")
        .select(
            item_not_shown=~pl.col("shown").list.contains(pl.col("item_id")),
            user_mismatch=pl.col("owner") != pl.col("user_id"),
        )
        .collect()
    )
    flaw_rules = [(flaw, pl.col(flaw)) for flaw in flaws.columns]
    kept, mismatched = refuse(kept.hstack(flaws), flaw_rules, at="known_at")
    kept, repeats = _deduplicate(kept.drop(flaws.columns), "known_at", ["interaction_id"], known.interactions)
    return kept, [rejects, mismatched, repeats]


def _out_of_time(column: str, slices: Slices, now: datetime) -> list[Rule]:
    """Rules for times. The last refuses rows before the first slice; item versions skip it."""
    rules: list[Rule] = [("in_future", pl.col(column) > now + AHEAD)]
    if slices.end is not None:
        rules.append(("outside_timetable", pl.col(column) >= slices.end))
    return [*rules, ("outside_timetable", pl.col(column) < slices.start)]


def _too_many(column: str) -> Rule:
    return f"too_many_values:over {MAX_VALUES} in {column}", pl.col(column).list.len() > MAX_VALUES


def _deduplicate(
    frame: pl.DataFrame, time: str, key: list[str], known: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Keep the first row of each key that is not in `known`; the others are rejects."""
    identity = pl.struct(key) if len(key) > 1 else pl.col(key)
    numbered = frame.with_row_index("row")
    duplicated = numbered.filter(identity.is_duplicated()).sort(time, "source", "line")
    repeats = duplicated.filter(~identity.is_first_distinct())["row"]
    if known.height:
        read_before = numbered.select("row", *key).join(known.select(key), on=key, how="semi")["row"]
        repeats = pl.concat([repeats, read_before]).unique()
    is_repeat = pl.repeat(False, frame.height, eager=True).scatter(repeats, True)
    return refuse(frame, [("duplicate_id", pl.lit(is_repeat))], at=time)


def _ids_shown() -> pl.Expr:
    return pl.col("candidates").list.eval(pl.element().struct.field("item_id"))


def _propensities_are_valid() -> pl.Expr:
    propensity = pl.element().struct.field("propensity")
    return pl.col("candidates").list.eval((propensity > 0) & (propensity <= 1)).list.all()


def _without_repeats(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop repeated candidates and candidates without an id; most impressions have neither and are not copied."""
    ids = _ids_shown()
    repeated = ids.list.n_unique() < ids.list.len()
    flaws = frame.select(
        (repeated | ids.list.contains("") | ids.list.contains(None)).fill_null(False)
    ).to_series()
    if not flaws.any():
        return frame
    item = pl.element().struct.field("item_id")
    clean = pl.element().filter(item.is_first_distinct() & (item != "").fill_null(False))
    cleaned = frame.filter(flaws).with_columns(pl.col("candidates").list.eval(clean))
    return pl.concat([frame.filter(~flaws), cleaned])


def _slice_of(instants: pl.Series, slices: Slices) -> pl.Series:
    """Slice keys of the instants; the first slice's for earlier ones."""
    start: int = pl.Series([slices.start], dtype=INSTANT).dt.epoch("us").item()
    every = slices.every // MOMENT
    steps = ((instants.dt.epoch("us") - start) // every).clip(lower_bound=0)
    step = steps.unique()
    keys = (step * every + start).cast(INSTANT).dt.strftime(slices.key_format)
    # Without rows, replace_strict does not change the type.
    return steps.replace_strict(step, keys, return_dtype=pl.String).cast(pl.String).alias("slice")


def _table(frame: pl.DataFrame, time: str, key: str, schema: type[dy.Schema], slices: Slices) -> pl.DataFrame:
    order = frame.select(pl.arg_sort_by(time, key)).to_series()
    rows = frame.drop(_ORIGIN) if order.is_sorted() else frame.drop(_ORIGIN)[order]
    schema.validate(rows)
    return rows.with_columns(_slice_of(rows[time], slices))


def _times(raw: RawEvents, now: datetime, slices: Slices) -> pl.DataFrame:
    """`source, line, at` of the rows with a usable time."""
    times = [
        raw.items.select("source", "line", at="known_at"),
        raw.impressions.select("source", "line", at="shown_at"),
        raw.interactions.select("source", "line", at="known_at"),
        raw.rejects.select("source", "line", "at"),
    ]
    return pl.concat(times).filter(_is_usable(now, slices))


def _is_usable(now: datetime, slices: Slices) -> pl.Expr:
    # Without slices.end, a time after now is not used.
    return pl.col("at").is_not_null() & ((pl.col("at") <= now) | pl.lit(slices.end is not None))


def _assign_rejects(
    refused: pl.DataFrame, raw: RawEvents, slices: Slices, now: datetime, earlier: pl.DataFrame
) -> pl.DataFrame:
    """Assign each reject to the slice of its own time, else of the last row before it in its file that has one."""
    last = (slices.end or now) - MOMENT
    rejects = raw.quote(refused).sort("line").with_columns(at=pl.when(_is_usable(now, slices)).then("at"))
    if rejects["at"].null_count():
        before = (
            pl.concat([earlier, _times(raw, now, slices)]).rename({"at": "before"}).sort("line", "before")
        )
        rejects = rejects.join_asof(before, on="line", by="source", check_sortedness=False)
        rejects = rejects.with_columns(at=pl.coalesce("at", "before"))
    at = rejects.select(pl.col("at").fill_null(slices.start).clip(slices.start, last)).to_series()
    columns = [name for name in SCHEMAS["rejects"].names() if name != "at"]
    return (
        rejects.with_columns(_slice_of(at, slices))
        .select(*columns, "slice")
        .sort("slice", "source", "line", "reason", "raw")
    )
