"""The report page shows its tables, escapes their texts and is self-contained."""

import re
from dataclasses import fields, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from models.report import plots as figures
from models.report.page import page, write
from models.report.report_data import RankedList, ReportData

SCORERS = ("full", "behaviour_only", "text_only", "popularity", "recency", "as_shown", "random")
VOID = {"meta", "img", "source", "br", "link"}
EMPTY = ReportData("newsroom", datetime(2026, 1, 15, 6, tzinfo=UTC), ("2026-01-05", "2026-01-14"))


def _measures(key: str, values: tuple[str, ...], start: float) -> pl.DataFrame:
    """A different figure in every row, so that the page can be searched for each."""
    rows = [(value, name, metric) for value in values for name in SCORERS for metric in ("ndcg@10", "auc")]
    means = [start + 0.0031 * row for row in range(len(rows))]
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
            "click_probability": [0.314, None],
            "reasons": ["First because it is near.", None],
        }
    )
    interval = {"mean": [0.0123, -0.0456], "low": [0.0101, -0.0567], "high": [0.0145, -0.0345]}
    return replace(
        EMPTY,
        evaluated=7512,
        overall=_measures("unused", ("",), 0.4).drop("unused"),
        gain=pl.DataFrame({"metric": ["ndcg@10", "auc"], **interval}),
        quality=_measures("slice", ("2026-01-13", "2026-01-14"), 0.3),
        segments=_measures("segment", ("cold_user", "cold_item"), 0.6).with_columns(impressions=pl.lit(1234)),
        segment_gain=pl.DataFrame({"segment": ["cold_user", "cold_item"], **interval}),
        importance=pl.DataFrame(
            {"feature": ["item_ctr_1d", "interest_score"], "gain": [30.0, 10.0], "family": ["item", "text"]}
        ),
        calibration=pl.DataFrame(
            {
                "predictor": ["Before", "After"],
                "predicted": [0.1, 0.3],
                "observed": [0.12, 0.28],
                "count": [90, 80],
            }
        ),
        calibration_errors=pl.DataFrame(
            {
                "predictor": ["Before", "After"],
                "error": [0.4321, 0.0123],
                "predicted": [0.5, 0.1],
                "observed": 0.1,
            }
        ),
        attributes=("category", "tags"),
        exposure=pl.DataFrame(
            {
                "attribute": ["category"] * 2,
                "value": ["sport", None],
                "share_of_candidates": [0.7, 0.3],
                "share_of_positions": [0.816, 0.184],
                "share_of_clicks": [0.5, 0.5],
            }
        ),
        beyond=pl.DataFrame({"scorer": ["random", "full"], "coverage": [0.987, 0.654], "gini": [0.1, None]}),
        topics=pl.DataFrame(
            {
                "slice": ["2026-01-13", "2026-01-14"],
                "attribute": "category",
                "value": "sport",
                "figure": "predicted_rate",
                "shown": [100, 120],
                "trials": [100, 120],
                "mean": [0.2, 0.4567],
                "expected": [None, 0.2013],
                "shifted": [False, True],
                "since": [None, "2026-01-14"],
                "typical": [[], ["Goal <b>denied</b>"]],
            }
        ),
        drift=pl.DataFrame(
            {
                "column": [f"column_{n}" for n in range(12)],
                "meaning": [f"meaning {n}" for n in range(12)],
                "psi": [0.01 * n for n in range(10)] + [0.2, 7.125],
            }
        ),
        volume=pl.DataFrame(
            {
                "slice": ["2026-01-13", "2026-01-14"],
                "impressions": [1100, 15230],
                "rejects": [0, 31],
                "click_rate": [0.1, None],
            }
        ),
        rejects=pl.DataFrame({"reason": ["broken_json"], "rows": [31], "first": ["events line 7"]}),
        lists=[RankedList('u"1', ["Old <i>news</i>"], rows), RankedList("u2", [], rows)],
        versions=pl.DataFrame({"slice": ["2026-01-14"], "ranker": ["17"], "decision": ["promoted: +0.0123"]}),
    )


@pytest.fixture(scope="module")
def text(report: ReportData) -> str:
    return page(report)


def test_a_shift_is_listed_with_its_size_and_typical_texts(text):
    row = text[text.index("category: sport") :]
    assert row.index("predicted rate") < row.index("0.457") < row.index("0.201")
    assert "Goal &lt;b&gt;denied&lt;/b&gt;" in row


def test_every_figure_of_the_tables_is_on_the_page(report, text):
    for row in report.overall.iter_rows(named=True):
        assert f"{row['mean']:.3f}<small>{row['low']:.3f} to {row['high']:.3f}</small>" in text
    shown = ("full", "behaviour_only", "text_only", "popularity")
    for row in report.segments.filter(pl.col("metric") == "ndcg@10", pl.col("scorer").is_in(shown)).rows(
        named=True
    ):
        assert f"{row['mean']:.3f}<small>" in text
    for shown in (
        "Cold user", "1,234", "+0.012<small>+0.010 to +0.015</small>", "31%", "-0.500", "First because it is near.",
        "promoted: +0.0123", "15,230", "43.21%", "1.23%", "81.6%", "0.987", "7.125", "broken_json",
        "events line 7",
    ):  # fmt: skip
        assert shown in text, shown


