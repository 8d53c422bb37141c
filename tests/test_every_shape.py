"""Every log format and table shape of the README, from files to ranked lists through the whole chain."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from pipelines.backtest import backtest
from pipelines.deployment import Deployment
from pipelines.running import materialise

START = datetime(2026, 1, 5, tzinfo=UTC)
SLICES = ["2026-01-05", "2026-01-06", "2026-01-07"]
TOPICS = ("harbour", "kitchen", "cycling")
ITEMS = {f"a{n}": TOPICS[n % 3] for n in range(18)}
Write = Callable[[Path], str]
"""Writes a log into a folder; returns the `[source]` section of its project file."""


def _shown(size: int, impressions: int = 70) -> list[dict[str, Any]]:
    """Return impressions of three days; each user mostly clicks one topic."""
    draw = Random(5)
    rows = []
    for n in range(3 * impressions):
        user = draw.randrange(12)
        listed = draw.sample(sorted(ITEMS), size)
        chance = [0.75 if ITEMS[name] == TOPICS[user % 3] else 0.1 for name in listed]
        clicked = [name for name, p in zip(listed, chance, strict=True) if draw.random() < p]
        rows.append(
            {
                "impression": f"r{n:03}",
                "user": f"u{user}",
                "time": START + timedelta(days=3) * n / (3 * impressions),
                "items": listed,
                "clicked": clicked,
            }
        )
    return rows


def _items(folder: Path) -> None:
    rows = [(name, f"News from the {topic} {name}", topic) for name, topic in ITEMS.items()]
    pl.DataFrame(rows, schema=["item_id", "title", "topic"], orient="row").write_csv(folder / "items.csv")


def _tables(shape: str, path: str, more: str = "", items: str = 'items_path = "items.csv"') -> str:
    return f"""
[source]
format = "tables"
path = "{path}"
[source.tables]
shape = "{shape}"
user = "user"
at = "time"
item = "item"
{items}
item_key = "item_id"
{more}
"""


def lists_in_parquet(folder: Path) -> str:
    """One row per impression, with list columns."""
    _items(folder)
    pl.DataFrame(_shown(6)).rename({"items": "item"}).write_parquet(folder / "log.parquet")
    return _tables("lists", "log.parquet", 'clicked = "clicked"\nimpression = "impression"')


def candidates_in_csv(folder: Path) -> str:
    """One row per candidate, with a flag."""
    _items(folder)
    rows = pl.DataFrame(_shown(6)).explode("items").rename({"items": "item"})
    rows = rows.with_columns(clicked=pl.col("clicked").list.contains(pl.col("item")).cast(pl.Int8))
    rows.write_csv(folder / "log.csv")
    return _tables("candidates", "log.csv", 'clicked = "clicked"\nimpression = "impression"')


def interactions_in_json_lines(folder: Path) -> str:
    """Clicks only."""
    _items(folder)
    rows = pl.DataFrame(_shown(6)).explode("clicked").drop_nulls("clicked").rename({"clicked": "item"})
    rows.select("user", "time", "item").write_ndjson(folder / "log.jsonl")
    return _tables("interactions", "log.jsonl", "sampled = 5")


def ratings_of_posts(folder: Path) -> str:
    """Single texts, rated 0, 1 or not at all; each row describes its item."""
    rows = pl.DataFrame(_shown(1)).explode("items").rename({"items": "item"})
    topic = pl.col("item").replace_strict(ITEMS)
    rows = rows.with_columns(
        clicked=pl.col("clicked").list.len(),
        topic=topic,
        title=pl.format("News from the {}, no {}", topic, "item"),
    )
    unlabelled = rows.gather_every(4).with_columns(user=pl.lit("someone"), clicked=pl.lit(None, pl.UInt32))
    pl.concat([rows, unlabelled]).write_csv(folder / "log.csv")
    return _tables("ratings", "log.csv", 'clicked = "clicked"\nitems_in_log = true', items="")


def ratings_in_grades(folder: Path) -> str:
    """MovieLens's form: grades from 1 to 5, several a second; 4 and 5 count, with different gains."""
    _items(folder)
    draw = Random(2)
    rows = pl.DataFrame(_shown(1)).explode("items").rename({"items": "item"})
    rows = rows.with_columns(pl.col("time").dt.truncate("1h")).unique(
        ["user", "time", "item"], maintain_order=True
    )
    grades = [draw.randint(4, 5) if liked else draw.randint(1, 3) for liked in rows["clicked"].list.len()]
    rows.drop("clicked").with_columns(clicked=pl.Series(grades)).write_parquet(folder / "log.parquet")
    more = 'clicked = "clicked"\nthreshold = 3.0\nkind = "rating"'
    return (
        _tables("ratings", "log.parquet", more) + '[labels]\ngains = { rating = 1.0 }\ngraded = ["rating"]\n'
    )


