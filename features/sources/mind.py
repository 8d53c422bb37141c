"""Microsoft's MIND: `behaviors.tsv` and `news.tsv`, in one part folder or several (train, dev, test).

MIND dates impressions but not clicks: each click is dated one second after its impression. The click history
beside a user's first impression has no times either: its clicks are dated one second apart, ending just before
that impression (closer together if the first slice starts too late for that), and belong to no impression.
Candidates of the test part have no `-0`/`-1` label, so they have no clicks. Articles have no dates: they are
known before the first slice.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from features.config.sections import ReaderConfig
from features.errors import SourceError
from features.sources.files import Block, LogFile, Reader, cut, find, split
from features.sources.item_rows import FIELD, TEXTS, before_first_slice, item_rows, text_of
from features.sources.json_texts import decode_each
from features.sources.raw import (
    INSTANT,
    Hide,
    RawEvents,
    absent,
    as_logged,
    empty_context,
    gather,
    refuse,
    with_positions,
)
from features.sources.sampling import Past
from features.threads import work_ahead

CLICK_DELAY = timedelta(seconds=1)
"""Time from an impression to its clicks, which MIND does not date."""

_BEHAVIORS, _NEWS = "behaviors.tsv", "news.tsv"
_NEWS_COLUMNS = (
    "item_id",
    "category",
    "subcategory",
    "title",
    "abstract",
    "url",
    "title_entities",
    "abstract_entities",
)
_ENTITIES = pl.List(pl.Struct({"Label": pl.String}))
_TIME = "%m/%d/%Y %I:%M:%S %p"


def files(_: ReaderConfig, paths: Sequence[Path]) -> list[LogFile]:
    """Find the files of all parts under the folders, `news.tsv` first. Raises SourceError without a `behaviors.tsv`."""
    parts = find(paths, (_BEHAVIORS, _NEWS))
    if not any(path.name == _BEHAVIORS for _, path in parts):
        raise SourceError(f"no {_BEHAVIORS} under {', '.join(map(str, paths))}: expected MIND's part folders")
    return [LogFile(tuple(sorted(parts, key=lambda file: file[1].name == _BEHAVIORS)))]


def chunks(
    config: ReaderConfig, parts: LogFile, hide: Hide = as_logged, _: Past | None = None
) -> Iterator[RawEvents]:
    """Read the parts one block at a time. Click histories come last, once all impressions are read.

    Impression ids repeat between parts: with several parts, the folder's name is their prefix.
    An item's fields are `category`, `subcategory`, `title`, `abstract`, `url` and `entities` (labels).
    """
    behaviors = [path for _, path in parts.files if path.name == _BEHAVIORS]
    names = [path.resolve().parent.name for path in behaviors]
    first: pl.DataFrame | None = None
    for source, path in parts.files:
        if path.name == _NEWS:
            yield from work_ahead(partial(_news, config), cut(path, source))
            continue
        name = path.resolve().parent.name
        part = str(Path(source).parent) if names.count(name) > 1 else name
        read = partial(_read_impressions, f"{part}/" if len(names) > 1 else "", hide)
        for shown, rejects in work_ahead(read, cut(path, source)):
            impressions = shown.with_columns(
                empty_context(), session_id=pl.lit(None), candidates=with_positions(pl.col("items"))
            )
            yield gather([], [impressions], [_clicks(shown, config.source.known_after)], rejects)
            first = _first_impressions(shown if first is None else pl.concat([first, shown]))
    if first is not None:
        yield gather(interactions=[_histories(first, config.start)])


MIND = Reader(files, chunks)


def _columns(block: Block, count: int) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Split lines of a TSV file into `cells`, and reject those that do not have `count` cells."""
    lines = split(block)
    cells = lines.rows.with_columns(pl.col("raw").str.split("\t").alias("cells"))
    width = pl.col("cells").list.len()
    kept, broken = refuse(
        cells,
        [(pl.concat_str(pl.lit("broken_row:"), width, pl.lit(f" columns, not {count}")), width != count)],
    )
    return kept, [lines.rejects, broken]


