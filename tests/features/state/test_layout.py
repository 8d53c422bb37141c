from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from features.config.project import Project
from features.state import SliceEvents, start
from features.state.counters import FIRST_RATE
from features.state.layout import Layout, code, in_order, lay_out, place
from features.state.passing import run


@pytest.fixture(scope="module")
def project(toy: SimpleNamespace) -> Project:
    return toy.project()


def layout_of(events: SliceEvents, project: Project) -> Layout:
    state, events = start(project.slices.start, project.behaviour), in_order(events)
    described = state.describe(events.items)
    shown = code(events.impressions, state.counted)
    return lay_out(events, shown, attributed(events, project), described, state.counted)


def attributed(events: SliceEvents, project: Project) -> pl.DataFrame:
    state = start(project.slices.start, project.behaviour)
    return place(state, events, code(events.impressions, state.counted))


def test_rows_are_sorted_by_instant_and_id_whatever_their_order_of_arrival(
    toy: SimpleNamespace, project: Project
) -> None:
    lists = [("s", "u", toy.at(60), ["c"]), ("r", "v", toy.at(60), ["b", "a"]), ("q", "u", toy.at(70), ["a"])]
    done = [("u", "a", "click", toy.at(80)), ("v", "b", "click", toy.at(61))]

    for order in (1, -1):
        layout = layout_of(
            SliceEvents(toy.items(), toy.impressions(*lists[::order]), toy.interactions(*done[::order])),
            project,
        )
        assert layout.impressions["impression_id"].to_list() == ["r", "s", "q"]
        assert layout.candidates["item_id"].to_list() == ["b", "a", "c", "a"]
        assert layout.list_of.tolist() == [0, 0, 1, 2]
        assert layout.interactions["item_id"].to_list() == ["b", "a"]


def test_a_row_sees_the_version_known_strictly_before_it(toy: SimpleNamespace, project: Project) -> None:
    items = toy.items(
        toy.item("a", toy.at(60), category="new"),
        toy.item("a", toy.START, tags=["x", "y"]),
        toy.item("b", toy.at(90)),
    )
    lists = toy.impressions(("r", "u", toy.at(60), ["a", "b"]), ("s", "u", toy.at(61), ["a"]))

    layout = layout_of(SliceEvents(items, lists, toy.interactions()), project)

    known = layout.described.found["known_at"].to_list()
    assert [known[n] if n >= 0 else None for n in layout.version] == [toy.START, None, toy.at(60)]
    category, tags = (layout.described.values[name] for name in ("category", "tags"))
    assert np.diff(category.start).tolist() == [0, 1, 0]
    assert np.diff(tags.start).tolist() == [2, 0, 0]


def test_kinds_without_a_gain_are_left_out_unless_valued(toy: SimpleNamespace, project: Project) -> None:
    done = toy.interactions(("u", "a", "view", toy.at(61), None, 12.5), ("u", "b", "click", toy.at(62)))
    events = SliceEvents(toy.items(), toy.impressions(), done)

    assert attributed(events, project)["kind"].to_list() == ["click"]
    valuing = toy.project(features={"valued": ("view",)})
    assert attributed(events, valuing)["value"].to_list() == [12.5, None]


@pytest.mark.parametrize(
    ("minute", "position"), [(59, None), (60, 3), (70, 3), (75, 1), (94, 1), (95, 1), (96, None)]
)
def test_a_click_is_attributed_to_the_latest_exposure_within_the_window(
    toy: SimpleNamespace, project: Project, minute: int, position: int | None
) -> None:
    events = SliceEvents(
        toy.items(),
        toy.impressions(("r", "u", toy.at(60), ["a", "b", "c"]), ("s", "u", toy.at(75), ["c", "a"])),
        toy.interactions(("u", "c", "click", toy.at(minute)), ("v", "c", "click", toy.at(minute))),
    )

    interactions = attributed(in_order(events), project)

    assert interactions["position"].to_list() == [position, None]


def test_of_two_exposures_at_one_instant_the_last_id_wins_whatever_the_order(
    toy: SimpleNamespace, project: Project
) -> None:
    shown = [("r", "u", toy.at(60), ["a", "b"]), ("s", "u", toy.at(60), ["b", "a"])]
    done = toy.interactions(("u", "b", "click", toy.at(61)))

    for rows in (shown, shown[::-1]):
        events = in_order(SliceEvents(toy.items(), toy.impressions(*rows), done))
        assert attributed(events, project)["position"].to_list() == [1]


def test_the_expected_click_rate_is_that_of_the_position_before_the_impression(
    toy: SimpleNamespace, project: Project
) -> None:
    events = SliceEvents(
        toy.items(),
        toy.impressions(("r", "u", toy.at(60), ["a", "b"]), ("s", "v", toy.at(70), ["c", "d"])),
        toy.interactions(("u", "b", "click", toy.at(65)), ("u", "b", "click", toy.at(70))),
    )
    layout, tables = layout_of(events, project), start(project.slices.start, project.behaviour).counted

    (chunk,) = run(tables, layout, None, (), (), ["position"])

    assert chunk.expected.tolist() == pytest.approx(
        [FIRST_RATE, FIRST_RATE, 4 * 0.05 / 5, (1 + 4 * 0.05) / 5]
    )


def test_positions_below_the_hundredth_count_as_the_hundredth(toy: SimpleNamespace, project: Project) -> None:
    deep = toy.impressions(("r", "u", toy.at(60), ["a", "b", "c"], {"first": 99}))

    layout = layout_of(SliceEvents(toy.items(), deep, toy.interactions()), project)

    assert layout.position.tolist() == [99, 100, 100]
    assert layout.candidates.schema["position"] == pl.Int32


def test_values_of_a_version_are_counted_once(toy: SimpleNamespace, project: Project) -> None:
    items = toy.items(toy.item("a", toy.START, category="k", tags=["x", "x"]), toy.item("b", toy.START))

    values = start(project.slices.start, project.behaviour).describe(items).values

    assert values["category"].start.tolist() == [0, 1, 1]
    assert values["tags"].start.tolist() == [0, 1, 1]