def metarank_events(folder: Path) -> str:
    """Metarank's JSON lines."""
    events: list[dict[str, Any]] = [
        {
            "event": "item",
            "id": f"item-{name}",
            "timestamp": str(int(START.timestamp() * 1000) - 1),
            "item": name,
            "fields": [
                {"name": "title", "value": f"News from the {topic} {name}"},
                {"name": "topic", "value": topic},
            ],
        }
        for name, topic in ITEMS.items()
    ]
    for one in _shown(6):
        at = str(int(one["time"].timestamp() * 1000))
        common = {"user": one["user"], "session": one["user"], "timestamp": at}
        ranking = [{"id": name} for name in one["items"]]
        events.append({"event": "ranking", "id": one["impression"], "items": ranking, "fields": [], **common})
        events += [
            {"event": "interaction", "id": f"{one['impression']}-{name}", "ranking": one["impression"],
             "item": name, "type": "click", **common}
            for name in one["clicked"]
        ]  # fmt: skip
    text = "\n".join(json.dumps(event) for event in events)
    (folder / "log.jsonl").write_text(text + "\n", encoding="utf-8")
    return '[source]\nformat = "metarank"\npath = "log.jsonl"\n'


def mind_files(folder: Path) -> str:
    """MIND's two files, with invented articles."""
    numbers = {name: f"N{n + 1}" for n, name in enumerate(ITEMS)}
    news = [
        f"{numbers[n]}\tnews\t{topic}\tNews from the {topic} {n}\t\t\t[]\t[]" for n, topic in ITEMS.items()
    ]
    shown = [
        f"{n}\t{one['user']}\t{one['time']:%m/%d/%Y %I:%M:%S %p}\t\t"
        + " ".join(f"{numbers[name]}-{int(name in one['clicked'])}" for name in one["items"])
        for n, one in enumerate(_shown(6))
    ]
    (folder / "news.tsv").write_text("\n".join(news) + "\n", encoding="utf-8")
    (folder / "behaviors.tsv").write_text("\n".join(shown) + "\n", encoding="utf-8")
    return '[source]\nformat = "mind"\npath = "."\n'


LISTS = (
    lists_in_parquet,
    candidates_in_csv,
    interactions_in_json_lines,
    metarank_events,
    mind_files,
)
SINGLE = {ratings_of_posts: "binary", ratings_in_grades: "regression"}


@pytest.mark.parametrize("write", [*LISTS, *SINGLE], ids=lambda write: write.__name__)
def test_a_log_of_each_shape_becomes_a_ranker_and_ranked_lists(
    write: Write, tmp_path: Path, small_newsroom: Callable[..., Deployment]
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    source = write(folder)
    topics = "category" if write is mind_files else "topic"
    (folder / "shape.toml").write_text(
        f"""name = "shape"
{source}
[slices]
start = 2026-01-05T00:00:00Z
[items]
title = "title"
categorical = ["{topics}"]
[features]
half_lives = ["1d", "none"]
[interest]
tune = "frozen"
width = 16
window = 16
[ranker]
min_data_in_leaf = 5
""",
        encoding="utf-8",
    )
    import mlflow

    deployment = small_newsroom(tmp_path / "home", PROJECT=str(folder / "shape.toml"))
    assert materialise(deployment, None, None) == SLICES[-1]

    lake, objective = deployment.lake, SINGLE.get(write, "lambdarank")
    candidates = lake.read("candidates")
    assert candidates["slice"].unique().sort().to_list() == SLICES
    assert lake.read("rejects").is_empty()
    assert lake.read("ranking_dataset").height == candidates.height
    versions = deployment.registry.versions("ranker")
    assert [version["slice"] for version in versions] == SLICES
    ranker = deployment.registry.load_ranker(versions[-1]["version"])
    assert ranker.info["objective"] == objective

    mlflow.set_tracking_uri(deployment.settings.tracking_uri)
    served = mlflow.pyfunc.load_model(f"models:/shape-ranker/{versions[-1]['version']}")
    rows = lake.read("ranking_dataset", [SLICES[-1]]).head(20)
    columns = pl.col(ranker.columns).cast(pl.Float64)
    predictions = served.predict(rows.select("impression_id", "item_id", columns).to_pandas())
    assert predictions["rank_score"].to_numpy() == pytest.approx(ranker.score(rows).to_numpy())

    report = deployment.settings.report("shape")
    metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
    headline = "pooled_auc" if write in SINGLE else "ndcg@10"
    assert metrics["headline"] == headline
    full, chance = (metrics["scorers"][name][headline]["mean"] for name in ("full", "random"))
    assert full > chance
    if write in SINGLE:
        assert metrics["impressions"] == candidates.filter(pl.col("slice") > SLICES[0]).height
        assert 0 < metrics["scorers"]["full"]["log_loss"]["mean"] < 0.75
        assert "Pooled AUC" in (report / "report.html").read_text(encoding="utf-8")
    if write is ratings_of_posts:
        # Posts without a label are scored and counted.
        impressions = lake.read("impressions").height
        assert candidates.height == 210
        assert lake.read("interest_scores").height == impressions == 263
        topics = lake.read("topic_shifts").filter(attribute="topic", figure="predicted_rate")
        assert topics["trials"].sum() == lake.read("impressions", SLICES[1:]).height
    if write is ratings_in_grades:
        figures = backtest(deployment, START + timedelta(days=2))
        assert (
            figures["scorers"]["full"]["pooled_auc"]["mean"]
            > figures["scorers"]["random"]["pooled_auc"]["mean"]
        )
        assert deployment.requests.rank(["u1"], None, 3, ranker)["rank"].to_list() == [1, 2, 3]
    ranked = lake.read("ranked_lists", [SLICES[-1]])
    assert ranked["user_id"].n_unique() == 5
    for _, one in ranked.group_by("user_id"):
        assert one["rank"].sort().to_list() == [*range(1, one.height + 1)]
        assert one["item_id"].n_unique() == one.height
