from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import schemas
from features.config.sections import Labels, Source
from features.config.slices import Slices
from features.events import labels

AT = datetime(2026, 1, 6, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LABELS = Labels.model_validate({"gains": {"click": 1.0, "share": 3.0}, "attribution": "30m"})


def impressions(*shown: tuple[str, datetime]) -> pl.DataFrame:
    candidates = [{"item_id": "b", "position": 1}, {"item_id": "a", "position": 2}]
    rows: list[tuple[object, ...]] = [(name, "u", at, None, [], candidates) for name, at in shown]
    return pl.DataFrame(rows, schema=schemas.Impressions.create_empty().schema, orient="row")


def interactions(*done: tuple[str | None, str, str, datetime]) -> pl.DataFrame:
    rows = [
        (str(number), impression, "u", item, kind, None, at, at)
        for number, (impression, item, kind, at) in enumerate(done)
    ]
    return pl.DataFrame(rows, schema=schemas.Interactions.create_empty().schema, orient="row")


def label_of(frame: pl.DataFrame, impression: str, item: str) -> float:
    found = frame.filter((pl.col("impression_id") == impression) & (pl.col("item_id") == item))
    return float(found["label"].item())


def test_candidates_follow_their_schema_and_the_order_shown() -> None:
    frame = labels.attribute(impressions(("r", AT)), interactions(("r", "a", "click", AT)), LABELS)

    schemas.Candidates.validate(frame)
    assert frame.select("item_id", "position", "as_of", "label", "clicked").rows() == [
        ("b", 1, AT, 0.0, False),
        ("a", 2, AT, 1.0, True),
    ]


def test_the_greatest_gain_is_the_label() -> None:
    done = interactions(
        ("r", "a", "click", AT), ("r", "a", "share", AT + MINUTE), ("r", "a", "click", AT + MINUTE)
    )

    assert label_of(labels.attribute(impressions(("r", AT)), done, LABELS), "r", "a") == 3.0


@pytest.mark.parametrize(
    ("after", "label"),
    [
        (-timedelta(microseconds=1), 0.0),
        (timedelta(0), 1.0),
        (30 * MINUTE - timedelta(microseconds=1), 1.0),
        (30 * MINUTE, 0.0),
    ],
)
def test_the_window_is_half_open(after: timedelta, label: float) -> None:
    done = interactions(("r", "a", "click", AT + after))

    assert label_of(labels.attribute(impressions(("r", AT)), done, LABELS), "r", "a") == label


def test_kinds_without_a_gain_do_not_count() -> None:
    frame = labels.attribute(impressions(("r", AT)), interactions(("r", "a", "view", AT)), LABELS)

    assert not frame["clicked"].any()


def test_an_interaction_that_names_its_impression_counts_there_alone() -> None:
    shown = impressions(("r", AT), ("q", AT + MINUTE))

    frame = labels.attribute(shown, interactions(("r", "a", "click", AT + 2 * MINUTE)), LABELS)

    assert (label_of(frame, "r", "a"), label_of(frame, "q", "a")) == (1.0, 0.0)


def test_an_interaction_without_impression_counts_for_the_lists_that_showed_the_item() -> None:
    shown = impressions(("r", AT), ("q", AT + MINUTE), ("late", AT + 5 * MINUTE))

    frame = labels.attribute(shown, interactions((None, "a", "click", AT + 2 * MINUTE)), LABELS)

    assert [label_of(frame, name, "a") for name in ("r", "q", "late")] == [1.0, 1.0, 0.0]
    assert label_of(frame, "r", "b") == 0.0


def test_no_interactions_at_all_give_zeros() -> None:
    frame = labels.attribute(impressions(("r", AT)), interactions(), LABELS)

    assert frame["label"].to_list() == [0.0, 0.0]


SLICES = Slices.model_validate({"start": AT - timedelta(hours=12), "every": "1h"})
SINCE = AT + timedelta(hours=2)


def sliced(*shown: tuple[str, datetime]) -> pl.DataFrame:
    frame = impressions(*shown)
    return frame.with_columns(slice=pl.Series([SLICES.key(at) for at in frame["shown_at"]], dtype=pl.String))


def arriving(frame: pl.DataFrame, *known_at: datetime) -> pl.DataFrame:
    return frame.with_columns(pl.Series("known_at", known_at, frame.schema["known_at"]))


@pytest.mark.parametrize(
    ("late", "keys"),
    [
        (("r", "a", "share", AT + MINUTE), ["2026-01-06-12:00"]),
        ((None, "a", "share", AT + MINUTE), ["2026-01-06-12:00"]),
        (("r", "a", "click", AT + MINUTE), []),
        (("r", "b", "click", AT + MINUTE), ["2026-01-06-12:00"]),
        (("r", "a", "share", AT + timedelta(hours=1)), []),
        (("r", "a", "view", AT + MINUTE), []),
        (("later", "a", "click", SINCE + MINUTE), []),
    ],
)
def test_a_slice_is_restated_where_something_late_is_worth_more(
    late: tuple[str | None, str, str, datetime], keys: list[str]
) -> None:
    known = interactions(("r", "a", "click", AT), late)

    found = labels.reprocessed(
        sliced(("r", AT), ("later", SINCE)), arriving(known, AT, SINCE + 2 * MINUTE), SINCE, LABELS
    )

    assert found == keys


_FACTS = st.tuples(
    st.sampled_from([None, "r0", "r1", "r2", "r3"]),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["click", "share", "view"]),
    st.integers(0, 150),
    st.integers(0, 150),
)


@settings(deadline=None, max_examples=60)
@given(
    shown=st.lists(st.integers(0, 150), min_size=1, max_size=4),
    facts=st.lists(_FACTS, min_size=1, max_size=8),
)
def test_late_interactions_change_the_labels_of_the_restated_slices_and_of_no_others(
    shown: list[int], facts: list[tuple[str | None, str, str, int, int]]
) -> None:
    lists = sliced(*((f"r{number}", AT + minutes * MINUTE) for number, minutes in enumerate(shown)))
    happened = [(name, item, kind, AT + minutes * MINUTE) for name, item, kind, minutes, _ in facts]
    known_at = [at + facts[number][-1] * MINUTE for number, (*_, at) in enumerate(happened)]
    done = arriving(interactions(*happened), *known_at)

    found = labels.reprocessed(lists, done, SINCE, LABELS)

    in_time = done.filter(pl.col("known_at") < SINCE)
    for (key,), there in lists.filter(pl.col("shown_at") < SINCE).group_by("slice"):
        before, after = (labels.attribute(there, known, LABELS) for known in (in_time, done))
        assert after.equals(before) == (key not in found)
    assert all(key < SLICES.key(SINCE) for key in found)


def test_what_becomes_known_later_than_declared_counts_for_no_label() -> None:
    source = Source.model_validate({"format": "newsroom", "known_after": "1h", "late": "2h"})
    done = interactions(("i", "a", "click", AT), ("i", "b", "click", AT), ("i", "a", "share", AT))
    known = pl.Series("known_at", [AT, AT + 180 * MINUTE, AT + 181 * MINUTE])
    counted = labels.timely(done.with_columns(known.cast(pl.Datetime("us", "UTC"))), source)
    assert counted["interaction_id"].to_list() == ["0", "1"]
