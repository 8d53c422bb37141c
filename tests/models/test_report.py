"""The report page: it says what the tables say, takes no orders from titles, and stands on its own."""

import re
import struct
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from models import figures
from models.report import RankedList, ReportData, page, write

SCORERS = ("full", "behaviour_only", "text_only", "popularity", "recency", "as_shown", "random")
VOID = {"meta", "img", "source", "br", "link"}
EMPTY = ReportData("newsroom", datetime(2026, 1, 15, 6, tzinfo=UTC), ("2026-01-05", "2026-01-14"))


def _measures(key: str, values: tuple[str, ...], start: float) -> pl.DataFrame:
    """Different figures for every row, so that each can be looked for."""
    rows = [(value, name, metric) for value in values for name in SCORERS for metric in ("ndcg@10", "auc")]
    means = [start + 0.0031 * place for place in range(len(rows))]
    return pl.DataFrame(rows, schema=[key, "scorer", "metric"], orient="row").with_columns(
        mean=pl.Series(means), low=pl.Series(means) - 0.0107, high=pl.Series(means) + 0.0113
    )


@pytest.fixture(scope="module")
def report() -> ReportData:
    rows = pl.DataFrame(
        {
            "rank": [1, 2],
            "title": ["Soup & bread", "<script>alert('gone')</script>"],
            "rank_score": [1.2345, -0.5],
            "interest_score": [0.3217, None],
            "reasons": ["near to what you read", None],
        }
    )
    return replace(
        EMPTY,
        overall=_measures("unused", ("",), 0.4).drop("unused"),
        quality=_measures("slice", ("2026-01-13", "2026-01-14"), 0.3),
        segments=_measures("segment", ("cold_user", "cold_item"), 0.6).with_columns(impressions=pl.lit(1234)),
        importance=pl.DataFrame(
            {"feature": ["item_ctr_1d", "interest_score"], "gain": [30.0, 10.0], "family": ["item", "text"]}
        ),
        calibration=pl.DataFrame(
            {"bin": [1, 2], "predicted": [0.1, 0.3], "observed": [0.12, 0.28], "count": [90, 80]}
        ),
        lists=[RankedList('u"1', ["Old <i>news</i>"], rows), RankedList("u2", [], rows)],
        versions=pl.DataFrame({"slice": ["2026-01-14"], "ranker": ["17"], "decision": ["promoted: +0.0123"]}),
        inputs=pl.DataFrame({"slice": ["2026-01-14"], "kept": [15230], "rejected": [31]}),
    )


@pytest.fixture(scope="module")
def text(report: ReportData) -> str:
    return page(report)


def test_every_figure_given_is_on_the_page(report, text):
    for row in report.overall.iter_rows(named=True):
        assert f"{row['mean']:.3f}<small>{row['low']:.3f} to {row['high']:.3f}</small>" in text
    for row in report.segments.filter(pl.col("metric") == "ndcg@10").iter_rows(named=True):
        assert f"{row['mean']:.3f}<small>" in text
    for shown in (
        "cold user",
        "1,234",
        "1.234",
        "0.322",
        "near to what you read",
        "promoted: +0.0123",
        "15,230",
    ):
        assert shown in text


def test_the_first_sentence_compares_full_with_popularity_and_without_text(report, text):
    means = dict(report.overall.filter(pl.col("metric") == "ndcg@10").select("scorer", "mean").iter_rows())
    sentence = re.search(r'class="lead">(.*?)</p>', text).group(1)

    for name in ("full", "popularity", "behaviour_only"):
        assert f"{means[name]:.3f}" in sentence
    gain = means["full"] / means["popularity"] - 1
    assert f"the full ranker is {abs(gain):.1%} {'above' if gain >= 0 else 'below'}" in text


def test_the_first_sentence_does_without_scorers_that_were_not_judged(report):
    alone = replace(EMPTY, overall=report.overall.filter(pl.col("scorer") == "full"))

    assert re.search(r"The full ranker reaches nDCG@10 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)\.", page(alone))


def test_text_from_logs_cannot_become_html(report):
    hostile = "<img src=x onerror=alert(1)>"
    text = page(
        replace(EMPTY, project=hostile, lists=report.lists, versions=pl.DataFrame({hostile: [hostile]}))
    )

    assert "<script" not in text
    assert "<img src=x" not in text
    assert "<i>news" not in text
    assert "&lt;script&gt;alert(&#x27;gone&#x27;)&lt;/script&gt;" in text
    assert "u&quot;1" in text


def test_an_empty_report_says_so_in_every_section():
    text = page(EMPTY)

    assert "no slice has been judged" in text
    assert text.count("Nothing yet.") == text.count("<section>")
    assert "<img" not in text


def test_means_that_could_not_be_taken_are_dashes(report):
    unjudged = report.overall.with_columns(mean=pl.lit(None, pl.Float64), low=None, high=None)

    text = page(replace(EMPTY, overall=unjudged))

    assert "no slice has been judged" in text
    assert '<td class="number">–</td>' in text


def test_the_page_fetches_nothing_and_is_well_formed(text):
    class Nesting(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag, attrs):
            if tag not in VOID:
                self.open.append(tag)
            for name, value in attrs:
                assert name not in ("src", "srcset", "href") or value.startswith("data:image/png;base64,")

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    nesting = Nesting()
    nesting.feed(text)

    assert nesting.open == []
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_writing_makes_folders_replaces_the_page_and_repeats_itself(report, text, tmp_path: Path):
    path = tmp_path / "reports" / "newsroom.html"
    write(path, EMPTY)

    write(path, report)

    assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (figures.quality_figure, "quality"),
        (figures.intervals_figure, "overall"),
        (figures.importance_figure, "importance"),
        (figures.calibration_figure, "calibration"),
    ],
)
def test_each_figure_draws_its_table_and_an_empty_one_at_the_width_asked_for(report, draw, table):
    full = getattr(report, table)

    drawn, nothing, schema_only = (
        draw(full, width=5),
        draw(pl.DataFrame(), width=5),
        draw(full.clear(), width=5),
    )

    for png in (drawn, nothing):
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">I", png[16:20])[0] == 5 * 160
    assert drawn != nothing
    assert schema_only == nothing
    assert draw(full.reverse(), width=5) == drawn


def test_an_unknown_scorer_keeps_its_name_and_comes_last():
    assert figures.scorer("my_rule").label == "My rule"
    assert figures.in_order(["my_rule", "random", "full"]) == ["full", "random", "my_rule"]
