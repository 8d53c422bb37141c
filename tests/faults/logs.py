"""Logs with fuzzed lines and a truncated file: every line is accounted for, and valid ones are kept."""

import gzip
import random
import shutil
import zlib
from datetime import UTC, datetime
from pathlib import Path

from features import sources
from features.events.validation import Events, build
from pipelines.deployment import Deployment

TABLES = ("items", "impressions", "interactions", "rejects")
_PIECES = (
    '"',
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "1e999",
    "\\u0000",
    "é",
    "\x00",
    "\ud7ff",
    "-1",
    '"id"',
    '"ranking"',
)


def broken_logs(deployment: Deployment, folder: Path, count: int, draw: random.Random) -> tuple[str, str]:
    """Read logs with `count` fuzzed lines and a truncated file added; return what was read and what was lost."""
    logs = folder / "events"
    shutil.copytree(deployment.settings.newsroom(deployment.project.name) / "events", logs)
    valid = _read(deployment, logs)
    lines = [
        line for path in sorted(logs.iterdir()) for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    fuzzed = [_fuzzed(draw.choice(lines), draw) for _ in range(count)]
    (logs / "fuzzed.jsonl").write_bytes(b"\n".join(fuzzed) + b"\n")
    complete = gzip.compress(b"\n".join(draw.sample(lines, len(lines) // 2)) + b"\n")
    truncated = complete[: len(complete) * 2 // 3]
    (logs / "cut.jsonl.gz").write_bytes(truncated)
    events = _read(deployment, logs)

    readable = zlib.decompressobj(wbits=31).decompress(truncated).splitlines()
    read = len(lines) + len(readable) + sum(not _blank(line) for line in fuzzed)
    rows = {name: getattr(events, name).height for name in TABLES}
    lost = []
    if sum(rows.values()) != read:
        lost.append(f"{read:,} lines became {sum(rows.values()):,} rows")
    for name, key in (("impressions", "impression_id"), ("interactions", "interaction_id")):
        missing = getattr(valid, name).join(getattr(events, name), on=key, how="anti").height
        if missing:
            lost.append(f"{missing} valid {name} are missing")
    if not events.rejects["reason"].is_not_null().all():
        lost.append("a reject has no reason")
    kept = sum(rows.values()) - rows["rejects"]
    return f"{read:,} lines: {kept:,} kept, {rows['rejects']:,} rejected with a reason", "; ".join(lost)


def _read(deployment: Deployment, logs: Path) -> Events:
    return build(
        sources.read(deployment.project.reader, [logs]), deployment.project.slices, datetime.now(UTC)
    )


def _blank(line: bytes) -> bool:
    return not line.strip(b" \t\r\x0b\x0c\x1c\x1d\x1e\x1f")


def _fuzzed(line: bytes, draw: random.Random) -> bytes:
    """Delete, insert, repeat or overwrite a piece of a line."""
    start = draw.randrange(len(line))
    end = min(len(line), start + draw.randrange(1, 40))
    piece = draw.choice(_PIECES).encode() if draw.random() < 0.7 else draw.randbytes(draw.randrange(1, 6))
    replacement = draw.choice((b"", piece, line[start:end] * 2))
    return (line[:start] + replacement + line[end:]).replace(b"\n", b" ")
