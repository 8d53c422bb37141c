"""Messages for unexpected errors: a sentence or two, with the traceback in a file."""

import errno
import os
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_DAMAGED = ("not a database", "malformed", "disk i/o error", "no such table")


def sentence(error: BaseException, home: Path) -> str:
    """Say what happened and what to do. The traceback is written to a file under `home`."""
    causes = [*_causes(error)]
    if any(map(out_of_space, causes)):
        return (
            f"no space is left on the device ({_first_line(error)}): free some, for example on the disk of {home}, and "
            "run the same command again. Existing tables and versions are intact"
        )
    unexpected = f"{type(error).__name__}: {_first_line(error)}. This is a bug: please report it."
    return f"{_dagster_error(causes, home) or unexpected} The traceback is in {_write(error, home)}"


def out_of_space(error: BaseException) -> bool:
    """Whether an error means that a device is full or a quota is exceeded."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    message = str(error).lower()
    return "no space left on device" in message or "database or disk is full" in message


def _dagster_error(causes: list[BaseException], home: Path) -> str:
    """The message for an error in Dagster's own files; empty for any other error."""
    folder = home / "dagster"
    for cause in causes:
        package = type(cause).__module__.partition(".")[0]
        if package == "yaml" or "dagster.yaml" in str(cause):
            message = " ".join(str(cause).partition(" Expected:")[0].split())[:300].rstrip(".")
            return f"{folder / 'dagster.yaml'} is invalid: {message}. Fix it, or delete it and it is written again."
        if package in ("sqlite3", "sqlalchemy") and any(words in str(cause).lower() for words in _DAMAGED):
            return (
                f"Dagster's records in {folder} are damaged ({_first_line(cause)}): restore that folder from a "
                "backup, or move it away. Without it the run history is lost; tables and models stay."
            )
    return ""


def _write(error: BaseException, home: Path) -> Path:
    file = home / "logs" / f"error-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return file


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300].rstrip(".")


def _causes(error: BaseException) -> Iterator[BaseException]:
    yielded: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in yielded:
        yielded.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
