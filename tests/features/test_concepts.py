"""The time line of docs/concepts.md, run: what is shown, clicked, skipped and known at each impression."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from features.config.project import Project
from features.events.labels import attribute
from features.state import SliceEvents, start
from features.state.histories import SKIPPED, moments


@pytest.fixture(scope="module")
def project(toy: SimpleNamespace) -> Project:
    return toy.project(
        labels={"attribution": "30m"},
        features={"skips_per_impression": 8, "max_history": 128, "text_history": 20},
    )


@pytest.fixture(scope="module")
def events(toy: SimpleNamespace) -> SliceEvents:
    def clock(hour: int, minute: int) -> Any:
        return toy.at(60 * hour + minute)

    return SliceEvents(
        toy.items(*(toy.item(name, toy.START - toy.STEP) for name in "abcd")),
        toy.impressions(
            ("r1", "ann", clock(10, 0), ["a", "b", "c"]),
            ("r2", "ann", clock(10, 5), ["b", "d"]),
            ("r3", "bob", clock(10, 7), ["b"]),
            ("r4", "ann", clock(10, 10), ["a", "b"]),
            ("r5", "ann", clock(11, 0), ["b", "c"]),
        ),
        toy.interactions(
            ("ann", "b", "click", clock(10, 2), clock(10, 7)),
            ("ann", "c", "click", clock(10, 40), clock(10, 45)),
        ),
    )


@pytest.mark.parametrize(
    ("impression", "item", "expected"),
    [
        ("r1", "b", {"pair_seen": 0, "pair_exposures": 0, "item_exposures_all": 0}),
        (
            "r2",
            "b",
            {"pair_seen": 1, "pair_exposures": 1, "pair_clicks": 0, "pair_skips": 1, "item_clicks_all": 0},
        ),
        ("r3", "b", {"pair_seen": 0, "item_exposures_all": 2, "item_clicks_all": 0}),
        ("r4", "b", {"pair_exposures": 2, "pair_clicks": 1, "pair_skips": 1, "item_clicks_all": 1}),
        ("r5", "c", {"pair_exposures": 1, "pair_clicks": 1, "item_clicks_all": 1}),
    ],
)
def test_what_is_known_at_each_impression(
    toy: SimpleNamespace,
    project: Project,
    events: SliceEvents,
    impression: str,
    item: str,
    expected: dict[str, float],
) -> None:
    features, _ = toy.walk(events, project)
    row = features.filter(impression_id=impression, item_id=item).row(0, named=True)
    assert {name: row[name] for name in expected} == expected


def test_labels_are_of_what_happened_inside_the_window(project: Project, events: SliceEvents) -> None:
    labels = attribute(events.impressions, events.interactions, project.labels)
    assert labels.filter("clicked").select("impression_id", "item_id").rows() == [("r1", "b")]


def test_an_item_is_skipped_when_its_impression_closes(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    of_ann = moments(start(project.slices.start, project.behaviour), events).filter(
        pl.col("user_id") == "ann"
    )
    before_r2, before_r4 = (toy.at(minute) - timedelta(microseconds=1) for minute in (605, 610))
    closed, ended = toy.at(640), toy.at(690)
    assert of_ann.select("item_id", "action", "known_at").rows() == [
        ("a", SKIPPED, before_r2),
        ("b", SKIPPED, before_r2),
        ("c", SKIPPED, before_r2),
        ("b", "click", toy.at(607)),
        ("d", SKIPPED, before_r4),
        ("a", SKIPPED, closed),
        ("b", SKIPPED, closed),
        ("c", "click", toy.at(645)),
        ("b", SKIPPED, ended),
        ("c", SKIPPED, ended),
    ]
