import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.config.project import Project
from features.sources.simulation import newsroom
from features.sources.simulation.readers import DAY

START_MS = 1_767_571_200_000
DAYS = 8


def project(seed: int = 1, **size: float) -> Project:
    return Project.model_validate(
        {
            "name": "newsroom",
            "seed": seed,
            "source": {"format": "newsroom", "newsroom": size},
            "slices": {"start": "2026-01-05T00:00:00Z"},
            "labels": {"gains": {"click": 1, "comment": 2, "share": 3}},
        }
    )


def small(seed: int = 1) -> Project:
    return project(seed, days=3, users=30, articles_a_day=15, impressions_a_day=60, list_size=8)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def texts(folder: Path) -> list[tuple[str, str]]:
    """(file name, line) of the whole log, in order."""
    return [
        (path.name, line)
        for path in sorted((folder / "events").iterdir())
        for line in gzip.decompress(path.read_bytes()).decode().splitlines()
    ]


def parse(line: str) -> dict | None:
    """The event of a line, or None for a broken line."""
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return None
    valid = event["event"] in {"item", "ranking", "interaction"}
    return event if valid and "timestamp" in event else None


def value(item: dict, name: str) -> object:
    return next((field["value"] for field in item["fields"] if field["name"] == name), None)


@pytest.fixture(scope="module")
def default_world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("newsroom") / "world"
    newsroom.write(project().reader, folder)
    return folder


@pytest.fixture(scope="module")
def events(default_world) -> list[tuple[str, dict]]:
    read = [(name, parse(line)) for name, line in texts(default_world)]
    return [(name, event) for name, event in read if event is not None]


@pytest.fixture(scope="module")
def candidates(default_world, events) -> pl.DataFrame:
    """Truth and log: label, click, and the item's clicks per impression before this one."""
    gains = {"click": 1.0, "comment": 2.0, "share": 3.0}
    label: dict[tuple[str, str], float] = {}
    clicked_at: dict[tuple[str, str], int] = {}
    shown_at: dict[str, int] = {}
    for _, event in events:
        if event["event"] == "interaction":
            pair = event["ranking"], event["item"]
            label[pair] = max(label.get(pair, 0.0), gains[event["type"]])
            if event["type"] == "click":
                clicked_at[pair] = int(event.get("known_at", event["timestamp"]))
        elif event["event"] == "ranking":
            shown_at[event["id"]] = int(event["timestamp"])
    truth = pl.read_parquet(default_world / "truth.parquet")
    pairs = list(truth.select("impression_id", "item_id").iter_rows())
    truth = truth.with_columns(
        pl.Series("label", [label.get(pair, 0.0) for pair in pairs]),
        pl.Series("shown_at", [shown_at[impression] for impression, _ in pairs]),
        pl.Series("clicked_at", [clicked_at.get(pair) for pair in pairs], dtype=pl.Int64),
    )
    clicks = {
        item: np.sort(times.to_numpy())
        for (item,), times in (
            (key, group["clicked_at"]) for key, group in truth.drop_nulls("clicked_at").group_by("item_id")
        )
    }
    before = [
        int(np.searchsorted(clicks.get(item, np.empty(0)), at))
        for item, at in truth.select("item_id", "shown_at").iter_rows()
    ]
    truth = truth.with_columns(pl.Series("clicks_before", before)).sort(
        "shown_at", "impression_id", "position"
    )
    showings = pl.int_range(pl.len()).over("item_id")
    return truth.with_columns(popularity=(pl.col("clicks_before") + 0.8) / (showings + 10))


def ndcg(candidates: pl.DataFrame, score: str) -> float:
    """Mean nDCG@10 with linear gains, over impressions with a positive and a negative."""

    def dcg(by: str) -> pl.Expr:
        ordered = pl.col("label").sort_by(pl.col(by), "tie", descending=True).head(10)
        discount = (pl.int_range(1, pl.len() + 1).head(10) + 1).log(2)
        return (ordered / discount).sum()

    lists = (
        candidates.with_columns(tie=pl.col("item_id").hash(7))
        .group_by("impression_id")
        .agg(actual=dcg(score), best=dcg("label"), most=pl.col("label").max(), least=pl.col("label").min())
        .filter(pl.col("most") > 0, pl.col("least") == 0)
    )
    return float(lists.select((pl.col("actual") / pl.col("best")).mean()).item())


