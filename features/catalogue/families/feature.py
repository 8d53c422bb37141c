"""One column of the features table, declared."""

from dataclasses import dataclass
from typing import Literal

from features.catalogue.term import Term

Family = Literal["item", "attribute", "user", "session", "affinity", "pair", "text", "context", "list"]


@dataclass(frozen=True)
class Feature:
    """One column of the features table."""

    name: str
    family: Family
    meaning: str
    value: Term
    source: str = ""
    """Where the idea is from; empty for what every such system has."""
    compared: bool = False
    """Whether its list-relative forms are features too: not for what is the same in all of a list."""
