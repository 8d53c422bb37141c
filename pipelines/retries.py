"""What is tried again and what is not: a server or store that is away, yes; data or a project that is wrong, no."""

import functools
import inspect
import random
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import dagster as dg
from deltalake.exceptions import DeltaError

from features.errors import TrackingError
from models.correctable import CORRECTABLE
from pipelines.error_messages import out_of_space

RETRIES = 4
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 120.0
_TRANSIENT = (TrackingError, ConnectionError, TimeoutError)
# Deltalake's and Polars' object stores have no class for an outage: both say so, in lines broken anywhere.
_LINE_BREAKS = re.compile(r"\x1b\[\d*m|↳|\s+")
_OF_A_STORE = re.compile(r"Generic\w+error")
_REFUSED = re.compile(r"statuscode:?4(?!08|29)\d\d")
_OF_BOTO = {"ConnectionError", "HTTPClientError"}

Body = TypeVar("Body", bound=Callable[..., Any])


def with_retries(body: Body) -> Body:
    """An asset's body as a step of its run: shown, and tried again unless the data is at fault."""
    if inspect.isgeneratorfunction(body):

        @functools.wraps(body)
        def yielding(context: dg.AssetExecutionContext, **resources: Any) -> Iterator[Any]:
            with _shown(body, resources), _classified(context.retry_number):
                yield from body(context, **resources)

        return yielding  # type: ignore[return-value]

    @functools.wraps(body)
    def returning(context: dg.AssetExecutionContext, **resources: Any) -> Any:
        with _shown(body, resources), _classified(context.retry_number):
            return body(context, **resources)

    return returning  # type: ignore[return-value]


def _shown(body: Body, resources: dict[str, Any]) -> AbstractContextManager[None]:
    """The body as a step of what the person waiting is shown."""
    deployment = resources.get("deployment")
    return deployment.progress.step(body.__name__) if deployment else nullcontext()


@contextmanager
def _classified(tries: int) -> Iterator[None]:
    try:
        yield
    except CORRECTABLE as error:
        if not transient(error):
            raise dg.Failure(str(error), allow_retries=False) from error
        raise _later(tries) from error
    except Exception as error:
        if not transient(error):
            raise
        raise _later(tries) from error


def transient(error: BaseException) -> bool:
    """Whether another try may help: a server or an object store is away, and has not refused what it was asked."""
    if out_of_space(error) or (error.__cause__ and out_of_space(error.__cause__)):
        return False
    if isinstance(error, _TRANSIENT):
        return True
    if type(error).__module__ == "botocore.exceptions":  # an extra, which may not be installed
        return any(kind.__name__ in _OF_BOTO for kind in type(error).__mro__) or _failed(error)
    said = _LINE_BREAKS.sub("", str(error))
    of_a_store = isinstance(error, OSError | DeltaError) and _OF_A_STORE.search(said)
    return bool(of_a_store and not _REFUSED.search(said))


def _failed(error: BaseException) -> bool:
    answer = getattr(error, "response", {})
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500


def _later(tries: int) -> dg.RetryRequested:
    return dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=pause(tries))


def pause(tries: int) -> float:
    """Seconds before the next try: twice as long each time, and at random, so that runs do not return together."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * float(2**tries))
    return longest * (0.5 + random.random() / 2)
