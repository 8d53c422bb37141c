"""Model cards in Markdown: a version's training data, features, quality, limits and use.

A card is written when a version is registered and amended when it was evaluated on unseen impressions. MLflow shows it
as the version's description.
"""

import re
from collections.abc import Mapping

import polars as pl

from features.config.sections import Labels
from models.evaluation.evaluate import ALL, EvaluationResult
from models.markdown import table
from models.ranker import Ranker

EVALUATED = "Quality on unseen impressions"
"""Heading of the section that an evaluation fills."""

_MAX_DESCRIPTION = 5000
"""Characters: MLflow's limit."""
_SEE_CARD = "\n\n… continued in `card.md` in the run's artifacts.\n"
_MAX_FEATURES = 3
"""Features listed per family."""


def ranker_card(
    name: str, ranker: Ranker, labels: Labels, importance: pl.DataFrame, tags: Mapping[str, object]
) -> str:
    """The card of a newly fitted ranker.

    `name`: the registered model's. `importance`: `feature, gain, family`. `tags`: the version's tags (`window`,
    `interest_version`, `tables`).
    """
    sections = {
        "Data": _data(ranker, labels, tags),
        "Features": _features(importance),
        EVALUATED: "Not evaluated yet: a version is evaluated on the slice after its training window.",
        "Limits": _LIMITS,
        "Use": _use(name, ranker),
        "Rollback": (
            "`momentrank rollback PROJECT.toml` makes the previous champion champion again, `momentrank promote "
            "PROJECT.toml VERSION` any version; `momentrank history PROJECT.toml` lists all champions, with reasons."
        ),
    }
    summary = (
        f"Ranks the candidates of an impression for its user, from earlier behaviour and from texts: "
        f"LightGBM ({ranker.info['objective']}) over {len(ranker.columns)} columns, {_boosters(ranker)}."
    )
    return card(f"{name}, fitted on {tags.get('window', 'one window')}", summary, sections)


def card(title: str, summary: str, sections: Mapping[str, str]) -> str:
    """A card: title, summary, and sections by heading."""
    parts = [f"# {title}", summary, *(f"## {heading}\n\n{text}" for heading, text in sections.items())]
    return "\n\n".join(parts) + "\n"


def evaluated(result: EvaluationResult, slice: str, version: str) -> str:
    """The quality section of a version that was evaluated on a slice: all scorers, and segments."""
    overall = result.table.filter(segment=ALL)
    metrics = result.metrics.shown
    rows = [
        [scorer, *(_figure(overall, scorer, metric) for metric in metrics)]
        for scorer in overall["scorer"].unique(maintain_order=True)
    ]
    parts = [
        f"{result.impressions:,} impressions of {slice}, not seen by version {version}; means with bootstrap "
        "confidence intervals.",
        table(["scorer", *metrics], rows),
    ]
    segments = result.table.filter(pl.col("segment") != ALL, scorer="full", metric=metrics[0]).drop_nulls(
        "mean"
    )
    if segments.height:
        by_segment = [
            [row["segment"], f"{row['impressions']:,}", _interval(row)]
            for row in segments.iter_rows(named=True)
        ]
        parts.append(table(["segment", "impressions", metrics[0]], by_segment))
    return "\n\n".join(parts)


def with_section(card: str, heading: str, text: str) -> str:
    """Replace the section under a heading, or append it."""
    section = f"## {heading}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if not pattern.search(card):
        return f"{card.rstrip()}\n\n{section}".lstrip()
    return pattern.sub(lambda _: f"{section}\n", card).rstrip() + "\n"


def shortened(card: str) -> str:
    """The card cut to the length of a description, in whole lines."""
    if len(card) <= _MAX_DESCRIPTION:
        return card
    return card[: _MAX_DESCRIPTION - len(_SEE_CARD)].rpartition("\n")[0].rstrip() + _SEE_CARD


def _data(ranker: Ranker, labels: Labels, tags: Mapping[str, object]) -> str:
    gains = ", ".join(f"{kind} {gain:g}" for kind, gain in labels.gains.items())
    entries = {
        "window": tags.get("window", ""),
        "fitted on": f"{ranker.info['impressions']:,} impressions, {ranker.info['rows']:,} candidates",
        **({"sampled": tags["drawn"]} if "drawn" in tags else {}),
        **({"workers": tags["workers"]} if "workers" in tags else {}),
        "label": f"{gains}; within {labels.attribution} of the impression",
        "iterations": f"{ranker.info['best_iteration']}, by {ranker.info['validation_metric']} on held-out "
        f"impressions: {ranker.info['validation']:.3f}",
        "tables": tags.get("tables", ""),
        "interest scores": f"up to version {tags.get('interest_version', 'none')} of the interest model",
    }
    return table(["", ""], [[name, str(value)] for name, value in entries.items()])


def _boosters(ranker: Ranker) -> str:
    count = len(ranker.boosters)
    return f"the mean of {count} boosters" if count > 1 else "one booster"


def _features(importance: pl.DataFrame) -> str:
    """Each family's columns and share of the total gain, largest first."""
    total = max(float(importance["gain"].sum()), 1e-12)
    families = (
        importance.sort("gain", "feature", descending=[True, False])
        .group_by("family", maintain_order=True)
        .agg(pl.len(), pl.col("gain").sum(), pl.col("feature").head(_MAX_FEATURES))
        .sort("gain", "family", descending=[True, False])
    )
    rows = [
        [family, str(count), f"{gain / total:.1%}", ", ".join(names)]
        for family, count, gain, names in families.iter_rows()
    ]
    return table(["family", "columns", "share of gain", "strongest"], rows)


_LIMITS = """\
- It is fitted on items that were shown: about an item that was never shown it knows only the text.
- It reads features and does not compute them. They must be point-in-time, known strictly before the impression, and
  the interest score must come from an earlier version; `momentrank rank` ensures both.
- `rank_score` compares candidates of one impression only. `click_probability` holds for impressions like those it
  was fitted on.
- The position entered the fit only; candidates are scored as if all had the same position.
- Cold-start users and items are scored by priors and text: see the segments above for the quality."""


def _use(name: str, ranker: Ranker) -> str:
    return f"""\
```python
ranker = mlflow.pyfunc.load_model("models:/{name}@champion")
ranker.predict(frame)  # rank, rank_score, click_probability: row for row
```

`frame` (pandas) has one row per candidate: `impression_id`, `item_id` and the {len(ranker.columns)} columns of the
version's signature; the version includes example rows. As a server:
`mlflow models serve -m models:/{name}@champion --env-manager local`, which accepts
`{{"dataframe_split": {{"columns": […], "data": [[…], …]}}}}` at `/invocations`."""


def _figure(table: pl.DataFrame, scorer: str, metric: str) -> str:
    rows = table.filter(scorer=scorer, metric=metric)
    return _interval(rows.row(0, named=True)) if rows.height else "–"


def _interval(row: Mapping[str, float | None]) -> str:
    return "–" if row["mean"] is None else f"{row['mean']:.3f} ({row['low']:.3f}–{row['high']:.3f})"
