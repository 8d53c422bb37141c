"""Query features against a slow reference, and what the state keeps of queries."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from features.behaviour import lookup_and_update, read_features
from features.config.project import Project
from features.queries import NEAREST, QUERY_AT
from features.sources.item_rows import normalised
from features.state import SliceEvents, restore, start

QUERY = {"context": {"query": "surface"}}


def reference(
    events: SliceEvents, vectors: dict[Any, np.ndarray], project: Project, row: dict[str, Any], item: str
) -> dict[str, float | None]:
    """The query features of one candidate, from raw events."""
    if not row["context"]:
        return dict.fromkeys(("match", "past_max", "past_share", "clicks", "length"))
    query, past = row["context"][0]["value"], []
    own = vectors[query, QUERY_AT]
    shown_lists = events.impressions.sort("shown_at", "impression_id").to_dicts()
    for done in events.interactions.sort("known_at", "interaction_id").to_dicts():
        recent = done["known_at"] < row["shown_at"] <= done["known_at"] + project.features.ttl
        if done["kind"] not in project.labels.gains or not recent:
            continue
        shown = [
            other
            for other in shown_lists
            if other["user_id"] == done["user_id"]
            and any(c["item_id"] == done["item_id"] for c in other["candidates"])
            and other["shown_at"] < done["known_at"] <= other["shown_at"] + project.labels.attribution
        ]
        if shown and shown[-1]["context"]:
            other = shown[-1]["context"][0]["value"]
            past.append((float(vectors[other, QUERY_AT] @ own), other, done["item_id"]))
    nearest = sorted(past, key=lambda click: -click[0])[:NEAREST]
    weights = [math.exp(10 * click[0]) for click in nearest]
    share = sum(w for w, click in zip(weights, nearest, strict=True) if click[2] == item)
    known = [v for v in events.items.to_dicts() if v["item_id"] == item and v["known_at"] < row["shown_at"]]
    text = vectors.get((item, max(v["known_at"] for v in known))) if known else None
    return {
        "match": None if text is None else float(text @ own),
        "past_max": max((near for near, _, chosen in past if chosen == item), default=None),
        "past_share": share / sum(weights) if past else None,
        "clicks": float(sum(other == query for _, other, _ in past)),
        "length": float(len(query)),
    }


@settings(max_examples=4)
@given(data=st.data())
def test_query_features_equal_a_slow_reference(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project = toy.project(features={"ttl": data.draw(st.sampled_from(["90d", "2h"]))}, **QUERY)

    found, _ = toy.walk(world, project, [toy.at(95), toy.at(200)])

    rows = {row["impression_id"]: row for row in world.impressions.to_dicts()}
    vectors = {(key, at): np.array(vector) for key, at, vector in toy.vectors(world.items).rows()}
    for values in found.iter_rows(named=True):
        row, item = rows[values["impression_id"]], values["item_id"]
        for name, expected in reference(world, vectors, project, row, item).items():
            got = values[f"query_{name}"]
            assert (got is None) == (expected is None), name
            assert got is None or got == pytest.approx(expected, abs=2e-4), name


def one_click(toy: SimpleNamespace) -> SliceEvents:
    words = {"surface": ("home",)}
    return SliceEvents(
        toy.items(toy.item("a", toy.START - toy.STEP, "text 1"), toy.item("b", toy.START - toy.STEP, "text 2")),
        toy.impressions(("r", "u", toy.at(10), ["a", "b"], words), ("s", "v", toy.at(30), ["a", "b"], words)),
        toy.interactions(("u", "b", "click", toy.at(12))),
    )  # fmt: skip


def test_what_others_clicked_after_the_same_words_speaks_for_an_item(toy: SimpleNamespace) -> None:
    found, state = toy.walk(one_click(toy), toy.project(**QUERY))

    later = found.filter(impression_id="s")
    assert later["query_past_share"].to_list() == [0.0, 1.0]
    assert later["query_ctr"][1] > later["query_ctr"][0]
    assert found.filter(impression_id="r")["query_past_share"].null_count() == 2
    assert state.query_clicks.select("user_id", "query", "item_id").rows() == [("u", "home", "b")]
    restored = restore(state.at, state.tables(), state.config)
    assert restored.query_clicks.equals(state.query_clicks)


def test_a_project_without_queries_has_no_table_and_no_feature_of_them(toy: SimpleNamespace) -> None:
    found, state = toy.walk(one_click(toy), toy.project())

    assert "query_clicks" not in state.tables()
    assert not [name for name in found.columns if name.startswith("query")]


def test_a_query_that_is_also_a_category_or_is_split_by_users_is_refused(toy: SimpleNamespace) -> None:
    with pytest.raises(ValidationError, match=r"context\.categorical: leave it out"):
        toy.project(context={"query": "q", "categorical": ("q",)})
    with pytest.raises(ValidationError, match="query features look at all users"):
        toy.project(scale={"buckets": 2}, **QUERY)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  Hvor er A\u030aLBORG\n Havn? ", "hvor er ålborg havn?"),
        ("ＧｉｔＨｕｂ　删除账号", "github 删除账号"),
    ],
)
def test_one_query_in_any_script_is_kept_in_one_form(typed: str, kept: str) -> None:
    assert pl.select(normalised(pl.lit(typed))).item() == kept


def test_impressions_of_one_instant_are_read_without_updating_the_state(toy: SimpleNamespace) -> None:
    world, project = one_click(toy), toy.project(**QUERY)
    first = toy.between(world, toy.START, toy.at(30))
    empty = start(project.slices.start, project.behaviour)
    _, state = lookup_and_update(empty, first, toy.at(30), toy.vectors(world.items))
    request = SliceEvents(toy.items(), world.impressions.filter(impression_id="s"), toy.interactions())

    found = read_features(state, request, toy.vectors(world.items))

    assert found["query_past_share"].to_list() == [0.0, 1.0]