def _read_impressions(prefix: str, hide: Hide, block: Block) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Impressions: `source, line, raw, impression_id, user_id, shown_at` and id lists `history, items, clicked`."""
    rows, rejects = _columns(block, 5)
    cell = [pl.col("cells").list.get(i).str.strip_chars() for i in range(5)]
    shown_at = cell[2].str.to_datetime(_TIME, strict=False, time_unit="us", time_zone="UTC")
    tokens = pl.col("tokens").list
    rows = rows.with_columns(
        impression_id=cell[0],
        user_id=cell[1],
        time=cell[2],
        shown_at=shown_at,
        history=cell[3].str.extract_all(r"\S+"),
        tokens=cell[4].str.extract_all(r"\S+"),
    ).drop("cells")
    kept, broken = refuse(
        rows,
        [
            ("missing_field:id", absent("impression_id")),
            ("missing_field:user", absent("user_id")),
            ("missing_field:timestamp", absent("time")),
            ("bad_timestamp", pl.col("shown_at").is_null()),
            ("empty_list", tokens.len() == 0),
        ],
        at="shown_at",
    )
    clicked = tokens.eval(pl.element().filter(pl.element().str.ends_with("-1")))
    without_label = pl.element().str.replace("-[01]$", "")
    impressions = kept.select(
        "source",
        "line",
        "raw",
        hide(kept["user_id"]),
        "shown_at",
        "history",
        impression_id=pl.lit(prefix) + pl.col("impression_id"),
        items=tokens.eval(without_label),
        clicked=clicked.list.eval(without_label).list.unique(maintain_order=True),
    )
    return impressions, [*rejects, broken]


def _clicks(shown: pl.DataFrame, known_after: timedelta) -> pl.DataFrame:
    clicks = shown.filter(pl.col("clicked").list.len() > 0).explode("clicked")
    happened_at = pl.col("shown_at") + CLICK_DELAY
    return clicks.select(
        "source",
        "line",
        "impression_id",
        "user_id",
        raw="clicked",
        interaction_id=pl.concat_str("impression_id", "clicked", separator="/"),
        item_id="clicked",
        kind=pl.lit("click"),
        value=pl.lit(None),
        happened_at=happened_at,
        known_at=happened_at + known_after,
    )


def _first_impressions(shown: pl.DataFrame) -> pl.DataFrame:
    """Each user's first impression."""
    return shown.sort("shown_at", "source", "line").unique("user_id", keep="first", maintain_order=True)


def _histories(first: pl.DataFrame, start: datetime) -> pl.DataFrame:
    """Clicks of the history beside each user's first impression: the k-th of n is n − k + 1 steps before it."""
    first = first.filter(pl.col("history").list.len() > 0).with_columns(
        n=pl.col("history").list.len().cast(pl.Int64),
        room=(pl.col("shown_at") - start).dt.total_microseconds(),
    )
    second = 1_000_000
    squeezed = pl.min_horizontal(pl.lit(second), pl.col("room") // (pl.col("n") + 1)).clip(lower_bound=1)
    step = pl.when(pl.col("room") > 0).then(squeezed).otherwise(second)
    clicks = first.with_columns(step=step, k=pl.int_ranges(1, pl.col("n") + 1)).explode("history", "k")
    steps_before = pl.col("n") - pl.col("k") + 1
    at = (pl.col("shown_at").cast(pl.Int64) - steps_before * pl.col("step")).cast(INSTANT)
    return clicks.select(
        "source",
        "line",
        "user_id",
        raw="history",
        interaction_id=pl.concat_str("user_id", "k", separator="/history/"),
        impression_id=pl.lit(None),
        item_id="history",
        kind=pl.lit("click"),
        value=pl.lit(None),
        happened_at=at,
        known_at=at,
    )


def _news(config: ReaderConfig, block: Block) -> RawEvents:
    rows, rejects = _columns(block, len(_NEWS_COLUMNS))
    cells = {name: pl.col("cells").list.get(n) for n, name in enumerate(_NEWS_COLUMNS)}
    fields = {name: pl.concat_list(cell) for name, cell in cells.items()}
    fields["title"] = pl.when(cells["title"] != "").then(fields["title"])
    labels = rows.select(
        pl.concat_list(
            cells[name].map_batches(_labels, TEXTS) for name in ("title_entities", "abstract_entities")
        )
    ).to_series()
    rows = rows.with_columns(
        labels.alias(FIELD + "entities"),
        *(values.alias(FIELD + name) for name, values in fields.items()),
        item_id=cells["item_id"],
        known_at=pl.lit(before_first_slice(config.start)).cast(INSTANT),
    )
    return gather([item_rows(rows, config.items)], rejects=rejects)


def _labels(cells: pl.Series) -> pl.Series:
    """Entity labels in JSON cells; none for a cell that is not a JSON array."""
    entities = decode_each(cells.set(cells == "", None), _ENTITIES, _read_entities)
    labels = pl.col("entities").list.eval(pl.element().struct.field("Label")).fill_null([])
    return pl.DataFrame({"entities": entities}).select(labels).to_series()


def _read_entities(cell: str) -> list[dict[str, Any]] | None:
    try:
        entities = json.loads(cell)
    except ValueError:
        return None
    return [{"Label": text_of(entity.get("Label"))} for entity in entities if isinstance(entity, dict)]
