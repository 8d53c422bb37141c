"""One definition, three uses: a batch, the same slice by slice, and a live request read the same features."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import threads
from features.behaviour import advance, lookup_and_update, measure, read_features
from features.catalogue import catalogue, features
from features.catalogue.plan import FeaturePlan, compile_plan
from features.config.project import Project
from features.state import SliceEvents, passing, start, table

KEYS = ["impression_id", "item_id"]


def every_feature(project: Project) -> FeaturePlan:
    declared = features(project.behaviour)
    return compile_plan(declared, (), [f.name for f in declared])


@settings(max_examples=6)
@given(data=st.data())
def test_a_live_request_reads_what_the_batch_read(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds(lists=6))
    project: Project = data.draw(toy.projects())
    vectors = toy.vectors(world.items)
    plan, state = every_feature(project), start(project.slices.start, project.behaviour)
    batch = measure(state, toy.between(world, toy.START, toy.END), vectors, plan, np.float64)

    live = []
    for now in toy.instants(world):
        state = advance(state, toy.between(world, state.at, now), now)
        for request in world.impressions.filter(pl.col("shown_at") == now).iter_slices(1):
            lookup = SliceEvents(toy.items(), request, toy.interactions())
            live.append(measure(state, lookup, vectors, plan, np.float64))

    found, expected = pl.concat(live).sort(KEYS), batch.sort(KEYS)
    assert found.select(KEYS).equals(expected.select(KEYS))
    for name in plan.columns:
        np.testing.assert_allclose(
            found[name].to_numpy(), expected[name].to_numpy(), rtol=1e-9, atol=1e-12, err_msg=name
        )


@pytest.mark.parametrize(("rows", "shared"), [(1, False), (4, True)])
@settings(max_examples=2)
@given(data=st.data())
def test_a_slice_in_small_chunks_and_threads_is_the_same_to_the_bit(
    toy: SimpleNamespace, rows: int, shared: bool, data: st.DataObject
) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())
    events, vectors = toy.between(world, toy.START, toy.END), toy.vectors(world.items)
    whole, state = lookup_and_update(start(project.slices.start, project.behaviour), events, toy.END, vectors)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passing, "CHUNK", rows)
        patch.setattr(threads, "_parallel", lambda _: shared)
        cut, cut_state = lookup_and_update(
            start(project.slices.start, project.behaviour), events, toy.END, vectors
        )

    assert cut.equals(whole)
    assert all(cut_state.tables()[name].equals(found) for name, found in state.tables().items())


def sweeping(patch: pytest.MonkeyPatch) -> None:
    """Look for expired entries in every chunk, however few there are."""
    patch.setattr(table, "SWEPT_FROM", -1)
    patch.setattr(table.Table, "_swept", property(lambda _: -1, lambda *_: None), raising=False)


@settings(max_examples=10)
@given(data=st.data())
def test_when_expired_entries_are_dropped_changes_nothing(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())
    cuts = [toy.at(95), toy.at(200)]
    whole, state = toy.walk(world, project, cuts)

    with pytest.MonkeyPatch.context() as patch:
        sweeping(patch)
        swept, swept_state = toy.walk(world, project, cuts)

    assert swept.equals(whole)
    assert all(swept_state.tables()[name].equals(found) for name, found in state.tables().items())


def test_an_entry_that_an_early_click_renews_is_not_swept_for_a_late_list(
    toy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = toy.project(features={"ttl": "40m"})
    lists = toy.impressions(("r", "u", toy.at(10), ["a"]), ("s", "u", toy.at(80), ["a"]))
    events = SliceEvents(toy.items(), lists, toy.interactions(("u", "a", "click", toy.at(45))))
    sweeping(monkeypatch)

    found, _ = toy.walk(events, project, [toy.at(20)])

    assert found.filter(impression_id="s")["item_exposures_all"].to_list() == [1.0]


def test_chunks_are_cut_between_instants_and_never_within_one(toy: SimpleNamespace) -> None:
    at = np.array([20, 20, 30, 30, 40])
    done_at = np.array([10, 20, 29, 30, 99])
    start = np.arange(0, 12, 2)

    found = passing.chunks(at, start, done_at, 3)

    assert [(lists, done) for lists, done in found] == [
        (slice(0, 2), slice(0, 3)),
        (slice(2, 4), slice(3, 4)),
        (slice(4, 5), slice(4, 5)),
    ]


@pytest.mark.parametrize(
    ("select", "untouched"),
    [
        (("item_ctr_all",), {"user", "user_item", "attribute", "taste"}),
        (("user_*", "!user_tags*"), {"user_item"}),
    ],
)
def test_only_what_is_selected_is_computed(
    toy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, select: tuple[str, ...], untouched: set[str]
) -> None:
    project = toy.project(features={"select": select})
    shown = toy.impressions(("r", "u", toy.at(5), ["b", "a"]))
    events = SliceEvents(toy.items(toy.item("a", toy.START, tags=["x"])), shown, toy.interactions())
    computed, run = [], passing.run

    def recorded(*arguments: Any, **options: Any) -> Any:
        computed.extend(arguments[5])  # the grains
        return run(*arguments, **options)

    monkeypatch.setattr(passing, "run", recorded)
    monkeypatch.setattr("features.behaviour.text_similarity", None)

    found = read_features(start(project.slices.start, project.behaviour), events, toy.vectors(toy.items()))

    assert found.columns[2:] == catalogue(project.behaviour)["name"].to_list()
    assert computed
    assert untouched.isdisjoint(computed)


def test_a_relative_form_is_computed_without_what_it_is_of(toy: SimpleNamespace) -> None:
    project = toy.project(features={"select": ("item_length_best",), "relative": ("best",)})
    items = toy.items(toy.item("a", toy.START, length=1.0), toy.item("b", toy.START, length=3.0))
    events = SliceEvents(items, toy.impressions(("r", "u", toy.at(5), ["a", "b"])), toy.interactions())

    found = read_features(start(project.slices.start, project.behaviour), events, toy.vectors(items))

    assert found.columns == [*KEYS, "item_length_best"]
    assert found["item_length_best"].to_list() == [-2.0, 0.0]


def test_features_are_the_catalogue_in_float32(toy: SimpleNamespace) -> None:
    project = toy.project()
    shown = toy.impressions(("r", "u", toy.at(5), ["b", "a"]))
    events = SliceEvents(toy.items(), shown, toy.interactions())

    found = read_features(start(project.slices.start, project.behaviour), events, toy.vectors(toy.items()))

    assert found.columns == ["impression_id", "item_id", *catalogue(project.behaviour)["name"]]
    assert set(found.dtypes[2:]) == {pl.Float32}
    assert found["item_id"].to_list() == ["b", "a"]


def test_a_slice_without_impressions_has_no_features_but_their_columns(toy: SimpleNamespace) -> None:
    project = toy.project()
    events = SliceEvents(toy.items(), toy.impressions(), toy.interactions())

    found = read_features(start(project.slices.start, project.behaviour), events, toy.vectors(toy.items()))

    assert found.height == 0
    assert found.columns[2:] == catalogue(project.behaviour)["name"].to_list()


def test_a_candidate_without_a_value_of_an_attribute_has_everybodys_rate(toy: SimpleNamespace) -> None:
    project = toy.project()
    events = SliceEvents(
        toy.items(toy.item("plain", toy.START), toy.item("tagged", toy.START, tags=["x"])),
        toy.impressions(("r", "u", toy.at(5), ["plain", "tagged", "unknown"])),
        toy.interactions(),
    )

    found = read_features(start(project.slices.start, project.behaviour), events, toy.vectors(toy.items()))

    np.testing.assert_allclose(found["item_category_ctr_all"].to_list(), [0.05] * 3, rtol=1e-6)


def test_a_project_without_attributes_and_numbers_has_features(toy: SimpleNamespace) -> None:
    project = toy.project(items={"numeric": (), "categorical": ()})
    events = SliceEvents(toy.items(), toy.impressions(("r", "u", toy.at(5), ["a"])), toy.interactions())

    found = read_features(start(project.slices.start, project.behaviour), events, toy.vectors(toy.items()))

    assert found["item_ctr_all"].to_list() == pytest.approx([0.05])
    assert not [name for name in found.columns if "category" in name]


@settings(max_examples=10)
@given(data=st.data())
def test_reading_and_advancing_at_once_is_reading_and_advancing(
    toy: SimpleNamespace, data: st.DataObject
) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())
    events, vectors = toy.between(world, toy.START, toy.END), toy.vectors(world.items)

    features, state = lookup_and_update(
        start(project.slices.start, project.behaviour), events, toy.END, vectors
    )

    assert features.equals(read_features(start(project.slices.start, project.behaviour), events, vectors))
    apart = advance(start(project.slices.start, project.behaviour), events, toy.END)
    assert all(state.tables()[name].equals(table) for name, table in apart.tables().items())


@settings(max_examples=10)
@given(data=st.data())
def test_ten_slices_and_one_give_equal_bytes(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())
    cuts = [toy.START + n * (toy.END - toy.START) / 10 for n in range(1, 10)]

    whole, state = toy.walk(world, project)
    cut, other = toy.walk(world, project, cuts)

    assert cut.equals(whole)
    for name, found in state.tables().items():
        assert other.tables()[name].equals(found), name


def test_a_request_leaves_the_state_as_it_is(toy: SimpleNamespace) -> None:
    project, world = toy.project(), toy.busy()
    state = advance(
        start(project.slices.start, project.behaviour),
        toy.between(world, toy.START, toy.at(300)),
        toy.at(300),
    )
    before = state.tables()
    request = SliceEvents(
        toy.items(), toy.impressions(("r", "new", toy.at(300), ["hot", "unheard"])), toy.interactions()
    )

    read_features(state, request, toy.vectors(toy.items()))

    assert all(state.tables()[name].equals(found) for name, found in before.items())


def test_a_state_is_not_changed_by_those_that_follow_it(toy: SimpleNamespace) -> None:
    project, world = toy.project(), toy.busy()
    state = advance(
        start(project.slices.start, project.behaviour),
        toy.between(world, toy.START, toy.at(300)),
        toy.at(300),
    )
    before = state.tables()

    advance(state, toy.between(world, toy.at(300), toy.END), toy.END)

    assert all(state.tables()[name].equals(found) for name, found in before.items())
