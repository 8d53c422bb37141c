"""Promotion and rollback: every move is recorded, each rollback goes one step back, runs do not interfere."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import ModelError, TrackingError
from models.registry.champion_history import Move, moves, succession, withdrawn
from models.registry.registry import Registry

START = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def three(prepared, ranker, example, tmp_path_factory) -> Registry:
    """Versions 1, 2 and 3 of three days, without a champion."""
    folder = tmp_path_factory.mktemp("three")
    shutil.copy(prepared, folder)
    registry = Registry("newsroom", f"sqlite:///{folder}/mlflow.db", f"file://{folder}/mlartifacts")
    for day in (5, 6, 7):
        registry.register_ranker(ranker, f"2026-01-0{day}", "run-1", {}, {}, {}, example.head(5))
    return registry


@pytest.fixture
def registry(three, tmp_path) -> Registry:
    shutil.copy(three.tracking_uri.removeprefix("sqlite:///"), tmp_path)
    return replace(three, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")


def recorded(registry) -> list[tuple[str, str, str | None]]:
    return [(move.version, move.action, move.replaced) for move in registry.history()]


def history(*steps: tuple[str, str, str | None]) -> list[Move]:
    return [
        Move(START + timedelta(hours=n), version, "2026-01-05", action, replaced, "")
        for n, (version, action, replaced) in enumerate(steps)
    ]


def test_every_move_is_recorded_with_slice_and_reason(registry):
    before = datetime.now(UTC)

    assert registry.set_champion("1", None, "It beats popularity.")
    assert registry.set_champion("2", "1", "It is no worse.")
    assert registry.promote("challenger", "a demo on Friday") == "3"
    assert registry.rollback("the demo is over") == "2"

    assert [(m.version, m.slice, m.action, m.replaced, m.reason) for m in registry.history()] == [
        ("1", "2026-01-05", "promoted by rule", None, "It beats popularity."),
        ("2", "2026-01-06", "promoted by rule", "1", "It is no worse."),
        ("3", "2026-01-07", "promoted by hand", "2", "a demo on Friday"),
        ("2", "2026-01-06", "rolled back", "3", "the demo is over"),
    ]
    instants = [move.at for move in registry.history()]
    assert before <= instants[0] < instants[1] < instants[2] < instants[3] <= datetime.now(UTC)
    assert registry.champion() == ("2", "2026-01-06")


def test_each_rollback_goes_one_step_back(registry):
    first, second, third = "1", "2", "3"
    for version in (first, second, second, third):
        registry.promote(version)

    assert registry.rollback() == second
    assert registry.rollback() == first
    with pytest.raises(ModelError, match=r"version 1 has no previous champion to roll back to"):
        registry.rollback()
    registry.promote(third)
    assert registry.rollback() == first

    assert [action for _, action, _ in recorded(registry)].count("rolled back") == 3


def test_rollback_ends_although_a_version_was_promoted_twice(registry):
    first, second = "1", "2"
    for version in (first, second, first):
        registry.promote(version)

    assert [registry.rollback(), registry.rollback()] == [second, first]
    with pytest.raises(ModelError, match="no previous champion to roll back to"):
        registry.rollback()


def test_a_challenger_evaluated_against_another_champion_is_not_promoted(registry):
    first, second, third = "1", "2", "3"
    registry.set_champion(first, None, "")

    assert registry.set_champion(third, first, "newer")
    assert not registry.set_champion(second, first, "evaluated against the first, and late")
    assert not registry.set_champion(second, None, "evaluated before there was any")
    assert registry.set_champion(third, first, "a retry")

    assert recorded(registry) == [(first, "promoted by rule", None), (third, "promoted by rule", first)]


def test_a_version_rolled_back_by_hand_is_promoted_only_by_hand(registry):
    registry.set_champion("1", None, "")
    registry.set_champion("2", "1", "")
    registry.rollback("its lists look odd")

    assert not registry.set_champion("2", "1", "The rule still says so.")
    assert registry.set_champion("3", "1", "A newer one may.")
    registry.rollback()
    registry.promote("2", "it was the phone, not the lists")

    assert registry.champion() == ("2", "2026-01-06")
    assert withdrawn(registry.history()) == {"3"}


def test_a_move_that_fails_half_way_changes_nothing(registry, monkeypatch):
    registry.promote("1")
    registry.promote("2")

    def broken(*_, **__):
        raise OSError("connection reset")

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", broken)
    with pytest.raises(TrackingError, match="connection reset"):
        registry.promote("3")
    monkeypatch.undo()

    assert registry.champion() == ("2", "2026-01-06")
    assert registry.rollback() == "1"


def test_a_champion_set_in_the_mlflow_ui_can_be_rolled_back(registry):
    first, second = "1", "2"
    registry.promote(first)
    mlflow.MlflowClient(registry.tracking_uri).set_registered_model_alias(
        "newsroom-ranker", "champion", second
    )

    assert registry.champion() == (second, "2026-01-06")
    assert registry.rollback() == first


@pytest.mark.parametrize(
    ("steps", "champion", "expected"),
    [
        ([], None, []),
        ([], "4", ["4"]),
        ([("1", "promoted by rule", None), ("2", "promoted by rule", "1")], "2", ["1", "2"]),
        # Two simultaneous moves replaced 1; the alias of the later one wins.
        ([("1", "", None), ("2", "", "1"), ("3", "", "1")], "3", ["1", "3"]),
        ([("1", "", None), ("2", "", "1"), ("1", "rolled back", "2"), ("3", "", "1")], "3", ["1", "3"]),
        # Two simultaneous rollbacks from 3 to 2: one step back, not two.
        (
            [("1", "", None), ("2", "", "1"), ("3", "", "2"), *[("2", "rolled back", "3")] * 2],
            "2",
            ["1", "2"],
        ),
    ],
)
def test_the_succession_is_read_from_the_moves_and_the_alias(steps, champion, expected):
    assert succession(history(*steps), champion) == expected


@given(st.lists(st.sampled_from(["promote 1", "promote 2", "promote 3", "back"]), max_size=12))
def test_rollback_undoes_the_last_promotion_still_in_force(commands):
    moved, champions = [], []
    for command in commands:
        champion = champions[-1] if champions else None
        assert succession(history(*moved), champion) == champions
        if command == "back" and len(champions) > 1:
            champions = champions[:-1]
            moved.append((champions[-1], "rolled back", champion))
        elif command != "back" and command[-1] != champion:
            champions = [*champions, command[-1]]
            moved.append((command[-1], "promoted by hand", champion))
    assert succession(history(*moved), champions[-1] if champions else None) == champions


def test_a_move_is_read_from_its_tag_among_others():
    move = Move(
        START.replace(microsecond=7), "12", "2026-01-05", "rolled back", None, "“Ünïcode” [red]\n" * 400
    )
    name, text = move.as_tag()

    (read,) = moves({"owner": "search", name: text})

    assert (read.at, read.version, read.action, read.replaced) == (move.at, "12", "rolled back", None)
    assert move.reason.startswith(read.reason)
    assert len(text) < 5000
    assert json.loads(text)["slice"] == "2026-01-05"
