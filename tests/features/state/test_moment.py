from types import SimpleNamespace

import polars as pl
import pytest

from features.behaviour import advance
from features.catalogue import catalogue
from features.config.project import Project
from features.errors import ProjectError
from features.state import MomentState, SliceEvents, counters, kinds_counted, restore, start


@pytest.fixture(scope="module")
def project(toy: SimpleNamespace) -> Project:
    return toy.project()


@pytest.fixture
def state(toy: SimpleNamespace, project: Project) -> MomentState:
    """After an open impression of three items, of which `b` is clicked."""
    events = SliceEvents(
        toy.items(toy.item("a", toy.START, tags=["x", "y"]), toy.item("b", toy.at(30), category="k")),
        toy.impressions(("r", "u", toy.at(60), ["a", "b", "c"])),
        toy.interactions(("u", "b", "click", toy.at(65))),
    )
    return advance(start(project.slices.start, project.behaviour), events, toy.at(66))


def test_the_click_is_the_kind_click_or_else_the_first_declared(toy: SimpleNamespace) -> None:
    def kinds(**gains: float) -> dict[str, str]:
        return kinds_counted(toy.project(labels={"gains": gains}).behaviour)

    assert kinds(click=1, share=2) == {"click": "clicks", "share": "shares"}
    assert kinds(purchase=3, click=1) == {"click": "clicks", "purchase": "purchases"}
    assert kinds(like=1, share=2) == {"like": "clicks", "share": "shares"}


def test_a_valued_kind_is_counted_with_or_without_a_gain(toy: SimpleNamespace) -> None:
    valued = toy.project(labels={"gains": {"click": 1, "share": 2}}, features={"valued": ("dwell", "share")})

    assert kinds_counted(valued.behaviour) == {"click": "clicks", "share": "shares", "dwell": "dwells"}
    assert {"dwells", "dwells_value", "shares_value"} <= set(counters(valued.behaviour)["item"].quantities)


def test_every_grain_is_counted_by_its_keys(toy: SimpleNamespace, project: Project) -> None:
    declared = counters(project.behaviour)

    assert {grain: counter.keys for grain, counter in declared.items()} == {
        "everything": ("everything",),
        "position": ("position",),
        "item": ("item_id",),
        "attribute": ("attribute", "value"),
        "user": ("user_id",),
        "user_attribute": ("user_id", "attribute", "value"),
        "taste": ("user_id", "attribute"),
        "user_item": ("user_id", "item_id"),
    }
    assert declared["item"].quantities == ("exposures", "clicks", "comments", "expected", "depth")
    assert declared["user_item"].columns == ["exposures_all", "clicks_all", "comments_all"]
    with_context = counters(toy.project(context={"categorical": ("surface",)}).behaviour)
    assert with_context["item_context"].keys == ("item_id", "context", "value")


def test_all_counters_but_everything_and_position_expire(project: Project) -> None:
    expiring = {grain for grain, counter in counters(project.behaviour).items() if counter.ttl is not None}

    assert expiring == set(counters(project.behaviour)) - {"everything", "position"}


@pytest.mark.parametrize("kind", ["exposure", "position"])
def test_a_kind_named_like_a_built_in_counter_is_rejected_or_distinct(
    toy: SimpleNamespace, kind: str
) -> None:
    project = toy.project(labels={"gains": {"click": 1.0, kind: 2.0}})

    if kind == "exposure":
        with pytest.raises(ProjectError, match="item_exposures"):
            catalogue(project.behaviour)
    else:
        assert "positions" in counters(project.behaviour)["item"].quantities
        assert catalogue(project.behaviour)["name"].is_unique().all()


def test_the_first_state_is_empty_at_the_start_of_the_first_slice(project: Project) -> None:
    state = start(project.slices.start, project.behaviour)

    assert state.at == project.slices.start
    assert all(table.is_empty() for table in state.tables().values())


def test_a_state_is_restored_from_its_tables(project: Project, state: MomentState) -> None:
    again = restore(state.at, state.tables(), project.behaviour)

    assert set(state.tables()) == {
        *counters(project.behaviour),
        "items",
        "exposed",
        "open",
        "shown",
        "sessions",
        "moments",
    }
    assert all(again.tables()[name].equals(table) for name, table in state.tables().items())


def test_tables_keep_their_columns_and_types_when_the_state_advances(
    project: Project, state: MomentState
) -> None:
    first = start(project.slices.start, project.behaviour).tables()

    for name, table in state.tables().items():
        assert table.height > 0, name
        assert table.schema == first[name].schema, name


def test_a_state_read_bucket_by_bucket_advances_as_one_read_whole(
    toy: SimpleNamespace, project: Project
) -> None:
    world = toy.busy()
    state = advance(
        start(project.slices.start, project.behaviour),
        toy.between(world, toy.START, toy.at(300)),
        toy.at(300),
    )
    by_bucket = {
        name: pl.concat(table.partition_by("user_id", maintain_order=True)[::-1])
        if "user_id" in table.columns
        else table
        for name, table in state.tables().items()
    }
    later = toy.between(world, toy.at(300), toy.END)

    restored = advance(restore(state.at, by_bucket, project.behaviour), later, toy.END).tables()

    for name, table in advance(state, later, toy.END).tables().items():
        assert restored[name].equals(table), name
