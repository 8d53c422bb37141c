"""What the candidate's list is made of."""

from collections.abc import Iterator

import polars as pl

from features.families.feature import Feature
from features.project import Project


def list_features(project: Project) -> Iterator[Feature]:
    """For each declared attribute: how varied the list is, and how common the candidate's values are in it."""
    for name in project.items.categorical:
        distinct = pl.col(f"list:{name}:distinct").sum().over("impression_id")
        yield Feature(f"list_{name}_variety", "list", f"distinct values of {name} in the list, per candidate",
                      distinct / pl.col("size"), "intra-list diversity (Ziegler et al. 2005)")  # fmt: skip
        yield Feature(f"list_{name}_shared", "list", f"share of the list's candidates with the item's {name}",
                      pl.col(f"list:{name}:shared") / pl.col("size"), "", True)  # fmt: skip
