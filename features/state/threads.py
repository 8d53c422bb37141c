"""Compiled loops side by side: as many threads as Polars has, so that `POLARS_MAX_THREADS` bounds both."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import polars as pl

Piece = TypeVar("Piece")
Made = TypeVar("Made")
WORTH = 8_192
"""Rows from which work is shared among threads: a request's few are done before another thread wakes."""


@cache
def pool() -> ThreadPoolExecutor:
    """The threads, kept for the process."""
    return ThreadPoolExecutor(pl.thread_pool_size(), "kernels")


def each(function: Callable[[Piece], Made], pieces: Iterable[Piece], rows: int) -> list[Made]:
    """Call a function for each piece of work over so many rows, in threads where that is worth it."""
    return list((pool().map if _shared(rows) else map)(function, pieces))


def aside(function: Callable[[], Made], rows: int) -> Callable[[], Made]:
    """Begin work over so many rows beside the caller's, where that is worth it; what is returned gives its result."""
    return pool().submit(function).result if _shared(rows) else function


def _shared(rows: int) -> bool:
    return pl.thread_pool_size() > 1 and rows >= WORTH
