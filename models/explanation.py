"""Why an item stands where it stands: the ranker's contributions, by family of features, and in words."""

import polars as pl

INTEREST = "interest"

_WORDS = {
    "item": "how the item does",
    "attribute": "how its kind does",
    "user": "the user's habits",
    "affinity": "what the user takes and passes of its kind",
    "pair": "whether the user met it before",
    "text": "likeness to what the user took",
    "context": "the moment",
    INTEREST: "what the text says to this user",
}


def by_family(contributions: pl.DataFrame, catalogue: pl.DataFrame) -> pl.DataFrame:
    """Contributions (a column a feature, and `bias`) summed to a column a family, greatest spread first.

    `catalogue`: name, family. Columns it does not know are the interest score's. The bias is left out: it is
    the same for every candidate.
    """
    family = dict(catalogue.select("name", "family").iter_rows())
    members: dict[str, list[str]] = {}
    for name in contributions.columns:
        if name != "bias":
            members.setdefault(family.get(name, INTEREST), []).append(name)
    sums = contributions.select(pl.sum_horizontal(names).alias(f) for f, names in members.items())
    spread = sums.select(pl.all().abs().sum()).row(0)
    order = sorted(zip(spread, sums.columns, strict=True), key=lambda part: (-part[0], part[1]))
    return sums.select(name for _, name in order)


def reasons(families: pl.DataFrame, shown: int = 2) -> pl.Series:
    """For each row, the families that spoke most for the item, in words with their contribution."""
    sentences = []
    for row in families.iter_rows(named=True):
        best = sorted(row.items(), key=lambda part: -part[1])[:shown]
        parts = [f"{_WORDS.get(name, name)} ({value:+.2f})" for name, value in best if value > 0]
        sentences.append("; ".join(parts) or "nothing speaks for it")
    return pl.Series("reasons", sentences, dtype=pl.String)
