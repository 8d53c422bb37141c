"""What is tried again and what is not: a server that cannot be reached, yes; data or a project that is wrong, no."""

import functools
import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import dagster as dg

from features.errors import MomentRankError, TrackingError

RETRIES = 4
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 120.0
_TRANSIENT = (TrackingError, ConnectionError, TimeoutError)

Body = TypeVar("Body", bound=Callable[..., Any])


def steady(body: Body) -> Body:
    """An asset's body that asks for another try where one may help, and for none where the data is at fault."""
    if inspect.isgeneratorfunction(body):

        @functools.wraps(body)
        def yielding(context: dg.AssetExecutionContext, **resources: Any) -> Iterator[Any]:
            with _judged(context.retry_number):
                yield from body(context, **resources)

        return yielding  # type: ignore[return-value]

    @functools.wraps(body)
    def returning(context: dg.AssetExecutionContext, **resources: Any) -> Any:
        with _judged(context.retry_number):
            return body(context, **resources)

    return returning  # type: ignore[return-value]


@contextmanager
def _judged(tries: int) -> Iterator[None]:
    try:
        yield
    except _TRANSIENT as error:
        raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=pause(tries)) from error
    except MomentRankError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def pause(tries: int) -> float:
    """Seconds before the next try: twice as long each time, and at random, so that runs do not return together."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * float(2**tries))
    return longest * (0.5 + random.random() / 2)