def test_same_seed_gives_same_bytes_and_another_seed_others(tmp_path):
    newsroom.write(small().reader, tmp_path / "a")
    newsroom.write(small().reader, tmp_path / "b")
    newsroom.write(small(seed=2).reader, tmp_path / "c")

    one, same, other = (contents(tmp_path / name) for name in "abc")

    assert one == same
    assert set(one) == set(other)
    assert all(one[name] != other[name] for name in one)


def test_writing_again_does_nothing_until_the_world_changes(tmp_path):
    folder = tmp_path / "world"
    newsroom.write(small().reader, folder)
    first = contents(folder)
    modified = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    newsroom.write(small().reader, folder)
    untouched = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    newsroom.write(small(seed=2).reader, folder)

    assert untouched == modified
    assert contents(folder) != first
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_one_file_a_day_in_order_of_arrival(default_world, events):
    names = [path.name for path in sorted((default_world / "events").iterdir())]
    arrivals: dict[str, list[int]] = {}
    ids: set[str] = set()
    for name, event in events:
        if event["id"] not in ids:  # a repeat has no arrival time of its own
            arrivals.setdefault(name, []).append(int(event.get("known_at", event["timestamp"])))
        ids.add(event["id"])

    assert names == [f"2026-01-{day:02d}.jsonl.gz" for day in range(5, 5 + DAYS)]
    for day, name in enumerate(names):
        assert arrivals[name] == sorted(arrivals[name])
        assert day == 0 or arrivals[name][0] >= START_MS + day * DAY
        assert arrivals[name][-1] < START_MS + (day + 1) * DAY


