"""A model card: what a version was fitted on, reads, reaches and is not for, in Markdown.

It is written when a version is registered; a ranker's is amended when it has been evaluated on lists that it had
not seen. MLflow shows it as the version's description.
"""

import re
from collections.abc import Mapping

import polars as pl

from features.config.project import Project
from models.evaluation.evaluate import ALL, EvaluationResult
from models.markdown import table
from models.ranker import Ranker

EVALUATED = "How good it is on unseen lists"
"""Heading of the section that a judgement fills."""

_METRICS = {"ndcg@10": ("ndcg@10", "mrr", "auc"), "pooled_auc": ("pooled_auc", "log_loss")}
"""Headline metric → those that are shown beside it."""
_LONGEST = 5000
"""Characters of a description that MLflow's databases take."""
_SEE_CARD = "\n\n… the rest is in `card.md`, among the run's artifacts.\n"
_GREATEST = 3
"""Features named of each family."""


def ranker_card(
    name: str, ranker: Ranker, project: Project, importance: pl.DataFrame, tags: Mapping[str, object]
) -> str:
    """The card of a ranker that was just fitted.

    `name` is the registered model's, `importance` has `feature, gain, family`, `tags` what the version is
    tagged with (`window`, `interest_version`, `tables`).
    """
    sections = {
        "Data": _data(ranker, project, tags),
        "Features": _features(importance),
        EVALUATED: "Not evaluated yet: a version is evaluated on the slice after those it was fitted on.",
        "Limits": _LIMITS,
        "Use": _use(name, ranker),
        "Back": (
            "`momentrank rollback PROJECT.toml` makes the champion before this one champion again, "
            "`momentrank promote PROJECT.toml VERSION` any version; `momentrank history PROJECT.toml` lists "
            "who was champion when, and why."
        ),
    }
    top = (
        f"Orders the candidates of a list for its user, by what was done before and by what the text says: "
        f"LightGBM ({ranker.info['objective']}) over {len(ranker.columns)} columns, {_boosters(ranker)}."
    )
    return written(f"{name}, fitted on {tags.get('window', 'one window')}", top, sections)


def written(title: str, top: str, sections: Mapping[str, str]) -> str:
    """A card: title, a first paragraph, and sections by heading."""
    parts = [f"# {title}", top, *(f"## {heading}\n\n{text}" for heading, text in sections.items())]
    return "\n\n".join(parts) + "\n"


def evaluated(result: EvaluationResult, slice: str, version: str) -> str:
    """The section of a version that was evaluated on a slice: each scorer beside it, and where it was looked at apart."""
    everything = result.table.filter(segment=ALL)
    metrics = _METRICS[result.headline]
    rows = [
        [scorer, *(_figure(everything, scorer, metric) for metric in metrics)]
        for scorer in everything["scorer"].unique(maintain_order=True)
    ]
    parts = [
        f"{result.impressions:,} lists of {slice}, which version {version} had not seen; means, with the "
        f"interval of the bootstrap.",
        table(["scorer", *metrics], rows),
    ]
    segments = result.table.filter(pl.col("segment") != ALL, scorer="full", metric=metrics[0]).drop_nulls(
        "mean"
    )
    if segments.height:
        apart = [
            [row["segment"], f"{row['impressions']:,}", _interval(row)]
            for row in segments.iter_rows(named=True)
        ]
        parts.append(table(["apart", "lists", metrics[0]], apart))
    return "\n\n".join(parts)


def with_section(card: str, heading: str, text: str) -> str:
    """The card with the section under a heading replaced; added at its end where there is none."""
    section = f"## {heading}\n\n{text.strip()}\n"
    found = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if not found.search(card):
        return f"{card.rstrip()}\n\n{section}".lstrip()
    return found.sub(lambda _: f"{section}\n", card).rstrip() + "\n"


def shortened(card: str) -> str:
    """As much of the card as a description holds, in whole lines."""
    if len(card) <= _LONGEST:
        return card
    return card[: _LONGEST - len(_SEE_CARD)].rpartition("\n")[0].rstrip() + _SEE_CARD


def _data(ranker: Ranker, project: Project, tags: Mapping[str, object]) -> str:
    gains = ", ".join(f"{kind} {gain:g}" for kind, gain in project.labels.gains.items())
    facts = {
        "window": tags.get("window", ""),
        "learnt from": f"{ranker.info['impressions']:,} lists, {ranker.info['rows']:,} candidates",
        **({"drawn": tags["drawn"]} if "drawn" in tags else {}),
        **({"workers": tags["workers"]} if "workers" in tags else {}),
        "label": f"{gains}; within {project.labels.attribution} of the list",
        "rounds": f"{ranker.info['best_iteration']}, by {ranker.info['validation_metric']} on held-out impressions: "
        f"{ranker.info['validation']:.3f}",
        "tables": tags.get("tables", ""),
        "interest scores": f"up to version {tags.get('interest_version', 'none')} of {project.name}-interest",
    }
    return table(["", ""], [[name, str(fact)] for name, fact in facts.items()])


def _boosters(ranker: Ranker) -> str:
    count = len(ranker.boosters)
    return f"the mean of {count} boosters" if count > 1 else "one booster"


def _features(importance: pl.DataFrame) -> str:
    """Each family's columns and its share of what the splits gained, greatest first."""
    total = max(float(importance["gain"].sum()), 1e-12)
    families = (
        importance.sort("gain", "feature", descending=[True, False])
        .group_by("family", maintain_order=True)
        .agg(pl.len(), pl.col("gain").sum(), pl.col("feature").head(_GREATEST))
        .sort("gain", "family", descending=[True, False])
    )
    rows = [
        [family, str(count), f"{gain / total:.1%}", ", ".join(names)]
        for family, count, gain, names in families.iter_rows()
    ]
    return table(["family", "columns", "share of gain", "greatest"], rows)


_LIMITS = """\
- It learnt from lists that people were shown: of what was never shown to anybody it knows nothing but its text.
- It reads features, it does not compute them. They must be those of the moment of the list, known strictly before
  it, and the interest score that of a version fitted before; `momentrank rank` does all of this.
- `rank_score` compares the candidates of one list, nothing else. `click_probability` is that of lists like those
  it was fitted on, shown in the same way.
- The place in the list entered the fit only; a candidate is evaluated as if all stood in one place.
- Users and items that were never met are read by their priors and their text: see how it does on them above."""


def _use(name: str, ranker: Ranker) -> str:
    return f"""\
```python
ranker = mlflow.pyfunc.load_model("models:/{name}@champion")
ranker.predict(frame)  # rank, rank_score, click_probability: row for row
```

`frame` (pandas) has a row a candidate: `impression_id`, `item_id` and the {len(ranker.columns)} columns of the
version's signature; the version carries example rows. As a server:
`mlflow models serve -m models:/{name}@champion --env-manager local`, which takes
`{{"dataframe_split": {{"columns": […], "data": [[…], …]}}}}` at `/invocations`."""


def _figure(table: pl.DataFrame, scorer: str, metric: str) -> str:
    found = table.filter(scorer=scorer, metric=metric)
    return _interval(found.row(0, named=True)) if found.height else "–"


def _interval(row: Mapping[str, float | None]) -> str:
    return "–" if row["mean"] is None else f"{row['mean']:.3f} ({row['low']:.3f}–{row['high']:.3f})"
