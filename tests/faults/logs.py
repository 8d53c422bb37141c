"""Logs with fuzzed lines among them and a file cut short: every line is accounted for, and sound ones are kept."""

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


def broken_logs(deployment: Deployment, place: Path, count: int, draw: random.Random) -> tuple[str, str]:
    """What was read of a deployment's logs with `count` fuzzed lines and a cut file beside them, and what was lost."""
    logs = place / "events"
    shutil.copytree(deployment.settings.newsroom(deployment.project.name) / "events", logs)
    sound = _read(deployment, logs)
    known = [
        line for path in sorted(logs.iterdir()) for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    fuzzed = [_fuzzed(draw.choice(known), draw) for _ in range(count)]
    (logs / "fuzzed.jsonl").write_bytes(b"\n".join(fuzzed) + b"\n")
    whole = gzip.compress(b"\n".join(draw.sample(known, len(known) // 2)) + b"\n")
    cut = whole[: len(whole) * 2 // 3]
    (logs / "cut.jsonl.gz").write_bytes(cut)
    found = _read(deployment, logs)

    before_the_cut = zlib.decompressobj(wbits=31).decompress(cut).splitlines()
    read = len(known) + len(before_the_cut) + sum(not _blank(line) for line in fuzzed)
    rows = {name: getattr(found, name).height for name in TABLES}
    lost = []
    if sum(rows.values()) != read:
        lost.append(f"{read:,} lines became {sum(rows.values()):,} rows")
    for name, key in (("impressions", "impression_id"), ("interactions", "interaction_id")):
        gone = getattr(sound, name).join(getattr(found, name), on=key, how="anti").height
        if gone:
            lost.append(f"{gone} sound {name} are gone")
    if not found.rejects["reason"].is_not_null().all():
        lost.append("a reject has no reason")
    kept = sum(rows.values()) - rows["rejects"]
    return f"{read:,} lines: {kept:,} kept, {rows['rejects']:,} refused with a reason", "; ".join(lost)


def _read(deployment: Deployment, logs: Path) -> Events:
    return build(sources.read(deployment.project, [logs]), deployment.project, datetime.now(UTC))


def _blank(line: bytes) -> bool:
    return not line.strip(b" \t\r\x0b\x0c\x1c\x1d\x1e\x1f")


def _fuzzed(line: bytes, draw: random.Random) -> bytes:
    """A line with a piece cut out, put in, doubled or overwritten."""
    start = draw.randrange(len(line))
    end = min(len(line), start + draw.randrange(1, 40))
    piece = draw.choice(_PIECES).encode() if draw.random() < 0.7 else draw.randbytes(draw.randrange(1, 6))
    instead = draw.choice((b"", piece, line[start:end] * 2))
    return (line[:start] + instead + line[end:]).replace(b"\n", b" ")
