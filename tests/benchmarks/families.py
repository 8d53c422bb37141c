"""Ablation by feature family: the ranker without each family, on impressions after its window.

`python tests/benchmarks/families.py PROJECT [HOME] [--evaluated 1] [--seeds 1]` after `momentrank run PROJECT`. Fits on
every slice but the last ones, evaluates those, and prints a Markdown table of nDCG@10 with paired intervals.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from features.catalogue import catalogue
from features.config.project import Project, load
from features.ranking_dataset import feature_columns
from models.evaluation.evaluate import difference, evaluate
from models.ranker import fit
from pipelines.lake import Lake

METRIC = "ndcg@10"
INTEREST = "interest"
"""Family of the transformer's score and its list-relative form."""


def families(columns: list[str], project: Project) -> dict[str, str]:
    """Return the family of each column of a ranking dataset."""
    declared = dict(catalogue(project.behaviour).select("name", "family").iter_rows())
    return {name: declared.get(name, INTEREST) for name in columns}


def main(project: Project, home: Path, evaluated: int, seeds: int) -> None:
    """Fit one ranker for each ablation and print the table."""
    dataset = Lake(f"{home / 'lake'}/{project.name}").read("ranking_dataset")
    slices = dataset["slice"].unique().sort()
    later = pl.col("slice") >= slices[-evaluated]
    window, after = dataset.filter(~later), dataset.filter(later)
    columns = feature_columns(dataset)
    family = families(columns, project)
    names = list(dict.fromkeys(family.values()))
    ablations = {"all": columns, "no text": [c for c in columns if family[c] not in ("text", INTEREST)]}
    ablations |= {f"without {name}": [c for c in columns if family[c] != name] for name in names}
    keys = ("impression_id", "user_id", "item_id", "position", "label", "clicked", "as_of")
    scored = after.select(keys)
    for name, subset in ablations.items():
        rankers = [
            fit(window, subset, project.ranker, project.labels, project.seed + n) for n in range(seeds)
        ]
        mean = np.mean([ranker.score(after).to_numpy() for ranker in rankers], axis=0)
        scored = scored.with_columns(pl.Series(name, mean))
    values = evaluate(scored, list(ablations)).values
    impressions = values["impression_id"].n_unique()
    print(
        f"{project.name}: {impressions} impressions of the last {evaluated} slices, mean score of {seeds} seeds\n"
    )
    print("| features | columns | nDCG@10 | loss against all |\n|---|---|---|---|")
    for name, subset in ablations.items():
        own = values.filter(scorer=name)[METRIC].mean()
        lost = difference(values, "all", name, METRIC)
        print(
            f"| {name} | {len(subset)} | {own:.4f} | {lost.mean:+.4f} ({lost.low:+.4f} to {lost.high:+.4f}) |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("home", type=Path, nargs="?", default=Path(".momentrank"))
    parser.add_argument("--evaluated", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    main(load(options.project), options.home, options.evaluated, options.seeds)
