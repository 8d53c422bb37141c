"""What a feature is made of: terms over numbers that are read, put together as ordinary arithmetic."""

from dataclasses import dataclass

from features.state.counters import Read


@dataclass(frozen=True)
class Term:
    """A number of each candidate, or of each list: read, constant, or worked out from other terms."""

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
        """The greater of two."""
        return Term("at_least", (self, term(other)))

    def where_positive(self, condition: "Term") -> "Term":
        """Missing where another term is not above 0."""
        return Term("where_positive", (self, condition))

    def less(self, other: "Term") -> "Term":
        """The difference, and 0 where two differ by rounding only: a z-score would make something of it."""
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
        """The sum over the list."""
        return Term("sum", (self,))


def term(value: Term | float) -> Term:
    """A term as it is, a number as a constant."""
    return value if isinstance(value, Term) else Term("constant", leaf=float(value))


def read(grain: str, name: str, part: str = "") -> Term:
    """A number that is read: a column of a grain, or of a part of it (an attribute, a fact of the context)."""
    return Term("read", leaf=Read(grain, part, name))
