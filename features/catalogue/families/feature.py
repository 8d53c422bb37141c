"""Definition of one column of the features table."""

from dataclasses import dataclass

from features.catalogue.term import Term


@dataclass(frozen=True)
class Feature:
    """One column of the features table."""

    name: str
    family: str
    meaning: str
    value: Term
    source: str = ""
    """Paper or system that the idea comes from; empty for common knowledge."""
    compared: bool = False
    """Whether its list-relative forms are features too. False where all candidates of an impression share the value."""
