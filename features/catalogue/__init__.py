"""The catalogue: every feature, its meaning and source, and which of them are selected.

Training tables, slices, live requests and docs/features.md all use this one catalogue.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

import polars as pl

from features.catalogue.families.impression import context_features, list_features
from features.catalogue.families.item import attribute_features, item_features
from features.catalogue.families.user import session_features, user_features
from features.catalogue.families.user_item import affinity_features, pair_features, text_features
from features.catalogue.term import Feature
from features.config.extensions import extended
from features.config.sections import BehaviourConfig
from features.errors import ProjectError

FORMS: Mapping[str, str] = {
    "z": "standard deviations above the impression's mean",
    "rank": "rank within the impression, 1 for the greatest",
    "share": "share of the impression's sum",
    "best": "difference from the impression's greatest",
}
"""Suffix of a relative form → its meaning."""

Family = Callable[[BehaviourConfig], Iterable[Feature]]
"""Declares the features of one subject."""

FAMILIES: Mapping[str, Family] = {
    "item": item_features,
    "attribute": attribute_features,
    "user": user_features,
    "session": session_features,
    "affinity": affinity_features,
    "pair": pair_features,
    "text": lambda _: text_features(),
    "context": context_features,
    "list": list_features,
}
"""The built-in families, in the order of their columns; those of `features.families` come after them."""


def features(config: BehaviourConfig) -> list[Feature]:
    """Every feature that can be computed, without list-relative forms."""
    families = extended(FAMILIES, config.features.families, Callable, "features.families")
    return [feature for family in families.values() for feature in family(config)]


def catalogue(config: BehaviourConfig) -> pl.DataFrame:
    """`name, family, meaning, source` of every selected column, list-relative forms included.

    Raises ProjectError if two columns would share a name, or a pattern of `features.select` matches nothing.
    """
    declared = features(config)
    rows = [(f.name, f.family, f.meaning, f.source) for f in declared]
    for form in config.features.relative:
        rows += [
            (f"{f.name}_{form}", f.family, f"{f.meaning}: {FORMS[form]}", f.source)
            for f in declared
            if f.compared
        ]
    names = [name for name, *_ in rows]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ProjectError(
            f"several features would be called {', '.join(sorted(repeated))}: rename the attribute, number, "
            "context field or interaction kind that one of them comes from"
        )
    table = pl.DataFrame(rows, schema=["name", "family", "meaning", "source"], orient="row")
    selected = _select(names, config.features.select)
    return table.filter(pl.col("name").is_in(selected))


def _select(names: list[str], patterns: tuple[str, ...]) -> list[str]:
    """Names whose last matching pattern does not start with `!`."""
    selected: dict[str, bool] = {}
    for pattern in patterns:
        glob = pattern.removeprefix("!")
        matched = [name for name in names if fnmatchcase(name, glob)]
        if not matched:
            nearest = difflib.get_close_matches(glob, names, n=1, cutoff=0)
            raise ProjectError(
                f"features.select: no feature is called {glob!r}; the nearest is {nearest[0]!r}. "
                "`python -m features FILE` lists a project's features"
            )
        selected |= dict.fromkeys(matched, not pattern.startswith("!"))
    return [name for name in names if selected.get(name, False)]


def as_markdown(name: str, config: BehaviourConfig) -> str:
    """The catalogue as a Markdown page, one table a family."""
    rows = catalogue(config)
    lines = [
        f"# Features of `{name}`",
        "",
        f"{rows.height} columns, computed from what was known strictly before each impression. "
        f"Written by `python -m features projects/{name}.toml`.",
    ]
    for (family,), members in rows.group_by("family", maintain_order=True):
        lines += ["", f"## {family}", "", "| column | meaning | source |", "|---|---|---|"]
        lines += [
            f"| `{name}` | {meaning} | {source} |"
            for name, meaning, source in members.select("name", "meaning", "source").iter_rows()
        ]
    return "\n".join(lines) + "\n"
