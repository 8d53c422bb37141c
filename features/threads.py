"""Work on parallel threads, as many as Polars has, so that `POLARS_MAX_THREADS` bounds both."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import polars as pl

Piece = TypeVar("Piece")
Result = TypeVar("Result")
MIN_ROWS = 8_192
"""Work on fewer rows runs on the caller's thread: a request is done before another thread wakes."""


@cache
def pool() -> ThreadPoolExecutor:
    """The thread pool of this process."""
    return ThreadPoolExecutor(pl.thread_pool_size(), "kernels")


def each(function: Callable[[Piece], Result], pieces: Iterable[Piece], rows: int) -> list[Result]:
    """Apply a function to each piece of work on `rows` rows in all, on parallel threads if there are enough rows."""
    return list((pool().map if _parallel(rows) else map)(function, pieces))


def aside(function: Callable[[], Result], rows: int) -> Callable[[], Result]:
    """Start work on `rows` rows on another thread if there are enough rows; call what is returned for the result."""
    return pool().submit(function).result if _parallel(rows) else function


def work_ahead(work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Result]:
    """Apply `work` to each piece in threads (Polars releases the GIL) and yield results in order.

    Few pieces are in memory at a time.
    """
    count = pl.thread_pool_size()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(count) as threads:
        for piece in pieces:
            waiting.append(threads.submit(work, piece))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _parallel(rows: int) -> bool:
    return pl.thread_pool_size() > 1 and rows >= MIN_ROWS
