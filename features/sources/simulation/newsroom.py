"""Write a seeded, simulated newsroom as raw logs in Metarank's JSON-lines format.

As in real logs, some interactions arrive late, some arrive twice, and a few lines are broken. The true click
probabilities are in `truth.parquet`, which only tests read.
"""

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from features.config.sections import ReaderConfig
from features.sources.simulation.prose import STYLES, categories
from features.sources.simulation.readers import DAY, MINUTE
from features.sources.simulation.world import Articles, World, simulate

LATE = 0.018
"""Share of interactions that arrive 1 to 40 minutes after they happened."""
REPEATED = 0.005
"""Share of interactions that are sent twice."""
BROKEN_A_DAY = 5

_FORMAT = 1
"""Increment when the same parameters give other logs: older logs are then rewritten."""
_MARKER = "world.json"


class _Line(NamedTuple):
    """A line of the log and its arrival in epoch milliseconds."""

    arrived: int
    text: str


def write(config: ReaderConfig, folder: Path) -> None:
    """Write the configured world to `folder/events/<day>.jsonl.gz` and `folder/truth.parquet`.

    A folder with the same world is left unchanged; one with another world is replaced. The same configuration gives
    the same bytes.
    """
    expected = marker(config)
    if (folder / _MARKER).is_file() and (folder / _MARKER).read_text(encoding="utf-8") == expected:
        return
    world = simulate(config.source.newsroom, config.start, config.seed)
    building = folder.with_name(folder.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    (building / "events").mkdir(parents=True)
    _write_log(config, world, building / "events")
    _truth(world).write_parquet(building / "truth.parquet")
    (building / _MARKER).write_text(expected, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)


def marker(config: ReaderConfig) -> str:
    """The parameters that determine the logs, with their hash, as JSON."""
    parameters = {
        "format": _FORMAT,
        "seed": config.seed,
        "start": config.start.isoformat(),
        **config.source.newsroom.model_dump(),
    }
    text = json.dumps(parameters, sort_keys=True)
    return json.dumps({"parameters": parameters, "hash": hashlib.sha256(text.encode()).hexdigest()}) + "\n"


def _write_log(config: ReaderConfig, world: World, folder: Path) -> None:
    random = np.random.default_rng([config.seed, 1])
    beginning = int(config.start.timestamp() * 1000)
    lines = sorted(
        [
            *_item_lines(world.articles),
            *_ranking_lines(world, logged=config.source.newsroom.exploration > 0),
            *_interaction_lines(world, random),
        ],
        key=lambda line: line.arrived,
    )
    arrivals = np.array([line.arrived for line in lines])
    for day in range(config.source.newsroom.days):
        since, until = beginning + day * DAY, beginning + (day + 1) * DAY
        first, last = np.searchsorted(arrivals, [since if day else 0, until])
        texts = _with_broken([line.text for line in lines[first:last]], random)
        name = datetime.fromtimestamp(since / 1000, UTC).strftime("%Y-%m-%d")
        content = ("\n".join(texts) + "\n").encode()
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(content, compresslevel=6, mtime=0))


def _item_lines(articles: Articles) -> Iterator[_Line]:
    for number, prose in enumerate(articles.prose):
        category = categories()[articles.category[number]]
        published, corrected = int(articles.published[number]), int(articles.corrected[number])
        fields: dict[str, object] = {
            "title": prose.title,
            "body": prose.body,
            "length": float(articles.length[number]),
            "published_at": str(published),
        }
        if articles.filed[number]:
            fields["category"] = category.name
            fields["author"] = f"{category.name} desk {articles.author[number] + 1}"
        if articles.tagged[number]:
            fields["tags"] = list(prose.tags)
        yield _item_line(f"n-{number:05d}-1", number, published, fields)
        if corrected:
            fields["title"] = prose.corrected_title
            yield _item_line(f"n-{number:05d}-2", number, corrected, fields)


def _item_line(event: str, number: int, at: int, fields: dict[str, object]) -> _Line:
    named = [{"name": name, "value": value} for name, value in fields.items()]
    return _Line(at, _json(event="item", id=event, item=_item(number), timestamp=str(at), fields=named))


def _ranking_lines(world: World, *, logged: bool) -> Iterator[_Line]:
    """Lines of the impressions; with their propensities if `logged`."""
    visits, lists = world.lists.visits, world.lists
    starts = np.searchsorted(lists.impression, np.arange(visits.user.size + 1))
    for number, (user, session, shown, text) in enumerate(
        zip(
            visits.user.tolist(),
            visits.session.tolist(),
            visits.shown.tolist(),
            world.searches.text,
            strict=True,
        )
    ):
        rows = slice(starts[number], starts[number + 1])
        items = [{"id": _item(article)} for article in lists.article[rows].tolist()]
        if logged:
            pairs = zip(items, lists.propensity[rows].tolist(), strict=True)
            items = [item | {"propensity": propensity} for item, propensity in pairs]
        yield _Line(
            shown,
            _json(
                event="ranking",
                id=_impression(number),
                user=_user(user),
                session=f"s-{session:06d}",
                timestamp=str(shown),
                fields=[{"name": "query", "value": text}] if text else [],
                items=items,
            ),
        )


def _interaction_lines(world: World, random: np.random.Generator) -> Iterator[_Line]:
    visits, lists = world.lists.visits, world.lists
    late = random.random(len(world.actions)) < LATE
    repeated = random.random(len(world.actions)) < REPEATED
    delay = random.integers(MINUTE, 40 * MINUTE, len(world.actions))
    for number, action in enumerate(world.actions):
        impression = int(lists.impression[action.candidate])
        arrived = action.happened + (int(delay[number]) if late[number] else 0)
        arrival = {"known_at": str(arrived)} if late[number] else {}
        text = _json(
            event="interaction",
            id=f"e-{number:06d}",
            item=_item(lists.article[action.candidate]),
            ranking=_impression(impression),
            type=action.kind,
            user=_user(visits.user[impression]),
            session=f"s-{visits.session[impression]:06d}",
            timestamp=str(action.happened),
            **arrival,
        )
        yield _Line(arrived, text)
        if repeated[number]:
            yield _Line(arrived + int(delay[number]) // 10, text)


def _with_broken(texts: list[str], random: np.random.Generator) -> list[str]:
    """Insert a few broken lines among a day's lines."""
    result = list(texts)
    for kind in range(BROKEN_A_DAY):
        text = texts[int(random.integers(len(texts)))]
        result.insert(int(random.integers(1, len(result) + 1)), _break(text, kind))
    return result


def _break(text: str, kind: int) -> str:
    if kind % 3 == 0:
        return text[: len(text) * 2 // 3]
    fields = json.loads(text)
    if kind % 3 == 1:
        del fields["timestamp"]
    else:
        fields["event"] = "heartbeat"
    return _json(**fields)


def _truth(world: World) -> pl.DataFrame:
    lists, articles = world.lists, world.articles
    return pl.DataFrame(
        {
            "impression_id": [_impression(number) for number in lists.impression.tolist()],
            "item_id": [_item(number) for number in lists.article.tolist()],
            "position": lists.position.astype(np.int32),
            "click_probability": lists.attractiveness,
            "examination": lists.examination,
            "storyline": articles.storyline[lists.article].astype(np.int32),
            "style": [STYLES[style].name for style in articles.style[lists.article].tolist()],
        }
    ).sort("impression_id", "position")


def _json(**fields: Any) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _item(number: int) -> str:
    return f"a-{number:05d}"


def _impression(number: int) -> str:
    return f"i-{number:06d}"


def _user(number: int) -> str:
    return f"u-{number:05d}"
