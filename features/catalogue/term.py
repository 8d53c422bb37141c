"""Features, and their values as terms: arithmetic over numbers looked up in the state, items and impressions."""

from dataclasses import dataclass

from features.state.counters import Read


@dataclass(frozen=True)
class Term:
    """A number per candidate or per impression: looked up, constant, or computed from other terms."""

    op: str
    args: tuple["Term", ...] = ()
    leaf: Read | float | None = None

    def __add__(self, other: "Term | float") -> "Term":
        return Term("add", (self, term(other)))

    def __sub__(self, other: "Term | float") -> "Term":
        return Term("subtract", (self, term(other)))

    def __mul__(self, other: "Term | float") -> "Term":
        return Term("multiply", (self, term(other)))

    def __truediv__(self, other: "Term | float") -> "Term":
        return Term("divide", (self, term(other)))

    def at_least(self, other: "Term | float") -> "Term":
        """The maximum of two terms."""
        return Term("at_least", (self, term(other)))

    def where_positive(self, condition: "Term") -> "Term":
        """This term where `condition` is positive; else missing."""
        return Term("where_positive", (self, condition))

    def less(self, other: "Term") -> "Term":
        """The difference; 0 where it is only rounding, which a z-score would amplify."""
        return Term("less", (self, other))

    def log(self) -> "Term":
        """The natural logarithm."""
        return Term("log", (self,))

    def abs(self) -> "Term":
        """The absolute value."""
        return Term("abs", (self,))

    def is_positive(self) -> "Term":
        """1 above 0, else 0."""
        return Term("is_positive", (self,))

    def sum(self) -> "Term":
        """The sum over the impression."""
        return Term("sum", (self,))


def term(value: Term | float) -> Term:
    """Wrap a number as a constant term; return a term unchanged."""
    return value if isinstance(value, Term) else Term("constant", leaf=float(value))


def read(grain: str, name: str, part: str = "") -> Term:
    """Look up a column of a grain; `part` names an attribute or context field where the grain has several."""
    return Term("read", leaf=Read(grain, part, name))


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
