"""Composition of the impression."""

from collections.abc import Iterator

from features.catalogue.families.feature import Feature
from features.catalogue.term import read
from features.config.sections import BehaviourConfig


def list_features(config: BehaviourConfig) -> Iterator[Feature]:
    """Per declared attribute: variety of the impression, and how common the candidate's values are in it."""
    for name in config.items.categorical:
        distinct = read("sharing", "distinct", name).sum()
        yield Feature(f"list_{name}_variety", "list", f"distinct {name} values in the impression, per candidate",
                      distinct / read("list", "size"), "intra-list diversity (Ziegler et al. 2005)")  # fmt: skip
        yield Feature(f"list_{name}_shared", "list", f"share of the impression's candidates with the item's {name}",
                      read("sharing", "shared", name) / read("list", "size"), "", True)  # fmt: skip
