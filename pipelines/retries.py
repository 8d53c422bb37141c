"""Retries of an asset: an unreachable server or store is retried, wrong data or settings are not."""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from deltalake.exceptions import DeltaError

from features.errors import TrackingError
from models.correctable import CORRECTABLE
from pipelines.error_messages import out_of_space

RETRIES = 4
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 120.0
_TRANSIENT = (TrackingError, ConnectionError, TimeoutError)
# Object stores of deltalake and Polars have no error class for an outage, only a message, with line breaks anywhere.
_LINE_BREAKS = re.compile(r"\x1b\[\d*m|↳|\s+")
_STORE_ERROR = re.compile(r"Generic\w+error")
_REFUSED = re.compile(r"statuscode:?4(?!08|29)\d\d")
_BOTO_ERRORS = {"ConnectionError", "HTTPClientError"}


@contextmanager
def with_retries(tries: int) -> Iterator[None]:
    """Turn a transient error of a step into a retry, and a correctable one into a failure without retries."""
    try:
        yield
    except Exception as error:
        if transient(error):
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=pause(tries)) from error
        if isinstance(error, CORRECTABLE):
            raise dg.Failure(str(error), allow_retries=False) from error
        raise


def transient(error: BaseException) -> bool:
    """Whether a retry may help: a server or object store was unreachable, and did not refuse the request."""
    if out_of_space(error) or (error.__cause__ and out_of_space(error.__cause__)):
        return False
    if isinstance(error, _TRANSIENT):
        return True
    if type(error).__module__ == "botocore.exceptions":  # an optional dependency
        status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or any(kind.__name__ in _BOTO_ERRORS for kind in type(error).__mro__)
    message = _LINE_BREAKS.sub("", str(error))
    from_store = isinstance(error, OSError | DeltaError) and _STORE_ERROR.search(message)
    return bool(from_store and not _REFUSED.search(message))


def pause(tries: int) -> float:
    """Seconds before the next try: exponential backoff with jitter."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * float(2**tries))
    return longest * (0.5 + random.random() / 2)
