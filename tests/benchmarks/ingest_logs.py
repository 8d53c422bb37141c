"""The synthetic logs that `ingest.py` reads."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

START = datetime(2026, 1, 5, tzinfo=UTC)
END = START + timedelta(days=4)
LOGS = {"events": "events.jsonl", "lists": "lists.parquet", "candidates": "candidates.parquet"}
LISTED = 20
CATALOGUE = 50_000
USERS = 20_000


def write_logs(folder: Path, count: int) -> dict[str, int]:
    """Write the three logs; how many rows each has: events, and candidates shown."""
    with (folder / LOGS["events"]).open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in _lines(count))
    draw = np.random.default_rng(2)
    lists = count // 4
    shown = draw.integers(0, CATALOGUE, (lists, 1)) + np.cumsum(
        draw.integers(1, 400, (lists, LISTED)), axis=1
    )
    ids = pl.Series([f"n-{n:05d}" for n in range(CATALOGUE)]).gather((shown % CATALOGUE).ravel())
    micros = np.sort(draw.integers(0, (END - START) // timedelta(microseconds=1), lists))
    frame = pl.DataFrame(
        {
            "impression_id": [f"r-{n:07d}" for n in range(lists)],
            "user_id": [f"u-{n:05d}" for n in draw.integers(0, USERS, lists)],
            "shown_at": pl.Series(micros + int(START.timestamp()) * 1_000_000).cast(pl.Datetime("us", "UTC")),
            "items": ids.reshape((lists, LISTED)).arr.to_list(),
            "slot": draw.integers(0, 2 * LISTED, lists),
        }
    )
    clicked = pl.concat_list(pl.col("items").list.get("slot", null_on_oob=True)).list.drop_nulls()
    frame = frame.with_columns(clicked=clicked).drop("slot")
    frame.write_parquet(folder / LOGS["lists"])
    clicked = pl.col("clicked").list.contains(pl.col("items")).cast(pl.Int8)
    frame.explode("items").with_columns(clicked).write_parquet(folder / LOGS["candidates"])
    return {"events": count, "lists": lists * LISTED, "candidates": lists * LISTED}


def write_day(folder: Path, day: int, count: int) -> None:
    """Write the events of one day, the `day`-th from START on, to a file of its own."""
    folder.mkdir(exist_ok=True)
    begin = START + timedelta(days=day)
    with (folder / f"{begin:%Y-%m-%d}.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in _lines(count, begin, timedelta(days=1), f"{day}-"))


def _lines(
    count: int, begin: datetime = START, span: timedelta = END - START, mark: str = ""
) -> Iterator[str]:
    """17 % rankings, 5 % items, and clicks on recent rankings, as in RankLens; of a thousand lines two are faulty."""
    draw = np.random.default_rng(1)
    kinds, faults = draw.random(count).tolist(), draw.random(count).tolist()
    starts, steps = draw.integers(0, CATALOGUE, count).tolist(), draw.integers(1, 2000, count).tolist()
    users, slots = draw.integers(0, USERS, count).tolist(), draw.integers(0, LISTED, count).tolist()
    first, every = int(begin.timestamp() * 1000), span / timedelta(milliseconds=1) / count
    rankings: list[int] = []
    for n in range(count):
        at = f'"timestamp":"{first + int(n * every)}"'
        if kinds[n] < 0.17 or not rankings:
            rankings.append(n)
            items = ",".join(
                f'{{"id":"n-{(starts[n] + k * steps[n]) % CATALOGUE:05d}"}}' for k in range(LISTED)
            )
            line = (
                f'{{"event":"ranking","id":"r-{mark}{n:07d}","user":"u-{users[n]:05d}","session":"s-{users[n]:05d}",'
                f'{at},"fields":[{{"name":"surface","value":"home"}}],"items":[{items}]}}'
            )
        elif kinds[n] < 0.22:
            line = (
                f'{{"event":"item","id":"e-{n:07d}","item":"n-{starts[n]:05d}",{at},"fields":['
                f'{{"name":"title","value":"Rain over the western hills, day {n}"}},'
                f'{{"name":"body","value":"{"The river rose by a foot and fell again. " * 5}"}},'
                f'{{"name":"length","value":{steps[n]}}},{{"name":"category","value":"weather"}},'
                f'{{"name":"tags","value":["hills","rain","river"]}}]}}'
            )
        else:
            shown = rankings[-1 - slots[n] % len(rankings)]
            item = (starts[shown] + slots[n] * steps[shown]) % CATALOGUE
            item = CATALOGUE if faults[n] < 0.0005 else item
            name = "c-again" if 0.0005 < faults[n] < 0.001 else f"c-{mark}{n:07d}"
            line = (
                f'{{"event":"interaction","id":"{name}","ranking":"r-{mark}{shown:07d}","user":"u-{users[shown]:05d}",'
                f'"item":"n-{item:05d}","type":"click",{at},"fields":[]}}'
            )
        yield line[:50] if 0.001 < faults[n] < 0.002 else line
