"""Fixtures: a toy project, generated events for it, and a small newsroom for tests that run the whole chain."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from features import schemas
from features.behaviour import lookup_and_update
from features.config.project import Project
from features.queries import QUERY_AT
from features.state import MomentState, SliceEvents, start

if TYPE_CHECKING:
    from pipelines.deployment import Deployment

NEWSROOM = Path(__file__).parents[1] / "projects" / "newsroom.toml"
SMALL = (
    "source.newsroom.days=3",
    "source.newsroom.users=30",
    "source.newsroom.articles_a_day=12",
    "source.newsroom.impressions_a_day=80",
    "source.newsroom.list_size=8",
    "slices.end=2026-01-08T00:00:00Z",
    "interest.epochs=1",
    "interest.max_tokens=16",
    "ranker.num_iterations=20",
    "ranker.early_stopping_round=5",
    "promotion.resamples=200",
    "lists.users=5",
    "lists.pool=20",
)
"""A newsroom of three days that runs in seconds."""
settings.register_profile(
    "unhurried", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("unhurried")
"""No deadline: on a busy machine, any example can be slow. The same examples in every run."""
LONGEST = (
    "test_end_to_end.py",
    "test_campaign.py",
    "test_reprocessing.py",
    "test_every_shape.py",
)
START = datetime(2026, 1, 5, tzinfo=UTC)
END = START + timedelta(hours=12)
STEP = timedelta(minutes=10)
MICROSECOND = timedelta(microseconds=1)
DIRECTIONS = ([1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.5, -0.5, -0.5, 0.5], [-1, 0, 0, 0])
"""Unit vectors whose products are exact in Float32, so that rounding is not mistaken for a difference."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that no worker process ends with one of them alone."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def at(minutes: float, microseconds: int = 0) -> datetime:
    return START + timedelta(minutes=minutes, microseconds=microseconds)


def project(**sections: Any) -> Project:
    defaults: dict[str, Any] = {
        "name": "toy",
        "source": {"format": "newsroom"},
        "slices": {"start": START, "every": "12h"},
        "labels": {"gains": {"click": 1.0, "comment": 2.0}, "attribution": "20m"},
        "items": {"numeric": ["length"], "categorical": ["category", "tags"]},
        "features": {
            "half_lives": ["1h", "none"],
            "prior_strength": 4.0,
            "text_history": 2,
            "skips_per_impression": 2,
            "max_history": 3,
        },
    }
    return Project.model_validate(
        defaults | {name: defaults.get(name, {}) | new for name, new in sections.items()}
    )


