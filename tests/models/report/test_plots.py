"""The report's plots draw any table, also an empty one, at the requested width."""

import struct

import polars as pl
import pytest

from models.report import plots as figures
from models.report import report_plots as report_figures

SCORES = pl.DataFrame(
    {
        "slice": ["2026-01-13", "2026-01-14"] * 2,
        "segment": ["new_users", "category: sport"] * 2,
        "scorer": ["full", "full", "behaviour_only", "behaviour_only"],
        "metric": "ndcg@10",
        "mean": [0.5, 0.6, 0.45, 0.62],
        "low": [0.48, 0.58, 0.43, 0.6],
        "high": [0.52, 0.62, 0.47, 0.64],
    }
)
TABLES = {
    figures.quality_figure: SCORES,
    figures.intervals_figure: SCORES.filter(slice="2026-01-13"),
    figures.importance_figure: pl.DataFrame(
        {"feature": ["item_ctr_1d", "interest_score"], "gain": [30.0, 10.0], "family": ["item", "text"]}
    ),
    report_figures.segments_figure: SCORES,
    report_figures.calibration_figure: pl.DataFrame(
        {
            "predictor": ["Before", "After"],
            "predicted": [0.1, 0.3],
            "observed": [0.12, 0.28],
            "count": [90, 80],
        }
    ),
    report_figures.exposure_figure: pl.DataFrame(
        {
            "value": ["sport", None],
            "share_of_candidates": [0.7, 0.3],
            "share_of_positions": [0.8, 0.2],
            "share_of_clicks": [0.5, 0.5],
        }
    ),
    report_figures.topics_figure: pl.DataFrame(
        {
            "slice": ["2026-01-13", "2026-01-14"] * 2,
            "value": "sport",
            "figure": ["predicted_rate"] * 2 + ["share"] * 2,
            "shown": [100, 120] * 2,
            "trials": [100, 120, 400, 410],
            "mean": [0.2, 0.4567, 0.25, 0.3],
            "shifted": [False, True, False, False],
        }
    ),
    report_figures.volume_figure: pl.DataFrame(
        {"slice": ["2026-01-13", "2026-01-14"], "impressions": [1100, 1200], "click_rate": [0.1, None]}
    ),
}
KEEP_ROW_ORDER = (report_figures.segments_figure, report_figures.exposure_figure)


@pytest.mark.parametrize("draw", TABLES, ids=lambda draw: draw.__name__)
def test_each_figure_draws_its_table_and_an_empty_one_at_the_requested_width(draw):
    full = TABLES[draw]

    drawn, placeholder, schema_only = (draw(table, width=5) for table in (full, pl.DataFrame(), full.clear()))

    for png in (drawn, placeholder):
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">I", png[16:20])[0] == 5 * 160
    assert drawn != placeholder
    assert schema_only == placeholder
    assert (draw(full.reverse(), width=5) == drawn) is (draw not in KEEP_ROW_ORDER)


def test_an_unknown_scorer_keeps_its_name_and_comes_last():
    assert figures.scorer("my_rule").label == "My rule"
    assert figures.in_order(["my_rule", "random", "full"]) == ["full", "random", "my_rule"]


def test_segment_labels_are_readable():
    assert report_figures.segment_label("new_users") == "New users"
    assert report_figures.segment_label("category: politics") == "Category: politics"


@pytest.mark.parametrize("name", ["$", "$$", "$$$", "$x^$", "a_{$b$}"])
@pytest.mark.parametrize("draw", TABLES, ids=lambda draw: draw.__name__)
def test_names_in_the_data_are_drawn_literally(draw, name):
    columns = [column for column in ("segment", "feature", "value", "predictor") if column in TABLES[draw]]

    assert draw(TABLES[draw].with_columns(pl.lit(name).alias(column) for column in columns))


def test_a_topic_that_hardly_occurs_is_not_drawn():
    topics = TABLES[report_figures.topics_figure]
    rare = topics.with_columns(value=pl.lit("chess"), shown=pl.lit(1, pl.Int64), trials=pl.lit(1, pl.Int64))

    assert report_figures.topics_figure(pl.concat([topics, rare])) == report_figures.topics_figure(topics)
