"""One definition, three uses: a batch, the same in stretches, and a live request read the same features."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import behaviour
from features.advance import advance
from features.behaviour import measure, read_and_advance, read_features
from features.catalogue import catalogue, features
from features.facts import Facts
from features.project import Project
from features.state import SliceEvents, start

KEYS = ["impression_id", "item_id"]
drawn = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@drawn
@given(data=st.data())
def test_a_live_request_reads_what_the_batch_read(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds(lists=6))
    project: Project = data.draw(toy.projects())
    vectors = toy.vectors(world.items)
    names = [f.name for f in features(project)]
    state = start(project)
    batch = measure(Facts(state, toy.between(world, toy.START, toy.END), project), vectors, set(names))

    live = []
    for now in toy.instants(world):
        state = advance(state, toy.between(world, state.at, now), now, project)
        for request in world.impressions.filter(pl.col("shown_at") == now).iter_slices(1):
            asked = SliceEvents(toy.items(), request, toy.interactions())
            live.append(measure(Facts(state, asked, project), vectors, set(names)))

    found, expected = pl.concat(live).sort(KEYS), batch.sort(KEYS)
    assert found.select(KEYS).equals(expected.select(KEYS))
    for name in names:
        close = 1e-6 if name.startswith("text_") else 1e-9
        np.testing.assert_allclose(
            found[name].to_numpy(), expected[name].to_numpy(), rtol=close, atol=1e-12, err_msg=name
        )


@pytest.mark.parametrize("rows", [1, 4])
@settings(drawn, max_examples=2)
@given(data=st.data())
def test_a_busy_slice_read_in_stretches_reads_as_in_one_go(
    toy: SimpleNamespace, rows: int, data: st.DataObject
) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())
    events, vectors = toy.between(world, toy.START, toy.END), toy.vectors(world.items)
    whole = read_features(start(project), events, project, vectors)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behaviour, "ROWS_AT_ONCE", rows)
        cut = read_features(start(project), events, project, vectors)

    found, expected = cut.sort(KEYS), whole.sort(KEYS)
    assert found.select(KEYS).equals(expected.select(KEYS))
    for name in expected.columns[2:]:
        np.testing.assert_allclose(
            found[name].to_numpy(), expected[name].to_numpy(), rtol=2e-6, atol=1e-7, err_msg=name
        )


def test_a_busy_slice_is_cut_between_instants_and_never_within_one(
    toy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, read = toy.project(), []
    lists = [(f"r{n}", "u", toy.at(10 * (n // 2)), ["a", "b"]) for n in range(2, 8)]
    events = SliceEvents(toy.items(), toy.impressions(*lists), toy.interactions())
    monkeypatch.setattr(behaviour, "ROWS_AT_ONCE", 3)
    measured = behaviour.measure

    def noted(facts: Facts, *rest: Any) -> pl.DataFrame:
        read.append((facts.state.at, facts.events.impressions["impression_id"].to_list()))
        return measured(facts, *rest)

    monkeypatch.setattr(behaviour, "measure", noted)

    found = read_features(start(project), events, project, toy.vectors(toy.items()))

    assert found.height == 12
    assert [names for _, names in read] == [["r2", "r3"], ["r4", "r5"], ["r6", "r7"]]
    assert [at for at, _ in read] == [toy.START, toy.at(20), toy.at(30)]


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
    asked = []
    told = Facts.of
    monkeypatch.setattr(Facts, "of", lambda facts, grain: (asked.append(grain), told(facts, grain))[1])
    monkeypatch.setattr(behaviour, "text_similarity", None)

    found = read_features(start(project), events, project, toy.vectors(toy.items()))

    assert found.columns[2:] == catalogue(project)["name"].to_list()
    assert untouched.isdisjoint(asked)


def test_a_relative_form_is_computed_without_what_it_is_of(toy: SimpleNamespace) -> None:
    project = toy.project(features={"select": ("item_length_best",), "relative": ("best",)})
    told = toy.items(toy.item("a", toy.START, length=1.0), toy.item("b", toy.START, length=3.0))
    events = SliceEvents(told, toy.impressions(("r", "u", toy.at(5), ["a", "b"])), toy.interactions())

    found = read_features(start(project), events, project, toy.vectors(told))

    assert found.columns == [*KEYS, "item_length_best"]
    assert found["item_length_best"].to_list() == [-2.0, 0.0]


def test_features_are_the_catalogue_in_float32(toy: SimpleNamespace) -> None:
    project = toy.project()
    shown = toy.impressions(("r", "u", toy.at(5), ["b", "a"]))
    events = SliceEvents(toy.items(), shown, toy.interactions())

    found = read_features(start(project), events, project, toy.vectors(toy.items()))

    assert found.columns == ["impression_id", "item_id", *catalogue(project)["name"]]
    assert set(found.dtypes[2:]) == {pl.Float32}
    assert found["item_id"].to_list() == ["b", "a"]


def test_a_stretch_without_impressions_has_no_features_but_their_columns(toy: SimpleNamespace) -> None:
    project = toy.project()
    events = SliceEvents(toy.items(), toy.impressions(), toy.interactions())

    found = read_features(start(project), events, project, toy.vectors(toy.items()))

    assert found.height == 0
    assert found.columns[2:] == catalogue(project)["name"].to_list()


def test_a_candidate_without_a_value_of_an_attribute_has_everybodys_rate(toy: SimpleNamespace) -> None:
    project = toy.project()
    events = SliceEvents(
        toy.items(toy.item("plain", toy.START), toy.item("tagged", toy.START, tags=["x"])),
        toy.impressions(("r", "u", toy.at(5), ["plain", "tagged", "unknown"])),
        toy.interactions(),
    )

    found = read_features(start(project), events, project, toy.vectors(toy.items()))

    np.testing.assert_allclose(found["item_category_ctr_all"].to_list(), [0.05] * 3, rtol=1e-6)


def test_a_project_without_attributes_and_numbers_has_features(toy: SimpleNamespace) -> None:
    project = toy.project(items={"numeric": (), "categorical": ()})
    events = SliceEvents(toy.items(), toy.impressions(("r", "u", toy.at(5), ["a"])), toy.interactions())

    found = read_features(start(project), events, project, toy.vectors(toy.items()))

    assert found["item_ctr_all"].to_list() == pytest.approx([0.05])
    assert not [name for name in found.columns if "category" in name]


@settings(drawn, max_examples=10)
@given(data=st.data())
def test_reading_and_advancing_at_once_is_reading_and_advancing(
    toy: SimpleNamespace, data: st.DataObject
) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())
    events, vectors = toy.between(world, toy.START, toy.END), toy.vectors(world.items)

    features, state = read_and_advance(start(project), events, toy.END, project, vectors)

    assert features.equals(read_features(start(project), events, project, vectors))
    apart = advance(start(project), events, toy.END, project)
    assert all(state.tables()[name].equals(table) for name, table in apart.tables().items())