def _table(rows: Iterable[tuple[Any, ...]], schema: type[Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=schema.create_empty().schema, orient="row")


def item(item_id: str, known_at: datetime, title: str = "", **fields: Any) -> tuple[Any, ...]:
    """Return a row of items: `category="a"`, `tags=["x", "y"]`, `length=3.0`, `published_at=…`."""
    values = {
        "category": [fields["category"]] if fields.get("category") else [],
        "tags": fields.get("tags", []),
    }
    attributes = [{"name": name, "value": value} for name, all_ in values.items() for value in all_]
    numbers = [{"name": "length", "value": fields["length"]}] if fields.get("length") is not None else []
    return (
        item_id,
        known_at,
        title or f"about {item_id}",
        fields.get("body"),
        fields.get("published_at"),
        attributes,
        numbers,
    )


def items(*rows: tuple[Any, ...]) -> pl.DataFrame:
    return _table(rows, schemas.Items)


def impressions(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Impressions from (impression_id, user_id, shown_at, item ids in order), with an optional dict of extra fields:

    `session`; `surface`, values of a context field; `first`, the position of the first item.
    """
    shown = []
    for name, user, when, ids, *extra in rows:
        more = extra[0] if extra else {}
        context = [{"name": "surface", "value": value} for value in more.get("surface", ())]
        candidates = [{"item_id": i, "position": n} for n, i in enumerate(ids, more.get("first", 1))]
        shown.append((name, user, when, more.get("session"), context, candidates))
    return _table(shown, schemas.Impressions)


def interactions(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Interactions from (user_id, item_id, kind, happened_at), optionally followed by known_at and value."""
    done = []
    for n, (user, item_id, kind, when, *more) in enumerate(rows):
        known_at, value = (*more, None, None)[:2]
        done.append((str(n), None, user, item_id, kind, value, when, known_at or when))
    return _table(done, schemas.Interactions)


def vectors(versions: pl.DataFrame) -> pl.DataFrame:
    """Unit vectors of item versions, chosen by the last digit of the title; titles ending in 5 have none."""
    rows = [
        (item_id, known_at, DIRECTIONS[int(title[-1])])
        for item_id, known_at, title in versions.select("item_id", "known_at", "title").iter_rows()
        if title[-1] in "01234"
    ]
    rows += [("home", QUERY_AT, DIRECTIONS[1]), ("mail", QUERY_AT, DIRECTIONS[2])]  # queries
    return _table(rows, schemas.ItemVectors)


def instants(events: SliceEvents) -> list[datetime]:
    """Return the instants after the start at which anything became known, in order."""
    tables = ((events.items, "known_at"), (events.impressions, "shown_at"), (events.interactions, "known_at"))
    return sorted({when for table, column in tables for when in table[column] if when > START})


def between(events: SliceEvents, since: datetime, until: datetime) -> SliceEvents:
    """Return the events known in [since, until); the first slice includes earlier item versions."""

    def part(table: pl.DataFrame, column: str) -> pl.DataFrame:
        early = pl.lit(since == START and column == "known_at")
        return table.filter((early | (pl.col(column) >= since)) & (pl.col(column) < until))

    return SliceEvents(
        part(events.items, "known_at"),
        part(events.impressions, "shown_at"),
        part(events.interactions, "known_at"),
    )


def walk(
    events: SliceEvents, project: Project, cuts: Iterable[datetime] = ()
) -> tuple[pl.DataFrame, MomentState]:
    """Return features of every candidate and the state at END, in slices that end at `cuts`."""
    state, tables = start(project.slices.start, project.behaviour), []
    for until in (*sorted(cuts), END):
        part = between(events, state.at, until)
        features, state = lookup_and_update(state, part, until, vectors(events.items))
        tables.append(features)
    return pl.concat(tables).sort("impression_id", "item_id"), state


def busy(lists: int = 120, users: int = 11, others: int = 20) -> SliceEvents:
    """Seeded events of half a day: one item is a quarter of all candidates, a third of the impressions have a click."""
    draw = Random(7)
    ids = [f"i{n}" for n in range(others)]
    item_rows = [
        item(
            name,
            START - STEP,
            f"text {n % 6}",
            category="ab"[n % 2],
            tags=["x", "y"][: n % 3],
            length=float(n),
        )
        for n, name in enumerate(["hot", *ids])
    ]
    shown, done = [], []
    for n in range(lists):
        user, when = f"u{draw.randrange(users)}", at(1 + 718 * n / lists, draw.randrange(1_000_000))
        listed = ["hot", *draw.sample(ids, 3)]
        shown.append(
            (f"r{n}", user, when, draw.sample(listed, 4), {"surface": draw.sample(("home", "mail"), 1)})
        )
        if n % 3 == 0:
            happened = when + timedelta(seconds=draw.randrange(1200))
            late = happened + timedelta(minutes=draw.choice((0, 0, 300)))
            done.append(
                (user, draw.choice(listed), draw.choice(("click", "comment", "view")), happened, late, 2.5)
            )
    return SliceEvents(items(*item_rows), impressions(*shown), interactions(*done))


@st.composite
def projects(draw: st.DrawFn) -> Project:
    """Draw toy projects: half-lives, TTL, session gaps, valued kinds and context; every relative form."""
    return project(
        features={
            "half_lives": draw(st.sampled_from([("1h", "none"), ("30m", "4h", "none"), ("none",)])),
            "ttl": draw(st.sampled_from(["90d", "2h", "40m"])),
            "session_gap": draw(st.sampled_from(["10m", "30m", "3h"])),
            "valued": draw(st.sampled_from([(), ("view",)])),
            "relative": ("z", "rank", "share", "best"),
        },
        context=draw(st.sampled_from([{}, {"categorical": ("surface",)}, {"query": "surface"}])),
    )


@st.composite
def worlds(draw: st.DrawFn, lists: int = 10) -> SliceEvents:
    """Draw events with ties, microsecond gaps, late arrivals, repeats, unknown items and single candidates."""
    jitter = st.sampled_from([0, 0, 0, 0, -1, 1])
    instants = st.builds(lambda n, m: START + n * STEP + m * MICROSECOND, st.integers(1, 30), jitter)
    users = [f"u{n}" for n in range(draw(st.integers(2, 5)))]
    ids = [f"i{n}" for n in range(draw(st.integers(3, 8)))]
    described = st.fixed_dictionaries(
        {
            "title": st.sampled_from([f"text {n}" for n in range(6)]),
            "body": st.sampled_from([None, "", "of three words"]),
            "category": st.sampled_from(["a", "b", None]),
            "tags": st.lists(st.sampled_from(["x", "y", "z"]), unique=True, max_size=2),
            "length": st.sampled_from([None, 1.0, 2.5]),
            "published_at": st.sampled_from([None, START]),
        }
    )
    before = st.just(START - STEP)
    item_rows = [
        item(item_id, known_at, **draw(described))
        for item_id in ids
        for known_at in draw(st.lists(st.one_of(before, before, instants), unique=True, max_size=3))
    ]
    extras = st.fixed_dictionaries(
        {
            "session": st.sampled_from([None, None, "s", "t"]),
            "surface": st.sampled_from([(), ("home",), ("home", "mail")]),
            "first": st.sampled_from([1, 1, 1, 98]),
        }
    )
    listed = st.lists(st.sampled_from(ids), unique=True, min_size=1, max_size=5)
    shown = draw(
        st.lists(st.tuples(st.sampled_from(users), instants, listed, extras), min_size=1, max_size=lists)
    )
    kinds = st.sampled_from(["click", "click", "comment", "view"])
    values = st.sampled_from([None, 1.0, 30.5])
    minutes = st.sampled_from([0, 5, 10, 20, 25])
    late = st.sampled_from([0, 0, 10, 70])
    drawn = draw(
        st.lists(
            st.tuples(st.integers(0, 9), st.integers(0, 4), kinds, minutes, jitter, late, values),
            max_size=lists,
        )
    )
    done = []
    for n, index, kind, after, micros, delay, value in drawn:
        user, when, items_shown, _ = shown[n % len(shown)]
        happened = when + timedelta(minutes=after, microseconds=max(micros, 0))
        known_at = happened + timedelta(minutes=delay)
        done.append((user, items_shown[index % len(items_shown)], kind, happened, known_at, value))
    strays = draw(
        st.lists(st.tuples(st.sampled_from(users), st.sampled_from(ids), kinds, instants), max_size=3)
    )
    repeated = done[: draw(st.integers(0, 2))]
    return SliceEvents(
        items(*item_rows),
        impressions(*((f"r{n}", *row) for n, row in enumerate(shown))),
        interactions(*done, *strays, *repeated),
    )


def ranking_slice(day: int, seed: int = 0) -> pl.DataFrame:
    """A ranking dataset: 200 impressions of eight candidates; the interest score predicts clicks best."""
    random = np.random.default_rng([day, seed])
    count = 200 * 8
    order = np.arange(count) // 8
    interest, rate = random.normal(size=(2, count)).astype(np.float32)
    clicked = random.random(count) < 1 / (1 + np.exp(1.5 - 2 * interest - rate))
    return pl.DataFrame(
        {
            "impression_id": [f"d{day}i{n}s{seed}" for n in order],
            "user_id": [f"u{n % 40}" for n in order],
            "item_id": [f"item{n}" for n in random.permutation(count) % 61],
            "position": np.tile(np.arange(1, 9, dtype=np.int32), 200),
            "as_of": [START + timedelta(days=day, minutes=int(n)) for n in order],
            "label": clicked.astype(float),
            "clicked": clicked,
            "item_ctr_1d": rate,
            "interest_score": interest,
        }
    ).with_columns(pl.col("as_of").dt.cast_time_unit("us"))


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The builders above, for test modules, which cannot import each other."""
    return SimpleNamespace(
        START=START,
        END=END,
        STEP=STEP,
        MICROSECOND=MICROSECOND,
        at=at,
        project=project,
        item=item,
        items=items,
        impressions=impressions,
        interactions=interactions,
        vectors=vectors,
        instants=instants,
        between=between,
        walk=walk,
        busy=busy,
        worlds=worlds,
        projects=projects,
        ranking_slice=ranking_slice,
    )


def _newsroom(home: Path, overrides: Iterable[str], variables: Mapping[str, str]) -> "Deployment":
    from pipelines.deployment import Deployment
    from pipelines.settings import settings as settings_of

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOMENTRANK_HOME", str(home))
        patch.setenv("MOMENTRANK_PROJECT", str(NEWSROOM))
        patch.setenv("MOMENTRANK_SET", "\n".join((*SMALL, *overrides)))
        for name, value in variables.items():
            patch.setenv(f"MOMENTRANK_{name}", value)
        settings = settings_of.load()
    settings_of.initialise_dagster(settings)
    return Deployment(settings.open_project(), settings)


@pytest.fixture(scope="session")
def small_newsroom(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "Deployment"]:
    """Return a function that opens the small newsroom in a home: `small_newsroom(home, *overrides, PSEUDONYM_KEY="…")`.

    Overrides win over `SMALL`. The databases are migrated once and copied, because migrations take longer than some
    tests.
    """
    template = tmp_path_factory.mktemp("template")
    _newsroom(template, ['name="template"'], {}).registry.prepare()

    def open_newsroom(home: Path, *overrides: str, **variables: str) -> "Deployment":
        if not (home / "mlflow.db").exists():
            shutil.copytree(template, home, dirs_exist_ok=True)
        return _newsroom(home, overrides, variables)

    return open_newsroom
