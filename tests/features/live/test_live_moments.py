"""The state in memory, updated event by event, reads what a batch of whole slices reads."""

from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from features.config.project import Project
from features.config.slices import microseconds
from features.live import Done, LiveMoments, Request, query_clicks
from features.live.query_clicks import LiveQueries
from features.live.user_histories import Exposure
from features.queries import NEAREST, QUERY_AT
from features.state import SliceEvents, start
from features.state.histories import moments

HOUR = timedelta(hours=1)
drawn = settings(max_examples=3, phases=[Phase.generate])


def replay(toy: SimpleNamespace, world: SliceEvents, project: Project) -> tuple[pl.DataFrame, LiveMoments]:
    """Features of every list, each looked up before anything of its instant is known."""
    vectors = toy.vectors(world.items)
    live = LiveMoments(start(project.slices.start, project.behaviour), project.slices, vectors.clear())
    early = SliceEvents(
        world.items.filter(pl.col("known_at") < toy.START), toy.impressions(), toy.interactions()
    )
    live.update(early, vectors)
    found = []
    for now in toy.instants(world):
        part = toy.between(world, now, now + toy.MICROSECOND)
        for impression in part.impressions.iter_rows(named=True):
            request = Request(
                impression["user_id"],
                tuple(c["item_id"] for c in impression["candidates"]),
                microseconds(now),
                impression["session_id"],
                tuple((pair["name"], pair["value"]) for pair in impression["context"]),
            )
            keys = [(impression["impression_id"], item) for item in request.items]
            table = pl.DataFrame(live.look_up(request).features, schema=list(live.plan.columns), orient="row")
            found.append(
                pl.DataFrame(keys, ["impression_id", "item_id"], orient="row").hstack(table.fill_nan(None))
            )
        live.update(part, vectors)
    return pl.concat(found).sort("impression_id", "item_id"), live


@drawn
@given(data=st.data())
def test_a_request_reads_what_a_batch_of_slices_reads(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds(lists=6))
    project: Project = data.draw(toy.projects())
    project = project.model_copy(update={"slices": project.slices.model_copy(update={"every": 2 * HOUR})})
    batch, _ = toy.walk(world, project, [toy.START + n * HOUR for n in (2, 4, 6, 8, 10)])

    found, live = replay(toy, world, project)

    assert found.select("impression_id", "item_id").equals(batch.select("impression_id", "item_id"))
    for name in live.plan.columns:
        close = 1e-6 if name.startswith("text_") else 1e-9
        np.testing.assert_allclose(
            found[name].to_numpy(), batch[name].to_numpy(), rtol=close, atol=1e-12, err_msg=name
        )


@drawn
@given(data=st.data())
def test_a_users_moments_are_those_of_the_batch(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds(lists=6))
    project: Project = toy.project()
    _, live = replay(toy, world, project)
    expected = moments(start(project.slices.start, project.behaviour), toy.between(world, toy.START, toy.END))

    for user in expected["user_id"].unique():
        past, _ = live.histories.past(user, microseconds(toy.END))
        own = expected.filter(user_id=user)
        assert (past.items, past.actions) == (own["item_id"].to_list(), own["action"].to_list())
        assert past.at.tolist() == own["known_at"].to_physical().to_list()


def test_a_user_who_was_dropped_is_a_new_user(toy: SimpleNamespace) -> None:
    world, project = toy.busy(lists=30), toy.project()
    _, live = replay(toy, world, project)
    now = microseconds(toy.END)

    live.forget("u1")

    lookup = [Request(user, ("hot", "i1"), now) for user in ("u1", "somebody new")]
    dropped, new = (live.look_up(request) for request in lookup)
    assert dropped.past.items == []
    np.testing.assert_array_equal(dropped.features, new.features)


def test_a_query_of_the_slice_before_still_has_its_vector_when_it_is_clicked(toy: SimpleNamespace) -> None:
    project = toy.project(slices={"every": "2h"}, context={"query": "surface"})
    vectors = toy.vectors(toy.items()).with_columns(vector=pl.lit([1.0, 0.0], pl.List(pl.Float32)))
    live = LiveMoments(start(project.slices.start, project.behaviour), project.slices, vectors.clear())
    shown = toy.impressions(("r", "u", toy.at(115), ["a", "b"], {"surface": ("home",)}))
    live.update(SliceEvents(toy.items(), shown, toy.interactions()), vectors.filter(item_id="home"))
    clicked = toy.interactions(("u", "b", "click", toy.at(125)))
    live.update(SliceEvents(toy.items(), toy.impressions(), clicked), vectors.clear())
    assert live.queries is not None
    live.queries.learn(vectors.filter(item_id="mail"))

    answer = live.look_up(Request("v", ("a", "b"), microseconds(toy.at(130)), None, (("surface", "mail"),)))

    assert answer.features[:, live.plan.columns.index("query_past_share")].tolist() == [0.0, 1.0]


def test_clicks_of_one_instant_count_in_the_order_of_the_batch(toy: SimpleNamespace) -> None:
    words = {"surface": ("home",)}
    users = [f"u{n:02}" for n in reversed(range(NEAREST + 2))]
    shown = [(user, user, toy.at(10), ["a", "b"], words) for user in [*users, "v"]]
    done = [(user, "a" if user < "u02" else "b", "click", toy.at(12)) for user in users]
    world = SliceEvents(
        toy.items(),
        toy.impressions(*shown, ("s", "v", toy.at(30), ["a", "b"], words)),
        toy.interactions(*done),
    )
    project = toy.project(context={"query": "surface"})
    batch, _ = toy.walk(world, project)

    found, _ = replay(toy, world, project)

    for table in (batch, found):
        assert table.filter(impression_id="s")["query_past_share"].to_list() == [0.0, 1.0]


def test_a_slice_drops_the_oldest_queries_that_nobody_clicked(
    toy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_clicks, "WAITING", 1)
    state = start(toy.START, toy.project(context={"query": "surface"}).behaviour)
    names, vectors = ["old", "home", "new"], [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
    table = {"item_id": names, "known_at": [QUERY_AT] * 3, "vector": vectors}
    queries = LiveQueries(state, pl.DataFrame(table, schema=toy.vectors(toy.items()).schema))
    click = Done(1, "1", "u", "a", "click", None)
    queries.add([(click, Exposure(0, 1, (("surface", "home"),)))])
    item, texts = state.counted.items.encode(pl.Series(["a"])), (np.zeros((1, 2), np.int16), np.zeros(1, int))

    queries.start_slice()

    for query, expected in (("old", np.nan), ("home", 1.0), ("new", 0.8)):
        past_max = queries.match(2, item, np.array([-1]), texts, query)[1]
        np.testing.assert_allclose(past_max, [expected], atol=1e-4)
