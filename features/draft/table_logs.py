"""Guess the project file of a log of tables: its files, shape and columns."""

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from features.config.slices import parse_duration
from features.draft.column_content import Column, describe, mean, overlap
from features.draft.guesses import Confidence, Guess, join_names, named
from features.draft.item_columns import guess_items
from features.draft.names import parts, suggests
from features.draft.roles import Roles, find_roles
from features.draft.sample import Sample
from features.draft.table_kinds import choose_tables, min_known_share, not_a_log
from features.draft.times import (
    Span,
    guess_attribution,
    guess_half_lives,
    guess_times,
    slice_length,
    span_of,
)
from features.errors import SourceError

Locate = Callable[[Sequence[Path]], str | tuple[str, ...]]
"""Files → their names in the project file."""


def guess_tables(samples: Sequence[Sample], items: Sequence[Sample], locate: Locate) -> list[Guess]:
    """Guess every key for a log of tables. `items` are samples of the items files; without them, search `samples`.

    Raises SourceError if no table can be a log.
    """
    log, described, key = choose_tables(samples, items)
    columns = describe(log.frame)
    roles = find_roles(columns, key, min_known_share(described) if described else 1.0)
    if roles.time is None or roles.time.instants is None:
        raise SourceError(not_a_log(log, "no column whose values are times"))
    span = _span(log, roles.time)
    found = f"{log.files[0].name} has the columns {join_names(log.frame.columns, 12)}"
    size = f"{len(log.files)} file{'s'[: len(log.files) > 1]} of {_size(log)}"
    guesses = [
        Guess("source.format", "tables", found),
        Guess("source.path", locate(log.files), size),
        *guess_times(span, roles.known_at is not None),
        *_mapping(roles, log, columns),
        *_items_table(described, key, roles, locate),
        _gains(roles, log),
        guess_attribution(None, parse_duration(slice_length(span))),
    ]
    if described is not None and key is not None:
        guesses += guess_items(describe(described.frame), key.name)
    else:
        guesses.append(
            Guess("items.title", "", "there is no table of items: only their ids are known", "medium")
        )
        guesses.append(Guess("items.body", "", "there is no table of items"))
    if roles.context:
        names = tuple(column.name for column in roles.context)
        evidence = "few values each: " + join_names([f"{c.name} ({c.distinct})" for c in roles.context])
        review = (
            "Are they known when the impression is shown? If not, remove them: they would leak the outcome."
        )
        guesses.append(Guess("context.categorical", names, evidence, "low", review))
    return [*guesses, *guess_half_lives(span)]


def shape_of(roles: Roles) -> str:
    """The shape of `[source.tables]`."""
    if roles.item is not None and roles.item.lists is not None:
        return "lists"
    if roles.clicked is None:
        return "interactions"
    return "candidates" if roles.shared_impressions and not roles.graded else "ratings"


def _mapping(roles: Roles, log: Sample, columns: Sequence[Column]) -> list[Guess]:
    shape = shape_of(roles)
    names = [column.name for column in columns]
    guesses = [_shape(shape, roles)]
    for role, column in (("user", roles.user), ("item", roles.item)):
        guesses.append(_column(role, column, names, roles.uncertain.get(role, "")))
    assert roles.time is not None
    evidence = f"instants, such as {roles.time.texts[0]}" if len(roles.time.texts) else "instants"
    guesses.append(named("source.tables.at", roles.time.name, evidence, "time"))
    if roles.time.formats:
        guesses.append(_time_format(roles.time))
    if shape == "lists" and roles.clicked is None:
        question = "Which column lists the clicked items? "
        guesses.append(
            Guess("source.tables.clicked", None, question + f"One of {join_names(names, 20)}", "edit")
        )
    elif roles.clicked is not None:
        guesses += _clicked(shape, roles)
    for name in ("impression", "session", "known_at"):
        column = getattr(roles, name)
        if column is not None:
            evidence, role = f"{column.distinct:,} values, each of one user", name.removesuffix("_at")
            guesses.append(named(f"source.tables.{name}", column.name, evidence, role))
    guesses.append(_kind(roles, log))
    return guesses


def _shape(shape: str, roles: Roles) -> Guess:
    evidence = {
        "lists": "a row is an impression with a list of items",
        "candidates": "several rows share an impression, and a flag says which were clicked",
        "interactions": "a row has one item and neither a flag nor a grade: candidates are sampled",
        "ratings": "a row has one item and a grade",
    }
    review = ""
    if roles.position is not None and shape == "candidates":
        review = f"Rows are read in the order shown: are they sorted by {roles.position.name} within an impression?"
    confidence: Confidence = "medium" if shape == "interactions" or roles.position else "high"
    return Guess("source.tables.shape", shape, evidence[shape], confidence, review)  # type: ignore[arg-type]


def _column(role: str, column: Column | None, names: list[str], doubt: str) -> Guess:
    key = f"source.tables.{role}"
    if column is None:
        return Guess(key, None, f"Which column is the {role}? One of {join_names(names, 20)}", "edit")
    counts = f"{column.distinct:,} ids in {column.rows:,} rows"
    if doubt:
        return Guess(key, column.name, f"{counts}; {doubt}", "low", f"Is {column.name} the {role}?")
    return Guess(key, column.name, counts)


