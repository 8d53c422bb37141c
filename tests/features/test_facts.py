from types import SimpleNamespace

import polars as pl
import pytest

from features.facts import FIRST_RATE, Facts
from features.project import Project
from features.state import SliceEvents, counters, start


@pytest.fixture(scope="module")
def project(toy: SimpleNamespace) -> Project:
    return toy.project()


@pytest.fixture
def events(toy: SimpleNamespace) -> SliceEvents:
    """One list of three, from which `b` is taken; `c` is below what is remembered as passed."""
    return SliceEvents(
        toy.items(toy.item("a", toy.START, tags=["x", "y"]), toy.item("b", toy.at(30), category="k")),
        toy.impressions(("r", "u", toy.at(60), ["a", "b", "c"])),
        toy.interactions(("u", "b", "click", toy.at(65))),
    )


def test_a_grain_is_told_what_was_shown_and_done(project: Project, events: SliceEvents) -> None:
    facts = Facts(start(project), events, project)

    item = facts.of("item").select("item_id", "at", "exposures", "clicks", "comments", "depth")
    shown = events.impressions["shown_at"].item()
    assert item.rows() == [
        ("a", shown, 1.0, 0.0, 0.0, 1.0),
        ("b", shown, 1.0, 0.0, 0.0, 2.0),
        ("c", shown, 1.0, 0.0, 0.0, 3.0),
        ("b", events.interactions["known_at"].item(), 0.0, 1.0, 0.0, 0.0),
    ]
    values = facts.of("attribute").filter(pl.col("exposures") == 1).select("attribute", "value").rows()
    assert sorted(values) == [("category", "k"), ("tags", "x"), ("tags", "y")]


def test_people_are_told_a_list_at_a_time_and_no_less(project: Project, events: SliceEvents) -> None:
    facts = Facts(start(project), events, project)

    for grain in ("everything", "user"):
        assert facts.of(grain).select("exposures", "clicks").rows() == [(3.0, 0.0), (0.0, 1.0)]
    assert facts.of("user")["expected"].sum() == pytest.approx(facts.of("item")["expected"].sum())
    assert facts.of("user_item").select("item_id", "exposures").height == 4


def test_every_grains_facts_are_its_keys_an_instant_and_its_quantities(
    toy: SimpleNamespace, events: SliceEvents
) -> None:
    project = toy.project(context={"categorical": ("surface",)}, features={"valued": ("view",)})
    facts = Facts(start(project), events, project)

    for grain, counter in counters(project).items():
        found = facts.of(grain)
        assert set(found.columns) == {*counter.keys, "at", "row", *counter.quantities}, grain
        assert found.select(counter.quantities).null_count().sum_horizontal().item() == 0, grain


def test_kinds_without_a_gain_are_not_counted_unless_valued(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    done = toy.interactions(
        ("u", "a", "view", toy.at(61), None, 12.5), ("u", "b", "view", toy.at(62), None, None)
    )
    viewed = SliceEvents(events.items, events.impressions, done)
    valuing = toy.project(features={"valued": ("view",)})

    assert Facts(start(project), viewed, project).of("user").height == 1
    found = Facts(start(valuing), viewed, valuing).of("user").filter(pl.col("views") == 1)
    assert found["views_value"].to_list() == [12.5, 0.0]


@pytest.mark.parametrize(
    ("minute", "position"), [(59, None), (60, 3), (70, 3), (75, 1), (94, 1), (95, 1), (96, None)]
)
def test_a_click_is_placed_at_the_latest_sight_of_the_item_inside_the_window(
    toy: SimpleNamespace, project: Project, minute: int, position: int | None
) -> None:
    told = SliceEvents(
        toy.items(),
        toy.impressions(("r", "u", toy.at(60), ["a", "b", "c"]), ("s", "u", toy.at(75), ["c", "a"])),
        toy.interactions(("u", "c", "click", toy.at(minute)), ("v", "c", "click", toy.at(minute))),
    )

    found = Facts(start(project), told, project).done

    assert found["position"].to_list() == [position, None]


def test_of_two_sights_at_one_instant_the_last_id_decides_whatever_the_order(
    toy: SimpleNamespace, project: Project
) -> None:
    shown = [("r", "u", toy.at(60), ["a", "b"]), ("s", "u", toy.at(60), ["b", "a"])]
    done = toy.interactions(("u", "b", "click", toy.at(61)))

    for rows in (shown, shown[::-1]):
        told = SliceEvents(toy.items(), toy.impressions(*rows), done)
        assert Facts(start(project), told, project).done["position"].to_list() == [1]


def test_the_expected_click_rate_is_that_of_the_position_until_then(
    toy: SimpleNamespace, project: Project
) -> None:
    told = SliceEvents(
        toy.items(),
        toy.impressions(("r", "u", toy.at(60), ["a", "b"]), ("s", "v", toy.at(70), ["c", "d"])),
        toy.interactions(("u", "b", "click", toy.at(65)), ("u", "b", "click", toy.at(70))),
    )

    found = Facts(start(project), told, project).expected

    assert found.to_list() == pytest.approx([FIRST_RATE, FIRST_RATE, 4 * 0.05 / 5, (1 + 4 * 0.05) / 5])


def test_positions_below_the_hundredth_are_one(toy: SimpleNamespace, project: Project) -> None:
    deep = toy.impressions(("r", "u", toy.at(60), ["a", "b", "c"], {"first": 99}))

    facts = Facts(start(project), SliceEvents(toy.items(), deep, toy.interactions()), project)

    assert facts.of("position")["position"].to_list() == [99, 100, 100]