def test_the_log_has_late_repeated_and_broken_lines(default_world, events):
    lines = texts(default_world)
    interactions = [(name, event) for name, event in events if event["event"] == "interaction"]
    ids = Counter(event["id"] for _, event in interactions)
    late = [(name, event) for name, event in interactions if "known_at" in event]
    delays = [int(event["known_at"]) - int(event["timestamp"]) for _, event in late]
    days = {f"2026-01-{5 + day:02d}.jsonl.gz": day for day in range(DAYS)}
    next_day = [e for name, e in late if (int(e["timestamp"]) - START_MS) // DAY < days[name]]

    broken = Counter(name for name, line in lines if parse(line) is None)

    assert set(broken.values()) == {newsroom.BROKEN_A_DAY}
    assert set(broken) == set(days)
    assert 0.002 < sum(count - 1 for count in ids.values()) / len(ids) < 0.01
    assert 0.01 < len(late) / len(interactions) < 0.025
    assert min(delays) >= 60_000
    assert max(delays) < 40 * 60_000
    assert next_day


def test_every_slice_has_new_articles_and_new_users(events):
    published: Counter[int] = Counter()
    first_seen: dict[str, int] = {}
    versions: Counter[str] = Counter()
    for _, event in events:
        day = (int(event["timestamp"]) - START_MS) // DAY
        if event["event"] == "item":
            versions[event["item"]] += 1
            published[day] += versions[event["item"]] == 1
        elif event["event"] == "ranking":
            first_seen.setdefault(event["user"], day)

    assert published == dict.fromkeys(range(-2, DAYS), 60)
    assert set(first_seen.values()) == set(range(DAYS))
    assert 5 < sum(count == 2 for count in versions.values()) < 50
    assert max(versions.values()) == 2


def test_nothing_is_shown_before_it_is_published_nor_clicked_unless_shown(events):
    published: set[str] = set()
    shown: set[tuple[str, str]] = set()
    for _, event in events:
        if event["event"] == "item":
            published.add(event["item"])
        elif event["event"] == "ranking":
            items = [item["id"] for item in event["items"]]
            assert published.issuperset(items)
            assert len(set(items)) == len(items) == 20
            shown.update((event["id"], item) for item in items)
        else:
            assert (event["ranking"], event["item"]) in shown


def test_truth_is_not_in_the_log(events, candidates):
    keys = {key for _, event in events for key in event}
    fields = {field["name"] for _, event in events for field in event.get("fields", [])}

    assert keys <= {
        *("event", "id", "item", "timestamp", "fields"),
        *("user", "session", "items", "ranking", "type", "known_at"),
    }
    assert fields == {"title", "body", "category", "tags", "author", "length", "published_at"}
    assert candidates.height == sum(len(e["items"]) for _, e in events if e["event"] == "ranking")
    assert candidates["click_probability"].is_between(0, 1, closed="none").all()


def test_clicks_fall_with_position_as_the_propensities_do(candidates):
    by_position = (
        candidates.group_by("position")
        .agg(
            clicks=(pl.col("label") > 0).mean(),
            expected=(pl.col("click_probability") * pl.col("examination")).mean(),
            propensity=pl.col("examination").first(),
        )
        .sort("position")
    )
    top, bottom = by_position.head(5), by_position.tail(5)

    assert by_position["propensity"][0] == 1.0
    assert by_position["propensity"].is_sorted(descending=True)
    assert bottom["clicks"].mean() < 0.75 * top["clicks"].mean()
    assert (by_position["clicks"] / by_position["expected"] - 1).abs().max() < 0.2
    assert abs(by_position["clicks"].sum() / by_position["expected"].sum() - 1) < 0.04


def test_the_world_is_not_easy(candidates):
    candidates = candidates.with_columns(
        chance=pl.col("item_id").hash(3), as_shown=-pl.col("position"), best=pl.col("click_probability")
    )
    evaluated = candidates.filter(pl.col("shown_at") >= START_MS + DAY)

    chance, as_shown, popularity, best = (
        ndcg(evaluated, score) for score in ("chance", "as_shown", "popularity", "best")
    )

    assert 0.6 < best < 0.75
    assert chance < as_shown
    assert 0.1 < (popularity - chance) / (best - chance) < 0.5


def test_users_who_search_click_what_their_words_are_about(tmp_path):
    size = {"days": 3, "users": 30, "articles_a_day": 60, "impressions_a_day": 200, "queries": 0.5}
    newsroom.write(project(**size).reader, tmp_path / "world")
    events = [event for _, line in texts(tmp_path / "world") if (event := parse(line))]
    bodies = {
        e["item"]: f"{value(e, 'title')} {value(e, 'body')}".lower() for e in events if e["event"] == "item"
    }
    rankings = [event for event in events if event["event"] == "ranking"]
    queries = {event["id"]: str(value(event, "query")) for event in rankings if event["fields"]}
    clicked = {(event["ranking"], event["item"]) for event in events if event["event"] == "interaction"}

    shown = [(e["id"], item["id"]) for e in rankings if e["id"] in queries for item in e["items"]]
    about = [" ".join(queries[one].split()[:2]) in bodies[item] for one, item in shown]
    clicks = np.array([pair in clicked for pair in shown])

    assert 0.45 < len(queries) / len(rankings) < 0.55
    assert clicks[about].mean() > 4 * clicks[~np.array(about)].mean()


def test_texts_are_readable_and_varied(events):
    items = [event for _, event in events if event["event"] == "item"]
    titles = [str(value(item, "title")) for item in items]
    bodies = [str(value(item, "body")) for item in items]

    assert len(set(titles)) > 0.9 * len(titles)
    assert len(set(bodies)) > 0.95 * len(bodies)
    assert not any(mark in text for text in (*titles, *bodies) for mark in "{}")
    assert all(20 <= len(title) <= 140 for title in titles)
    assert all(title[0].isupper() or title[0] == "“" for title in titles)
    assert all(200 <= len(body) <= 700 for body in bodies)


def test_storyline_and_style_show_only_in_texts(events, candidates):
    kinds = {
        item: (storyline, style)
        for item, storyline, style in candidates.select("item_id", "storyline", "style").iter_rows()
    }
    first = {e["item"]: e for _, e in reversed(events) if e["event"] == "item" and e["item"] in kinds}
    by_author: dict[str, set[tuple[int, str]]] = {}
    storylines_of_tag: dict[str, set[int]] = {}
    for item, event in first.items():
        by_author.setdefault(str(value(event, "author")), set()).add(kinds[item])
        for tag in value(event, "tags") or []:
            storylines_of_tag.setdefault(tag, set()).add(kinds[item][0])

    assert all(len(authored) > 4 for authored in by_author.values())
    assert np.mean([len(storylines) for storylines in storylines_of_tag.values()]) > 2
    assert 0.3 < np.mean([value(event, "tags") is not None for event in first.values()]) < 0.5