def _time_format(time: Column) -> Guess:
    first, *others = time.formats
    evidence = f"{time.texts[0]} is neither ISO 8601 nor an epoch number"
    if not others:
        return Guess("source.tables.time_format", first, evidence, "medium")
    review = f"{join_names(others, 3)} fits too: which is the day, and which the month?"
    return Guess("source.tables.time_format", first, evidence, "low", review)


def _clicked(shape: str, roles: Roles) -> list[Guess]:
    clicked = roles.clicked
    assert clicked is not None
    key = "source.tables.clicked"
    if shape == "lists":
        assert roles.item is not None
        return [Guess(key, clicked.name, f"its items are always among those of {roles.item.name}")]
    numbers = clicked.numbers
    if not roles.graded or numbers is None:
        positive = clicked.texts.str.to_lowercase().is_in(["1", "1.0", "true", "yes", "t", "y"])
        share = f"{mean(positive):.1%} of rows are positive"
        return [named(key, clicked.name, share, "clicked")]
    levels = numbers.unique().sort()
    threshold = min(levels[:-1], key=lambda level: abs(mean(numbers > level) - 0.5))
    return [
        Guess(key, clicked.name, f"{len(levels)} grades from {levels[0]:g} to {levels[-1]:g}"),
        Guess(
            "source.tables.threshold",
            float(threshold),
            f"{mean(numbers > threshold):.0%} of grades are above it",
            "low",
            "Above which grade does a user like an item?",
        ),
    ]


def _kind(roles: Roles, log: Sample) -> Guess:
    kind, evidence = _named_kind(roles, log)
    if roles.kind is None:
        return Guess("source.tables.kind", kind, evidence, "medium")
    counts = roles.kind.values.value_counts(sort=True).head(6)
    kinds = ", ".join(f"{name} {count:,}" for name, count in counts.iter_rows())
    review = (
        f"A table has one kind of interaction: split it by {roles.kind.name}, or write Metarank's JSON lines."
    )
    return Guess(
        "source.tables.kind", kind, f"{roles.kind.name} mixes {kinds}; all count alike", "low", review
    )


def _named_kind(roles: Roles, log: Sample) -> tuple[str, str]:
    if roles.graded and roles.clicked is not None:
        return "rating", f"{roles.clicked.name} has grades"
    names = [*log.frame.columns, *(part for path in log.files for part in parts(path.name))]
    purchases = [name for name in names if suggests(name, "purchase")]
    if roles.clicked is None and roles.kind is None and purchases:
        return "purchase", f"{purchases[0]!r} suggests purchases"
    return "click", "the most common kind"


def _gains(roles: Roles, log: Sample) -> Guess:
    kind, _ = _named_kind(roles, log)
    return Guess("labels.gains", {kind: 1.0}, "one kind of interaction", "high")


def _items_table(items: Sample | None, key: Column | None, roles: Roles, locate: Locate) -> list[Guess]:
    if items is None or key is None:
        return []
    known = overlap(roles.item.values, key.values) if roles.item is not None else 0.0
    evidence = f"{key.rows:,} unique ids; {known:.1%} of the log's items are among them"
    if not items.complete:
        evidence += ", in a sample"
    enough = known > min_known_share(items)
    guesses = [
        Guess("source.tables.items_path", locate(items.files), f"columns {join_names(items.frame.columns)}"),
        Guess(
            "source.tables.item_key",
            key.name,
            evidence,
            "high" if known > 0.9 else "medium" if enough else "low",
            "" if enough else "The log's items are not in the items file: are the ids the same?",
        ),
    ]
    published = _published(items, key, roles)
    if published is not None:
        evidence = f"interactions with an item come after its {published.name}"
        review = f"Is an item available from its {published.name} on? Before, it is unknown to features."
        guesses.append(Guess("source.tables.item_at", published.name, evidence, "medium", review))
    return guesses


def _published(items: Sample, key: Column, roles: Roles) -> Column | None:
    """The column of times that precede nearly all interactions with an item: when it was published."""
    assert roles.time is not None
    if roles.item is None:
        return None
    for column in describe(items.frame):
        if column.instants is None or column.formats or column.instants.null_count():
            continue
        if not (suggests(column.name, "published") or suggests(column.name, "known")):
            continue
        published = pl.DataFrame({"item": key.cells.cast(pl.String), "published": column.instants})
        lists = roles.item.lists if roles.item.lists is not None else roles.item.cells.cast(pl.String)
        events = pl.DataFrame({"item": lists, "at": roles.time.instants})
        events = events.explode("item") if roles.item.lists is not None else events
        joined = events.join(published.unique("item"), on="item")
        after = joined.select(pl.col("published") < pl.col("at")).to_series()
        if mean(after) >= 0.99:
            return column
    return None


def _span(log: Sample, time: Column) -> Span:
    """The span of the log's events; of Parquet files, the whole time column is read."""
    assert time.instants is not None
    span = span_of(time.instants, log.complete, log.to_end)
    if log.complete or not log.parquet:
        return span
    times = pl.scan_parquet(list(log.files)).select(
        first=pl.col(time.name).min(), last=pl.col(time.name).max()
    )
    ends = times.collect()
    edges = Column(time.name, pl.concat([ends["first"], ends["last"]])).instants
    if edges is None or edges.null_count():
        return span
    exact = span_of(edges, True, True)
    return Span(exact.first, exact.last, span.rows, True, span.dates)


def _size(sample: Sample) -> str:
    rows = "all rows" if sample.complete else f"{sample.frame.height:,} rows, the first and last ones,"
    return f"{sample.size / 1e6:,.2f} MB, {rows} read"
