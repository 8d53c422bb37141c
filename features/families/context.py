"""The occasion: when and where the list was shown."""

from collections.abc import Iterator

import polars as pl

from features.families.feature import Feature
from features.families.reading import BAYES, click_rate, span, suffix
from features.project import Project


def context_features(project: Project) -> Iterator[Feature]:
    """Time of day and week, and for each declared fact of the occasion how it, and the item on it, did."""
    local = pl.col("as_of").dt
    yield Feature("hour", "context", "hour of the day, UTC", local.hour())
    yield Feature("weekday", "context", "day of the week, 1 for Monday", local.weekday())
    yield Feature("list_size", "context", "candidates in the list", pl.col("size"))
    for name in project.context.categorical:
        for half_life in project.features.half_lives:
            tail, when = suffix(half_life), span(half_life)
            yield Feature(f"context_{name}_ctr{tail}", "context", f"smoothed click rate on this {name}, {when}",
                          click_rate(f"context:{name}", half_life, project), BAYES)  # fmt: skip
            own = click_rate(
                f"item_context:{name}", half_life, project, prior=click_rate("item", half_life, project)
            )
            yield Feature(f"item_{name}_ctr{tail}", "context", f"the item's smoothed click rate on this {name}, {when}",
                          own, BAYES, True)  # fmt: skip
