"""`momentrank init` on five kinds of logs: the draft is valid without an edit."""

import json
import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from features.config.project import Project, load
from features.errors import ProjectError
from pipelines.cli import commands as cli
from pipelines.cli.init import write_draft

WORDS = (
    "river",
    "bridge",
    "council",
    "vote",
    "harbour",
    "storm",
    "team",
    "goal",
    "market",
    "price",
    "school",
)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(cli, "out", Console(highlight=False))  # reads its width when created


def drafted(logs: Path, folder: Path, *options: str) -> tuple[Project, str]:
    """The project that init drafts, which passes `check`, and init's output."""
    file = folder / "drafted.toml"
    runner = CliRunner()
    result = runner.invoke(cli.app, ["init", str(logs), "-o", str(file), *options], catch_exceptions=False)
    assert result.exit_code == 0
    checked = runner.invoke(cli.app, ["check", str(file)], catch_exceptions=False)
    assert checked.exit_code == 0, checked.output
    assert " x " not in checked.output.replace("x duplicate_id", ""), "rows were rejected"
    return load(file), result.output


def shared(name: str) -> Path:
    folders = [Path(folder) for folder in os.environ.get("MOMENTRANK_DATA", "").split(os.pathsep) if folder]
    folders.append(Path(__file__).parents[4] / "shared" / "data")
    paths = [folder / name for folder in folders if (folder / name).exists()]
    if not paths:
        pytest.skip(f"{name} is neither in MOMENTRANK_DATA nor in ../shared/data")
    return paths[0]


def prose(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words)).capitalize()


def news(folder: Path, write: str) -> None:
    """Lists as in EB-NeRD: shown and clicked ids in two list columns, articles with a time of their own."""
    draw, start = random.Random(1), datetime(2023, 5, 18, 7)
    articles = [
        {
            "article_id": 9_770_000 + 7 * number,
            "title": prose(draw, 6),
            "subtitle": prose(draw, 12),
            "body": prose(draw, 60),
            "category": draw.choice(["nyheder", "sport", "krimi"]),
            "published_time": start - timedelta(hours=draw.randrange(1, 900)),
        }
        for number in range(80)
    ]
    rows: list[dict[str, Any]] = []
    for number in range(300):
        shown = draw.sample([article["article_id"] for article in articles], draw.randrange(5, 12))
        rows.append(
            {
                "impression_id": 48_400 + 3 * number,
                "user_id": draw.randrange(1000, 1040),
                "impression_time": start + timedelta(minutes=draw.randrange(7 * 1440)),
                "article_ids_inview": shown,
                "article_ids_clicked": draw.sample(shown, 1),
                "read_time": round(50 * draw.random(), 1),
                "device_type": draw.choice([1, 2, 3]),
            }
        )
    behaviors, described = pl.DataFrame(rows), pl.DataFrame(articles)
    if write == "parquet":
        behaviors.write_parquet(folder / "behaviors.parquet")
        described.write_parquet(folder / "articles.parquet")
        return
    for name in ("article_ids_inview", "article_ids_clicked"):
        as_json = [json.dumps(row[name]) for row in rows]
        behaviors = behaviors.with_columns(pl.Series(name, as_json))
    behaviors.write_csv(folder / "behaviors.csv")
    described.write_csv(folder / "articles.csv")


def purchases(folder: Path) -> None:
    """A log as H&M's: dates without hours, one purchase a row, customers in a third table."""
    draw = random.Random(2)
    kinds = [(252, "Sweater"), (255, "T-shirt"), (272, "Trousers")]
    articles = []
    for number in range(60):
        code, kind = draw.choice(kinds)
        article = {"article_id": f"0{108_775_000 + 13 * number}", "prod_name": prose(draw, 2)}
        article |= {"product_type_no": str(code), "product_type_name": kind, "detail_desc": prose(draw, 25)}
        articles.append(article | {"colour_group_name": draw.choice(["Black", "White", "Blue"])})
    rows = [
        {
            "t_dat": f"{datetime(2020, 8, 1) + timedelta(days=number // 40):%Y-%m-%d}",
            "customer_id": f"{random.Random(draw.randrange(70)).getrandbits(256):064x}",
            "article_id": draw.choice(articles)["article_id"],
            "price": round(draw.random() / 10, 6),
            "sales_channel_id": draw.choice([1, 2]),
        }
        for number in range(600)
    ]
    customers = sorted({row["customer_id"] for row in rows})
    pl.DataFrame(articles).write_csv(folder / "articles.csv")
    pl.DataFrame(rows).write_csv(folder / "transactions_train.csv")
    pl.DataFrame({"customer_id": customers, "age": 30}).write_csv(folder / "customers.csv")


