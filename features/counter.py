"""What is counted of each key, and what the numbers are called. `decay.py` does the counting."""

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

_INSTANT = pl.Datetime("us", "UTC")
_INSTANTS = ("last_at", "clicked_at")


@dataclass(frozen=True)
class Counter:
    """What is counted per key: `quantities`, each under every half-life.

    `half_lives` maps a half-life's name to its seconds, or None for a counter that never fades.
    """

    keys: tuple[str, ...]
    quantities: tuple[str, ...]
    half_lives: tuple[tuple[str, float | None], ...]
    forget: timedelta | None = None

    @property
    def columns(self) -> list[str]:
        """Names of the numbers kept: `clicks_1d`, `clicks_all`…"""
        return [column(q, name) for q in self.quantities for name, _ in self.half_lives]

    @property
    def instants(self) -> tuple[str, ...]:
        """Names of the instants kept: of the last fact of any kind, and of the last click."""
        return _INSTANTS if "clicks" in self.quantities else _INSTANTS[:1]

    @property
    def parts(self) -> list[tuple[str, str, float | None]]:
        """Of each of `columns`: its name, its quantity, and its half-life in seconds."""
        return [(column(q, name), q, seconds) for q in self.quantities for name, seconds in self.half_lives]

    def empty(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Totals of nothing, with the key types of `keys`."""
        return (
            keys.select(self.keys)
            .clear()
            .with_columns(
                *(pl.lit(None, pl.Float64).alias(name) for name in self.columns),
                *(pl.lit(None, _INSTANT).alias(name) for name in self.instants),
            )
        )


def column(quantity: str, half_life: str) -> str:
    """Name of a counter: the quantity and its half-life; `none` is written `all`."""
    return f"{quantity}_{'all' if half_life == 'none' else half_life}"
