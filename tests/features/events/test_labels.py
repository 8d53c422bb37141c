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


def interactions(*events: tuple[str | None, str, str, datetime]) -> pl.DataFrame:
    rows = [
        (str(number), impression, "u", item, kind, None, at, at)
        for number, (impression, item, kind, at) in enumerate(events)
    ]
    return pl.DataFrame(rows, schema=schemas.Interactions.create_empty().schema, orient="row")


def label_of(frame: pl.DataFrame, impression: str, item: str) -> float:
    row = frame.filter((pl.col("impression_id") == impression) & (pl.col("item_id") == item))
    return float(row["label"].item())


def test_candidates_follow_their_schema_and_the_order_shown() -> None:
    frame = labels.attribute(impressions(("r", AT)), interactions(("r", "a", "click", AT)), LABELS)

    schemas.Candidates.validate(frame)
    assert frame.select("item_id", "position", "as_of", "label", "clicked").rows() == [
        ("b", 1, AT, 0.0, False),
        ("a", 2, AT, 1.0, True),
    ]


def test_the_greatest_gain_is_the_label() -> None:
    logged = interactions(
        ("r", "a", "click", AT), ("r", "a", "share", AT + MINUTE), ("r", "a", "click", AT + MINUTE)
    )

    assert label_of(labels.attribute(impressions(("r", AT)), logged, LABELS), "r", "a") == 3.0


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
    logged = interactions(("r", "a", "click", AT + after))

    assert label_of(labels.attribute(impressions(("r", AT)), logged, LABELS), "r", "a") == label


def test_kinds_without_a_gain_do_not_count() -> None:
    frame = labels.attribute(impressions(("r", AT)), interactions(("r", "a", "view", AT)), LABELS)

    assert not frame["clicked"].any()


def test_an_interaction_with_an_impression_id_counts_only_there() -> None:
    shown = impressions(("r", AT), ("q", AT + MINUTE))

    frame = labels.attribute(shown, interactions(("r", "a", "click", AT + 2 * MINUTE)), LABELS)

    assert (label_of(frame, "r", "a"), label_of(frame, "q", "a")) == (1.0, 0.0)


def test_an_interaction_without_an_impression_id_counts_where_the_item_was_shown() -> None:
    shown = impressions(("r", AT), ("q", AT + MINUTE), ("late", AT + 5 * MINUTE))

    frame = labels.attribute(shown, interactions((None, "a", "click", AT + 2 * MINUTE)), LABELS)

    assert [label_of(frame, name, "a") for name in ("r", "q", "late")] == [1.0, 1.0, 0.0]
    assert label_of(frame, "r", "b") == 0.0


def test_without_interactions_labels_are_zero() -> None:
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
def test_a_late_interaction_reprocesses_the_slice_whose_labels_it_changes(
    late: tuple[str | None, str, str, datetime], keys: list[str]
) -> None:
    known = interactions(("r", "a", "click", AT), late)

    slices = labels.reprocessed(
        sliced(("r", AT), ("later", SINCE)), arriving(known, AT, SINCE + 2 * MINUTE), SINCE, LABELS
    )

    assert slices == keys


_INTERACTIONS = st.tuples(
    st.sampled_from([None, "r0", "r1", "r2", "r3"]),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["click", "share", "view"]),
    st.integers(0, 150),
    st.integers(0, 150),
)


@settings(deadline=None, max_examples=30)
@given(
    shown=st.lists(st.integers(0, 150), min_size=1, max_size=4),
    drawn=st.lists(_INTERACTIONS, min_size=1, max_size=8),
)
def test_exactly_the_slices_whose_labels_change_are_reprocessed(
    shown: list[int], drawn: list[tuple[str | None, str, str, int, int]]
) -> None:
    lists = sliced(*((f"r{number}", AT + minutes * MINUTE) for number, minutes in enumerate(shown)))
    happened = [(name, item, kind, AT + minutes * MINUTE) for name, item, kind, minutes, _ in drawn]
    known_at = [at + drawn[number][-1] * MINUTE for number, (*_, at) in enumerate(happened)]
    logged = arriving(interactions(*happened), *known_at)

    keys = labels.reprocessed(lists, logged, SINCE, LABELS)

    in_time = logged.filter(pl.col("known_at") < SINCE)
    for (key,), group in lists.filter(pl.col("shown_at") < SINCE).group_by("slice"):
        before, after = (labels.attribute(group, known, LABELS) for known in (in_time, logged))
        assert after.equals(before) == (key not in keys)
    assert all(key < SLICES.key(SINCE) for key in keys)


def test_interactions_beyond_the_allowed_lateness_do_not_count() -> None:
    source = Source.model_validate({"format": "newsroom", "known_after": "1h", "allowed_lateness": "2h"})
    logged = interactions(("i", "a", "click", AT), ("i", "b", "click", AT), ("i", "a", "share", AT))
    known = pl.Series("known_at", [AT, AT + 180 * MINUTE, AT + 181 * MINUTE])
    counted = labels.timely(logged.with_columns(known.cast(pl.Datetime("us", "UTC"))), source)
    assert counted["interaction_id"].to_list() == ["0", "1"]
