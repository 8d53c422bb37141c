from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features import sources
from features.config.project import Project
from features.errors import SourceError
from features.events import labels
from features.events import validation as events

START = datetime(2019, 11, 9, tzinfo=UTC)
PROJECT = Project.model_validate(
    {
        "name": "mind",
        "source": {"format": "mind", "path": "x", "known_after": "1m"},
        "slices": {"start": START, "end": "2019-11-16T00:00:00Z"},
        "items": {"body": "abstract", "categorical": ["category", "subcategory", "entities"]},
    }
)
NEWS = (
    "N1\tsports\tgolf\tA putt\tIt rolled.\thttp://x\t"
    '[{"Label": "Augusta", "Type": "C"}]\t[{"Label": "PGA Tour"}, {"Label": "Augusta"}]\n'
    "N2\tnews\tworld\tA vote\t\thttp://y\t[]\tnot json\n"
)


def write(folder: Path, *rows: str, news: str = NEWS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "behaviors.tsv").write_text("\n".join(rows) + "\n")
    (folder / "news.tsv").write_text(news)
    return folder


def test_news_is_known_before_the_first_slice_with_categories_and_entities(tmp_path: Path) -> None:
    raw = sources.read(PROJECT.reader, [write(tmp_path / "train", "1\tU1\t11/12/2019 2:14:46 PM\t\tN1-0")])

    first, second = raw.items.sort("item_id").iter_rows(named=True)
    assert (first["title"], first["body"], first["known_at"]) == (
        "A putt",
        "It rolled.",
        START - timedelta(microseconds=1),
    )
    assert [(a["name"], a["value"]) for a in first["attributes"]] == [
        ("category", "sports"),
        ("subcategory", "golf"),
        ("entities", "Augusta"),
        ("entities", "PGA Tour"),
    ]
    assert len(second["attributes"]) == 2


def test_an_impression_and_its_clicks(tmp_path: Path) -> None:
    raw = sources.read(
        PROJECT.reader, [write(tmp_path / "train", "1\tU1\t11/12/2019 2:14:46 PM\t\tN1-0 N2-1 N3-1")]
    )

    shown_at = datetime(2019, 11, 12, 14, 14, 46, tzinfo=UTC)
    impression = raw.impressions.row(0, named=True)
    assert (impression["impression_id"], impression["user_id"], impression["shown_at"]) == (
        "1",
        "U1",
        shown_at,
    )
    assert [c["item_id"] for c in impression["candidates"]] == ["N1", "N2", "N3"]
    clicks = raw.interactions.select("interaction_id", "item_id", "happened_at", "known_at").rows()
    happened_at = shown_at + timedelta(seconds=1)
    known_at = happened_at + timedelta(minutes=1)
    assert clicks == [("1/N2", "N2", happened_at, known_at), ("1/N3", "N3", happened_at, known_at)]


def test_the_test_part_has_impressions_without_labels(tmp_path: Path) -> None:
    raw = sources.read(PROJECT.reader, [write(tmp_path / "test", "1\tU1\t11/12/2019 2:14:46 AM\t\tN1 N2")])

    assert [c["item_id"] for c in raw.impressions["candidates"][0]] == ["N1", "N2"]
    assert raw.interactions.is_empty()


def test_history_is_read_once_per_user_just_before_the_first_impression(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "train",
        "2\tU1\t11/12/2019 3:00:00 PM\tN7 N8\tN1-0",
        "1\tU1\t11/12/2019 2:00:00 PM\tN7 N8\tN1-0",
    )

    raw = sources.read(PROJECT.reader, [folder])

    first = datetime(2019, 11, 12, 14, tzinfo=UTC)
    assert raw.interactions.select("item_id", "impression_id", "known_at").rows() == [
        ("N7", None, first - timedelta(seconds=2)),
        ("N8", None, first - timedelta(seconds=1)),
    ]


def test_a_history_longer_than_the_time_before_it_stays_in_the_first_slice(tmp_path: Path) -> None:
    history = " ".join(f"H{number}" for number in range(100))
    raw = sources.read(
        PROJECT.reader, [write(tmp_path / "train", f"1\tU1\t11/9/2019 12:00:05 AM\t{history}\tN1-1")]
    )

    built = events.build(raw, PROJECT.slices, datetime(2020, 1, 1, tzinfo=UTC))

    assert built.rejects.is_empty()
    past = built.interactions.filter(pl.col("impression_id").is_null()).sort("known_at")
    assert past["item_id"].to_list() == history.split()
    assert past["known_at"].is_unique().all()
    assert past["known_at"].max() < built.impressions["shown_at"][0]


def test_history_gets_no_labels(tmp_path: Path) -> None:
    raw = sources.read(
        PROJECT.reader, [write(tmp_path / "train", "1\tU1\t11/12/2019 2:00:00 PM\tN1\tN1-0 N2-1")]
    )
    built = events.build(raw, PROJECT.slices, datetime(2020, 1, 1, tzinfo=UTC))

    frame = labels.attribute(built.impressions, built.interactions, PROJECT.labels)

    assert frame["clicked"].to_list() == [False, True]


def test_impression_ids_of_several_parts_have_the_part_as_prefix(tmp_path: Path) -> None:
    row = "1\tU1\t11/12/2019 2:00:00 PM\t\tN1-1"
    parts = [write(tmp_path / "train", row), write(tmp_path / "dev", row)]

    raw = sources.read(PROJECT.reader, parts)

    assert raw.impressions["impression_id"].to_list() == ["train/1", "dev/1"]
    assert raw.interactions["impression_id"].to_list() == ["train/1", "dev/1"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1\tU1\t11/12/2019 2:00:00 PM\tN1-1", "broken_row:4 columns, not 5"),
        ("1\tU1\t31/12/2019 2:00:00 PM\t\tN1-1", "bad_timestamp"),
        ("1\t\t11/12/2019 2:00:00 PM\t\tN1-1", "missing_field:user"),
        ("\tU1\t11/12/2019 2:00:00 PM\t\tN1-1", "missing_field:id"),
        ("1\tU1\t\t\tN1-1", "missing_field:timestamp"),
        ("1\tU1\t11/12/2019 2:00:00 PM\tN2\t", "empty_list"),
    ],
)
def test_a_bad_row_is_one_reject(tmp_path: Path, row: str, reason: str) -> None:
    raw = sources.read(
        PROJECT.reader, [write(tmp_path / "train", row, "2\tU2\t11/12/2019 2:00:00 PM\t\tN1-1")]
    )

    assert raw.rejects.select("source", "line", "reason").rows() == [("behaviors.tsv", 1, reason)]
    assert (raw.impressions.height, raw.interactions.height) == (1, 1)


def test_a_folder_without_behaviors_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "news.tsv").write_text(NEWS)

    with pytest.raises(SourceError, match=r"no behaviors\.tsv"):
        sources.read(PROJECT.reader, [tmp_path])
