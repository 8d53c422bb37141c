"""The features of each candidate, read from the moment state just before its impression."""

import polars as pl

from features.catalogue import features
from features.decay import read
from features.lists import relative
from features.project import Project
from features.similarity import text_similarity
from features.state import (
    MomentState,
    SliceEvents,
    attribute_values,
    count,
    counters,
    exposed,
    leave,
    see,
    stream,
    versions,
)


def read_features(
    state: MomentState, events: SliceEvents, project: Project, vectors: pl.DataFrame
) -> pl.DataFrame:
    """Features of every candidate of the slice's impressions, in the order shown.

    `state` holds what was known before the slice; `events` what became known within it; a row uses only what
    was known strictly before its impression. Returns impression_id, item_id and one Float32 column a feature.
    """
    seen = versions(state, events)
    queries = see(
        exposed(events.impressions).rename({"shown_at": "as_of"}).with_columns(everything=pl.lit("")),
        seen,
        "as_of",
    )
    facts = count(state, events, project)
    declared = features(project)
    frame = _with_counters(queries, state, facts, project)
    frame = _with_attribute_counters(frame, attribute_values(seen), state, facts, project)
    frame = _with_items(frame, seen, project)
    moments = stream(state, leave(state, events, project), events, project)
    texts = text_similarity(queries, moments, seen, vectors, project.features.recent)
    read_out = pl.concat([frame, texts], how="horizontal").select(
        "impression_id", "item_id", *(f.value.cast(pl.Float32).alias(f.name) for f in declared)
    )
    return relative(read_out, [f.name for f in declared if f.compared])


def _with_counters(
    queries: pl.DataFrame, state: MomentState, facts: dict[str, pl.DataFrame], project: Project
) -> pl.DataFrame:
    frame = queries
    for grain, counter in counters(project).items():
        if "attribute" in counter.keys:
            continue
        values = read(state.totals[grain], facts[grain], queries, counter, state.at)
        names = {name: f"{grain}:{name}" for name in (*counter.columns, "last_at")}
        frame = frame.join(
            values.rename(names), on=[*counter.keys, "as_of"], how="left", maintain_order="left"
        )
    return frame


def _with_attribute_counters(
    frame: pl.DataFrame,
    values: pl.DataFrame,
    state: MomentState,
    facts: dict[str, pl.DataFrame],
    project: Project,
) -> pl.DataFrame:
    """Adds `{grain}:{attribute}:{counter}`: sums over the candidate's values of an attribute, 0 over none."""
    frame = frame.with_row_index("row")
    valued = frame.select("row", "user_id", "as_of", "version").join(values, on="version")
    for grain, counter in counters(project).items():
        if "attribute" not in counter.keys:
            continue
        totals = valued.join(
            read(state.totals[grain], facts[grain], valued, counter, state.at), on=[*counter.keys, "as_of"]
        )
        sums = (
            totals.sort("row", "attribute", "value")
            .group_by("row", maintain_order=True)
            .agg(
                pl.col(c).filter(pl.col("attribute") == a).sum().alias(f"{grain}:{a}:{c}")
                for a in project.items.categorical
                for c in counter.columns
            )
        )
        frame = frame.join(sums, on="row", how="left", maintain_order="left").with_columns(
            pl.col(sums.columns[1:]).fill_null(0.0)
        )
    return frame.drop("row")


def _with_items(frame: pl.DataFrame, seen: pl.DataFrame, project: Project) -> pl.DataFrame:
    numbers = pl.col("numbers").list
    described = seen.with_row_index("version").select(
        "version",
        *(
            numbers.eval(
                pl.when(pl.element().struct.field("name") == name).then(pl.element().struct.field("value"))
            )
            .list.drop_nulls()
            .list.first()
            .alias(f"number:{name}")
            for name in project.items.numeric
        ),
        born_at=pl.coalesce("published_at", "known_at"),
    )
    return frame.join(described, on="version", how="left", maintain_order="left")
