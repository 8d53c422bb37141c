from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from features import sources
from features.config.project import Project
from features.events import validation as events
from features.sources import RawEvents

AT = datetime(2026, 1, 6, 12, tzinfo=UTC)
SECONDS = int(AT.timestamp())


def project(folder: Path, **mapping: Any) -> Project:
    log = {"format": "tables", "path": "log.csv", "known_after": "5m"}
    return Project.model_validate(
        {
            "name": "app",
            "source": log | {"tables": {"shape": "interactions"} | mapping},
            "slices": {"start": "2026-01-05T00:00:00Z", "end": "2026-01-15T00:00:00Z"},
            "folder": folder,
        }
    )


def shown(raw: RawEvents) -> list[list[str]]:
    return [[c["item_id"] for c in row] for row in raw.impressions["candidates"]]


def interactions_log(count: int, items: int, seed: int = 1) -> list[str]:
    draw = np.random.default_rng(seed)
    picks = (items * draw.random(count) ** 3).astype(int)
    return [f"u{number % 7},{SECONDS + number},i{pick}" for number, pick in enumerate(picks)]


def sampled(folder: Path, rows: list[str], **mapping: Any) -> RawEvents:
    (folder / "log.csv").write_text("\n".join(["user_id,timestamp,item_id", *rows]))
    return sources.read(project(folder, **mapping).reader, [folder / "log.csv"])


def test_sampled_lists_hold_the_item_and_only_known_others(tmp_path: Path) -> None:
    rows = interactions_log(600, 60)

    raw = sampled(tmp_path, rows, sampled=8)

    delay = timedelta(minutes=5)
    first_known = dict(raw.interactions.group_by("item_id").agg(pl.col("known_at").min()).rows())
    own = dict(raw.interactions.select("impression_id", "item_id").rows())
    for impression in raw.impressions.iter_rows(named=True):
        ids = [c["item_id"] for c in impression["candidates"]]
        others = [name for name in ids if name != own[impression["impression_id"]]]
        known = {name for name, at in first_known.items() if at < impression["shown_at"]}
        known.discard(own[impression["impression_id"]])
        assert len(ids) == len(set(ids)) == len(others) + 1
        assert set(others) <= known
        assert len(others) == min(7, len(known))
    assert raw.impressions.filter(pl.col("shown_at") < AT + delay)["candidates"].list.len().max() == 1


def test_sampling_follows_popularity_and_puts_the_item_at_any_position(tmp_path: Path) -> None:
    rows = [f"u,{SECONDS + number},{'hot' if number % 4 else f'cold{number % 40}'}" for number in range(4000)]

    raw = sampled(tmp_path, rows, sampled=3)

    own = raw.interactions.select("impression_id", own="item_id")
    lists = raw.impressions.filter(pl.col("shown_at") > AT + timedelta(minutes=30)).join(
        own, on="impression_id"
    )
    cold = lists.filter(pl.col("own") != "hot").explode("candidates").unnest("candidates")
    hot_lists = cold.filter(pl.col("item_id") == "hot")["impression_id"].n_unique()
    assert hot_lists > 0.85 * cold["impression_id"].n_unique()
    positions = cold.filter(pl.col("item_id") == pl.col("own"))["position"].value_counts()
    assert positions.height == 3
    assert positions["count"].min() > 0.2 * positions["count"].sum()


@settings(max_examples=25)
@given(cut=st.integers(1, 299), items=st.integers(2, 80), size=st.integers(1, 10))
def test_later_rows_never_change_earlier_lists(tmp_path: Path, cut: int, items: int, size: int) -> None:
    rows = interactions_log(300, items, seed=items)

    before = sampled(tmp_path, rows[:cut], sampled=size)
    after = sampled(tmp_path, rows, sampled=size)

    assert before.impressions.equals(after.impressions.head(cut))


def test_another_seed_draws_other_lists(tmp_path: Path) -> None:
    rows = interactions_log(600, 60)
    first = sampled(tmp_path, rows)

    other = project(tmp_path).model_copy(update={"seed": 2})
    second = sources.read(other.reader, [tmp_path / "log.csv"])

    assert not first.impressions["candidates"].equals(second.impressions["candidates"])


def test_items_of_the_log_can_be_drawn_before_any_interaction(tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text(
        "item_id,title,length,genres,added\n"
        + "".join(f"f{number},F,1,x,{SECONDS + (1000 if number < 5 else -1000)}\n" for number in range(10))
    )

    raw = sampled(tmp_path, [f"u,{SECONDS},a"], items_path="films.csv", item_at="added")

    assert set(shown(raw)[0]) == {"a", "f5", "f6", "f7", "f8", "f9"}


def test_a_repeated_row_is_deduplicated(tmp_path: Path) -> None:
    row = f"u,{SECONDS},a"

    built = events.build(
        sampled(tmp_path, [row, row]), project(tmp_path).slices, datetime(2026, 2, 1, tzinfo=UTC)
    )

    assert (built.impressions.height, built.interactions.height) == (1, 1)
    assert built.rejects["reason"].to_list() == ["duplicate_id", "duplicate_id"]
