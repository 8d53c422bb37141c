from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.behaviour import advance
from features.config.project import Project
from features.schemas import InterestScores
from features.state import SliceEvents, start
from features.state.histories import SKIPPED
from models.interest.item_arrays import attribute_code, id_code
from models.interest_input import (
    InterestInput,
    actions,
    interest_config,
    interest_input,
    interest_scores,
    text_of,
)


@pytest.fixture(scope="module")
def project(toy: SimpleNamespace) -> Project:
    return toy.project()


@pytest.fixture(scope="module")
def events(toy: SimpleNamespace) -> SliceEvents:
    return SliceEvents(
        toy.items(
            toy.item("a", toy.START, "first"),
            toy.item("b", toy.START, "second"),
            toy.item("a", toy.at(65), "renewed"),
        ),
        toy.impressions(
            ("r2", "v", toy.at(60), ["b"]),
            ("r1", "u", toy.at(60), ["a", "b", "unknown"]),
            ("r3", "u", toy.at(70), ["b", "a"]),
        ),
        toy.interactions(
            ("u", "b", "click", toy.at(62)), ("u", "a", "comment", toy.at(70)), ("w", "a", "click", toy.at(1))
        ),
    )


def read(inputs: InterestInput) -> dict[str, Any]:
    """Impression → (visible moments as (text, action), candidates' texts)."""
    m = inputs.moments
    text = [inputs.items.texts[number] for number in inputs.items.text]
    found = {}
    for n, name in enumerate(inputs.keys["impression_id"].unique(maintain_order=True)):
        first = int(m.user_start[m.impression_user[n]])
        past = range(first, first + int(m.impression_prefix[n]))
        shown = range(int(m.impression_start[n]), int(m.impression_start[n + 1]))
        found[name] = (
            [(text[m.history_item[t]], int(m.history_action[t])) for t in past],
            [text[m.candidate_item[t]] for t in shown],
        )
    return found


def test_the_vocabulary_is_the_declared_kinds_and_the_skip(project: Project) -> None:
    assert actions(project.labels) == ("click", "comment", SKIPPED)


def test_the_project_section_is_the_configuration(project: Project) -> None:
    config = interest_config(project.interest, project.behaviour, project.seed)

    assert config.actions == actions(project.labels)
    assert config.seed == project.seed
    section = project.interest.model_dump(exclude={"numbers"})
    assert {name: getattr(config, name) for name in section} == section
    assert config.numbers == project.items.numeric


@pytest.mark.parametrize(
    ("title", "body", "text"), [("T", "B", "T. B"), ("T", None, "T"), ("", "B", "B"), (None, None, "")]
)
def test_the_text_of_an_item_is_title_then_body(title: str | None, body: str | None, text: str) -> None:
    assert text_of(title, body) == text


def test_candidates_and_past_items_have_their_texts_of_that_time(
    project: Project, events: SliceEvents
) -> None:
    found = read(interest_input(start(project.slices.start, project.behaviour), events))

    click, passed = 0, 2
    assert found == {
        "r1": ([], ["first", "second", ""]),
        "r3": ([("second", click), ("renewed", passed)], ["second", "renewed"]),
        "r2": ([], ["second"]),
    }


def test_the_arrays_are_consistent_and_keys_name_their_rows(project: Project, events: SliceEvents) -> None:
    inputs = interest_input(start(project.slices.start, project.behaviour), events)

    inputs.items.check(interest_config(project.interest, project.behaviour, project.seed))
    inputs.moments.check(len(inputs.items), len(actions(project.labels)))
    assert inputs.keys.rows() == [
        ("r1", "a"),
        ("r1", "b"),
        ("r1", "unknown"),
        ("r3", "b"),
        ("r3", "a"),
        ("r2", "b"),
    ]
    assert len(inputs.moments.user_start) == 3  # a user without impressions is left out
    assert (
        np.diff(inputs.moments.history_at[inputs.moments.user_start[0] : inputs.moments.user_start[1]]) >= 0
    ).all()


def test_labels_follow_their_candidates(toy: SimpleNamespace, project: Project, events: SliceEvents) -> None:
    labels = pl.DataFrame({"impression_id": ["r3", "r1"], "item_id": ["a", "b"], "label": [2.0, 1.0]})

    inputs = interest_input(start(project.slices.start, project.behaviour), events, labels)

    assert inputs.moments.label.tolist() == [0.0, 1.0, 0.0, 0.0, 2.0, 0.0]
    assert not interest_input(start(project.slices.start, project.behaviour), events).moments.label.any()


def test_a_past_item_with_a_replaced_version_has_its_text_before_the_slice(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    rewritten = pl.concat([events.items, toy.items(toy.item("b", toy.at(72), "rewritten"))])
    earlier = SliceEvents(rewritten, events.impressions, events.interactions)
    state = advance(start(project.slices.start, project.behaviour), earlier, toy.at(75))
    later = SliceEvents(
        toy.items(toy.item("b", toy.at(80), "newest"), toy.item("unknown", toy.at(80), "known too late")),
        toy.impressions(("r4", "u", toy.at(78), ["b"])),
        toy.interactions(("u", "unknown", "click", toy.at(76))),
    )

    past, shown = read(interest_input(state, later))["r4"]

    click, comment, passed = 0, 1, 2
    assert shown == ["rewritten"]
    assert past == [
        ("rewritten", click),
        ("renewed", passed),
        ("renewed", comment),
        ("", click),
        ("rewritten", passed),
    ]


def test_a_slice_without_impressions_is_empty(toy: SimpleNamespace, project: Project) -> None:
    nothing = SliceEvents(toy.items(), toy.impressions(), toy.interactions())

    inputs = interest_input(start(project.slices.start, project.behaviour), nothing)

    inputs.moments.check(0, len(actions(project.labels)))
    assert len(inputs.items) == 0
    assert inputs.keys.is_empty()


def test_without_a_version_every_candidate_has_a_null_score(
    project: Project, events: SliceEvents, tmp_path: Path
) -> None:
    inputs = interest_input(start(project.slices.start, project.behaviour), events)

    found = interest_scores(inputs, None, None, tmp_path)

    InterestScores.validate(found)
    assert found.select("impression_id", "item_id").equals(inputs.keys)
    assert found["interest_score"].null_count() == found["interest_slice"].null_count() == found.height


def test_items_carry_their_declared_attributes_and_numbers(toy: SimpleNamespace, project: Project) -> None:
    events = SliceEvents(
        toy.items(
            toy.item("a", toy.START, category="x", tags=["y", "z"], length=3.0), toy.item("b", toy.START)
        ),
        toy.impressions(("r", "u", toy.at(60), ["b", "unknown", "a"])),
        toy.interactions(),
    )

    items = interest_input(start(project.slices.start, project.behaviour), events).items

    assert items.id.tolist() == [id_code("b"), id_code("unknown"), id_code("a")]
    assert np.diff(items.attribute_start).tolist() == [0, 0, 3]
    assert sorted(items.attribute) == sorted(map(attribute_code, ["category=x", "tags=y", "tags=z"]))
    assert np.isnan(items.number[:2]).all()
    assert items.number[2].tolist() == [3.0]
