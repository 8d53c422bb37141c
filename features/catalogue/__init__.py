"""The catalogue: every feature that can be read, which of them a project selects, and where each is from.

The same list makes the training table, the daily slice, a live request and the documentation.
"""

import difflib
from fnmatch import fnmatchcase

import polars as pl

from features.catalogue.families.affinity import affinity_features
from features.catalogue.families.attribute import attribute_features
from features.catalogue.families.context import context_features
from features.catalogue.families.feature import Feature
from features.catalogue.families.item import item_features
from features.catalogue.families.list import list_features
from features.catalogue.families.pair import pair_features
from features.catalogue.families.session import session_features
from features.catalogue.families.text import text_features
from features.catalogue.families.user import user_features
from features.catalogue.relative import FORMS
from features.config.project import Project
from features.errors import ProjectError


def features(project: Project) -> list[Feature]:
    """Every feature that this project's state can be asked for, before its list-relative forms."""
    return [
        *item_features(project),
        *attribute_features(project),
        *user_features(project),
        *session_features(project),
        *affinity_features(project),
        *pair_features(project),
        *text_features(),
        *context_features(project),
        *list_features(project),
    ]


def catalogue(project: Project) -> pl.DataFrame:
    """`name, family, meaning, source` of every column of the features table, list-relative forms included.

    Raises ProjectError where two would have one name, or `features.select` holds a pattern that matches nothing.
    """
    declared = features(project)
    rows = [(f.name, f.family, f.meaning, f.source) for f in declared]
    for form in project.features.relative:
        rows += [
            (f"{f.name}_{form}", f.family, f"{f.meaning}: {FORMS[form]}", f.source)
            for f in declared
            if f.compared
        ]
    names = [name for name, *_ in rows]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ProjectError(
            f"two features would be called {', '.join(sorted(repeated))}: rename the declared number, attribute, "
            "fact of the occasion or kind of interaction behind one of them"
        )
    every = pl.DataFrame(rows, schema=["name", "family", "meaning", "source"], orient="row")
    chosen = _select(names, project.features.select)
    return every.filter(pl.col("name").is_in(chosen))


def _select(names: list[str], patterns: tuple[str, ...]) -> list[str]:
    """Names whose last matching pattern does not begin with `!`."""
    chosen: dict[str, bool] = {}
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        matched = [name for name in names if fnmatchcase(name, plain)]
        if not matched:
            near = difflib.get_close_matches(plain, names, n=1, cutoff=0)
            raise ProjectError(
                f"features.select: no feature is called {plain!r}; the nearest is {near[0]!r}. "
                "docs/features.md lists them, `python -m features FILE` those of a project"
            )
        chosen |= dict.fromkeys(matched, not pattern.startswith("!"))
    return [name for name in names if chosen.get(name, False)]


def as_markdown(project: Project) -> str:
    """The catalogue as a Markdown page, by family."""
    rows = catalogue(project)
    lines = [
        f"# Features of `{project.name}`",
        "",
        f"{rows.height} columns, read strictly before each list. "
        f"Written by `python -m features projects/{project.name}.toml`.",
    ]
    for (family,), members in rows.group_by("family", maintain_order=True):
        lines += ["", f"## {family}", "", "| column | meaning | idea |", "|---|---|---|"]
        lines += [
            f"| `{name}` | {meaning} | {source} |"
            for name, meaning, source in members.select("name", "meaning", "source").iter_rows()
        ]
    return "\n".join(lines) + "\n"