def ratings(folder: Path) -> None:
    """A log as MovieLens's, with its tables of tags and links beside it."""
    draw = random.Random(3)
    movies = [
        {
            "movieId": 3 * number + 1,
            "title": f"{prose(draw, 3)} ({draw.randrange(1950, 2018)})",
            "genres": "|".join(draw.sample(["Action", "Comedy", "Drama", "Thriller"], draw.randrange(1, 4))),
        }
        for number in range(80)
    ]
    rows = []
    for user in range(1, 30):
        at = 964_982_703 + user * 40_000
        for movie in draw.sample(movies, 20):
            at += draw.randrange(5, 200)
            grade = draw.choice([0.5 * step for step in range(1, 11)])
            rows.append({"userId": user, "movieId": movie["movieId"], "rating": grade, "timestamp": at})
    pl.DataFrame(movies).write_csv(folder / "movies.csv")
    log = pl.DataFrame(rows)
    log.write_csv(folder / "ratings.csv")
    log.head(50).select("userId", "movieId", pl.lit("slow and long").alias("tag"), "timestamp").write_csv(
        folder / "tags.csv"
    )
    ids = pl.DataFrame(movies).select("movieId", imdbId=pl.col("movieId") + 114_709)
    ids.write_csv(folder / "links.csv")


@pytest.mark.parametrize("write", ["parquet", "csv"])
def test_lists_of_news(tmp_path: Path, write: str) -> None:
    news(tmp_path, write)
    project, output = drafted(tmp_path, tmp_path)

    tables = project.source.tables
    assert tables is not None
    assert (tables.shape, tables.user, tables.at) == ("lists", "user_id", "impression_time")
    assert (tables.item, tables.clicked) == ("article_ids_inview", "article_ids_clicked")
    assert (tables.impression, tables.item_key) == ("impression_id", "article_id")
    assert tables.item_at == project.items.published_at == "published_time"
    assert (project.items.title, project.items.body) == ("title", "body")
    assert project.items.categorical == ("category",)
    assert project.context.categorical == ("device_type",)
    assert project.slices.start == datetime(2023, 5, 18, tzinfo=UTC)
    assert project.slices.every == timedelta(days=1)
    assert "review source.known_after: How long after a click does your log have it?" in output


def test_a_purchase_log(tmp_path: Path) -> None:
    purchases(tmp_path)
    project, _ = drafted(tmp_path, tmp_path)

    tables = project.source.tables
    assert tables is not None
    assert (tables.shape, tables.kind) == ("interactions", "purchase")
    assert (tables.user, tables.at, tables.item) == ("customer_id", "t_dat", "article_id")
    assert (tables.items_path, tables.item_key) == ("articles.csv", "article_id")
    assert (project.items.title, project.items.body) == ("prod_name", "detail_desc")
    assert project.items.categorical == ("product_type_name", "colour_group_name")
    assert project.labels.gains == {"purchase": 1.0}
    assert project.slices.end == datetime(2020, 8, 16, tzinfo=UTC)


def test_ratings(tmp_path: Path) -> None:
    ratings(tmp_path)
    project, output = drafted(tmp_path, tmp_path)

    tables = project.source.tables
    assert tables is not None
    assert (tables.shape, tables.clicked, tables.kind) == ("ratings", "rating", "rating")
    assert (tables.user, tables.at, tables.item) == ("userId", "timestamp", "movieId")
    assert 1.5 <= tables.threshold <= 3.5
    assert (project.source.path, tables.items_path) == ("ratings.csv", "movies.csv")
    assert (project.items.title, project.items.categorical) == ("title", ("genres",))
    assert "review source.tables.threshold" in output


def test_ranklens(tmp_path: Path) -> None:
    project, _ = drafted(shared("ranklens"), tmp_path)

    assert project.source.format == "metarank"
    assert (project.items.title, project.items.body) == ("title", "description")
    assert {"genres", "tags", "actors", "director", "writer"} == set(project.items.categorical)
    assert {"popularity", "vote_avg", "vote_cnt", "budget", "runtime"} == set(project.items.numeric)
    assert project.slices.every == timedelta(minutes=2)
    assert project.labels.attribution == timedelta(minutes=1)
    assert project.features.half_lives == ("5m", "none")


def test_mind(tmp_path: Path) -> None:
    project, _ = drafted(shared("mind"), tmp_path)

    assert project.source.format == "mind"
    assert project.items.title == "title"
    assert "category" in project.items.categorical
    assert project.slices.start == datetime(2019, 11, 9, tzinfo=UTC)
    assert project.slices.every == timedelta(days=1)


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    purchases(tmp_path)
    file = tmp_path / "My shop.toml"
    file.write_text("mine")

    def write(*, force: bool) -> Sequence[object]:
        return write_draft([tmp_path], [], file, None, force)

    with pytest.raises(ProjectError, match="already exists: name another file with -o"):
        write(force=False)
    assert file.read_text() == "mine"
    write(force=True)
    assert load(file).name == "my-shop"
