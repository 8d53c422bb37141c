from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from features import similarity
from features.schemas import Moments
from features.similarity import COLUMNS, text_similarity
from features.state import SliceEvents
from features.state.histories import PASSED
from features.versions import see

EAST, NORTH, BETWEEN, WEST = 0, 1, 2, 4
"""Texts by the direction of their vector; 5 has none."""


@pytest.fixture
def versions(toy: SimpleNamespace) -> pl.DataFrame:
    texts = {"east": EAST, "north": NORTH, "between": BETWEEN, "west": WEST, "mute": 5}
    return toy.items(*(toy.item(name, toy.START, f"text {n}") for name, n in sorted(texts.items())))


def likeness(
    toy: SimpleNamespace,
    versions: pl.DataFrame,
    past: list[tuple[str, str, float]],
    shown: tuple[str, ...] = ("east",),
    recent: int = 20,
    forget: timedelta = timedelta(days=90),
) -> list[dict[str, float | None]]:
    """Of each item shown to `u` at minute 60; the past is (item, action, minute)."""
    moments = pl.DataFrame(
        [("u", item, action, toy.at(minute)) for item, action, minute in past],
        schema=Moments.create_empty().schema,
        orient="row",
    )
    queries = pl.DataFrame(
        [("r", "u", item, toy.at(60)) for item in shown],
        schema={
            "impression_id": pl.String,
            "user_id": pl.String,
            "item_id": pl.String,
            "as_of": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )
    found = text_similarity(
        see(queries, versions, "as_of"), moments, versions, toy.vectors(versions), recent, forget
    )
    assert found.columns == list(COLUMNS)
    assert set(found.dtypes) == {pl.Float32}
    return found.to_dicts()


def test_mean_greatest_and_last_likeness_to_what_was_taken(
    toy: SimpleNamespace, versions: pl.DataFrame
) -> None:
    past = [("east", "click", 1), ("west", "click", 2), ("between", "comment", 3)]

    (found,) = likeness(toy, versions, past)

    assert found["text_clicked_mean"] == pytest.approx((1 - 1 + 0.5) / 3)
    assert found["text_clicked_max"] == pytest.approx(1.0)
    assert found["text_clicked_last"] == pytest.approx(0.5)
    assert found["text_passed_mean"] is None


def test_what_was_passed_over_is_kept_apart(toy: SimpleNamespace, versions: pl.DataFrame) -> None:
    (found,) = likeness(toy, versions, [("east", PASSED, 1), ("north", PASSED, 2), ("between", "click", 3)])

    assert found["text_passed_mean"] == pytest.approx(0.5)
    assert found["text_passed_max"] == pytest.approx(1.0)
    assert found["text_clicked_max"] == pytest.approx(0.5)


def test_only_the_newest_are_read(toy: SimpleNamespace, versions: pl.DataFrame) -> None:
    past = [("east", "click", 1), ("north", "click", 2), ("west", "click", 3)]

    (found,) = likeness(toy, versions, past, recent=2)

    assert found["text_clicked_max"] == pytest.approx(0.0)
    assert found["text_clicked_mean"] == pytest.approx(-0.5)


def test_what_is_long_ago_is_not_read(toy: SimpleNamespace, versions: pl.DataFrame) -> None:
    past = [("east", "click", 29), ("north", "click", 30), ("north", PASSED, 10)]

    (found,) = likeness(toy, versions, past, forget=timedelta(minutes=30))

    assert found["text_clicked_max"] == pytest.approx(0.0)
    assert found["text_passed_last"] is None


def test_what_becomes_known_at_the_instant_is_not_read(toy: SimpleNamespace, versions: pl.DataFrame) -> None:
    (found,) = likeness(toy, versions, [("north", "click", 1), ("east", "click", 60), ("east", "click", 61)])

    assert found["text_clicked_last"] == pytest.approx(0.0)


def test_no_past_no_text_or_an_unknown_item_is_missing(toy: SimpleNamespace, versions: pl.DataFrame) -> None:
    assert set(likeness(toy, versions, [])[0].values()) == {None}
    found = likeness(toy, versions, [("east", "click", 1)], shown=("mute", "unknown", "east"))
    assert [row["text_clicked_mean"] for row in found] == [None, None, pytest.approx(1.0)]


def test_a_past_item_without_text_counts_as_last_only(toy: SimpleNamespace, versions: pl.DataFrame) -> None:
    (found,) = likeness(toy, versions, [("east", "click", 1), ("mute", "click", 2)])

    assert found["text_clicked_mean"] == pytest.approx(1.0)
    assert found["text_clicked_last"] is None


def test_a_past_item_is_read_as_it_reads_at_the_moment(toy: SimpleNamespace) -> None:
    rewritten = toy.items(
        toy.item("a", toy.START, f"text {EAST}"),
        toy.item("a", toy.at(30), f"text {NORTH}"),
        toy.item("b", toy.START, "text 0"),
    )

    (found,) = likeness(toy, rewritten, [("a", "click", 10)], shown=("b",))

    assert found["text_clicked_mean"] == pytest.approx(0.0)


def test_batches_do_not_show(toy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    project = toy.project()
    shown = [(f"r{n}", f"u{n % 2}", toy.at(10 * n), ["a", "b", "c"][: 1 + n % 3]) for n in range(1, 8)]
    told = SliceEvents(
        toy.items(*(toy.item(name, toy.START, f"text {n}") for n, name in enumerate("abc"))),
        toy.impressions(*shown),
        toy.interactions(("u0", "a", "click", toy.at(5)), ("u1", "c", "click", toy.at(25))),
    )
    whole, _ = toy.walk(told, project)

    monkeypatch.setattr(similarity, "_BATCH", 2)
    batched, _ = toy.walk(told, project)

    for name in COLUMNS:
        np.testing.assert_allclose(batched[name].to_numpy(), whole[name].to_numpy(), atol=1e-6)
    assert whole["text_clicked_mean"].null_count() < whole.height