def test_the_summary_gives_the_quality_and_the_gain_from_text(report, text):
    means = dict(report.overall.filter(pl.col("metric") == "ndcg@10").select("scorer", "mean").iter_rows())
    sentence = re.search(r'class="lead">(.*?)</p>', text).group(1)

    for name in ("full", "popularity", "behaviour_only"):
        assert f"{means[name]:.3f}" in sentence
    assert "7,512 unseen impressions" in sentence
    assert "95% interval" in sentence
    assert "Reading the texts adds +0.012 (+0.010 to +0.015)." in sentence
    gain = means["full"] / means["popularity"] - 1
    assert f"the full ranker is {abs(gain):.1%} {'better' if gain >= 0 else 'worse'}" in text


def test_the_summary_and_the_first_card_compare_the_ranker_with_random_and_perfect_order():
    overall = pl.DataFrame(
        {
            "scorer": ["full", "random"],
            "metric": "ndcg@10",
            "mean": [0.62, 0.24],
            "low": [0.6, 0.23],
            "high": [0.64, 0.25],
        }
    )
    comparison = "random order 0.240, perfect order 1: 50.0% of the attainable gain"

    shown = page(replace(EMPTY, overall=overall))

    assert comparison in re.search(r'class="lead">(.*?)</p>', shown).group(1)
    assert comparison in re.search(r'class="note">(.*?)</p>', shown).group(1)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(-0.01, 0.02, "do not show whether"), (-0.03, -0.01, "costs"), (0.01, 0.02, "adds")],
)
def test_a_gain_from_text_is_claimed_only_if_its_interval_excludes_zero(report, low, high, words):
    gain = pl.DataFrame({"metric": ["ndcg@10"], "mean": [(low + high) / 2], "low": [low], "high": [high]})

    sentence = re.search(r"<strong>(.*?)</strong>", page(replace(report, gain=gain))).group(1)

    assert words in sentence


def test_the_summary_leaves_out_scorers_that_were_not_evaluated(report):
    alone = replace(EMPTY, overall=report.overall.filter(pl.col("scorer") == "full"))

    assert re.search(r"reaches nDCG@10 0\.\d{3} \(95% interval 0\.\d{3} to 0\.\d{3}\)", page(alone))


def test_segments_are_ordered_by_gain_and_only_significant_ones_are_named(report, text):
    rows = re.findall(r'<th scope="row" class="">(Cold \w+)</th>', text)

    assert rows == ["Cold item", "Cold user"]
    assert (
        "Text helps with Cold user (+0.012). Text costs with Cold item (-0.046). By chance alone, about 0.1 of 2 "
        in text
    )
    insignificant = report.segment_gain.with_columns(low=-1.0, high=1.0)
    assert "In none of the 2 segments" in page(replace(report, segment_gain=insignificant))


def test_the_ten_inputs_that_drifted_most_are_listed_by_meaning(text):
    rows = re.findall(r'<th scope="row" class="">(meaning \d+)</th>', text)

    assert rows == [f"meaning {n}" for n in range(11, 1, -1)]
    assert "Of 12 inputs, 1 drifted much and 1 somewhat." in text


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


def test_no_text_of_any_table_can_become_html(report):
    keys = ("scorer", "metric", "slice", "attribute")
    hostile = {
        field.name: table.with_columns(pl.col(pl.String).exclude(keys) + "<b onclick=x>'\"")
        for field in fields(report)
        if isinstance(table := getattr(report, field.name), pl.DataFrame) and table.height
    }

    shown = page(replace(report, **hostile))

    assert "<b onclick" not in shown
    assert shown.count("&lt;b onclick") > 20
    assert not re.search(r"=\"[^\"]*<b", shown)


def test_every_section_of_an_empty_report_says_why():
    text = page(EMPTY)
    sections = re.findall(r"<section .*?</section>", text)

    assert len(sections) == 12
    for section in sections:
        assert re.search(r'class="empty">[A-Z].{15,}\.</p>', section), section
    assert "<img" not in text


def test_every_section_is_linked_from_the_top(text):
    assert re.findall(r'<a href="#(\w+)">', text) == re.findall(r'<section id="(\w+)">', text)


def test_pictures_have_alternative_texts_and_tables_have_headers(text):
    pictures = re.findall(r'<img [^>]*alt="([^"]*)"', text)
    tables = re.findall(r"<table>.*?</table>", text)

    assert len(pictures) == 8
    assert all(len(words) > 30 for words in pictures)
    for table in tables:
        assert table.startswith("<table><caption>")
        heads, rows = table.split("</thead>")
        assert heads.count("<th ") == heads.count('<th scope="col"') > 1
        assert rows.count('<th scope="row"') == rows.count("<tr")
    assert '<html lang="en">' in text


def _contrast(one: str, other: str) -> float:
    """WCAG 2: from 1 to 21; text needs 4.5."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_all_text_has_enough_contrast(text):
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", text))
    text_colours = [colours["ink"], colours["soft"], colours["accent"], figures.INK, figures.SOFT]
    text_colours += [scorer.colour for scorer in figures.SCORERS.values()]

    for colour in text_colours:
        assert _contrast(colour, "#ffffff") >= 4.5, colour
        assert _contrast(colour, colours["wash"]) >= 4.2, colour


def test_missing_means_are_dashes(report):
    not_evaluated = report.overall.with_columns(mean=pl.lit(None, pl.Float64), low=None, high=None)

    text = page(replace(EMPTY, overall=not_evaluated))

    assert "No slice has been evaluated" in text
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
                embedded = value is None or value.startswith(("data:image/png;base64,", "#"))
                assert name not in ("src", "srcset", "href") or embedded

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    nesting = Nesting()
    nesting.feed(text)

    assert nesting.open == []
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_writing_creates_folders_replaces_the_page_and_is_deterministic(report, text, tmp_path: Path):
    path = tmp_path / "reports" / "newsroom.html"
    write(path, EMPTY)

    write(path, report)

    assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]
