"""What the command line says about an error that nobody foresaw: one sentence, with the traceback in a file."""

import errno
import os
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_DAMAGED = ("not a database", "malformed", "disk i/o error", "no such table")


def sentence(error: BaseException, home: Path) -> str:
    """What happened and what to do; `home` is where the traceback is written to, with the time in its name."""
    causes = [*_causes(error)]
    if any(map(out_of_space, causes)):
        return (
            f"no space is left on the device ({_first_line(error)}): free some, for example where {home} is, and "
            "run the same command again. Tables and versions that were there are whole"
        )
    return f"{_known(causes, home) or _unforeseen(error)} The traceback is in {_write(error, home)}"


def out_of_space(error: BaseException) -> bool:
    """Whether an error says that a device is full, or a quota used up."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    said = str(error).lower()
    return "no space left on device" in said or "database or disk is full" in said


def _known(causes: list[BaseException], home: Path) -> str:
    """A sentence about Dagster's own files, whose errors reach us as they are; empty for any other error."""
    folder = home / "dagster"
    for cause in causes:
        package = type(cause).__module__.partition(".")[0]
        if package == "yaml" or "dagster.yaml" in str(cause):
            said = " ".join(str(cause).partition(" Expected:")[0].split())[:300].rstrip(".")
            return (
                f"{folder / 'dagster.yaml'} is wrong: {said}. Mend it, or remove it to have it written anew."
            )
        if package in ("sqlite3", "sqlalchemy") and any(words in str(cause).lower() for words in _DAMAGED):
            return (
                f"Dagster's records in {folder} are damaged ({_first_line(cause)}): put that folder back from a "
                "copy, or move it away. Without it the history of runs is lost; tables and models stay."
            )
    return ""


def _unforeseen(error: BaseException) -> str:
    return f"{type(error).__name__}: {_first_line(error)}. This error was not foreseen: please report it."


def _write(error: BaseException, home: Path) -> Path:
    file = home / "logs" / f"error-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return file


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300].rstrip(".")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
