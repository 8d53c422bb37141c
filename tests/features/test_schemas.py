"""Column descriptions come from docstrings."""

import dataframely as dy

from features.schemas import Candidates, Items, TopicShifts, column_descriptions


class Small(dy.Schema):
    """A table's docstring, which belongs to no column."""

    first = dy.String()
    second = dy.Int64()
    """Two
    lines."""


def test_a_docstring_describes_the_column_above_it():
    assert column_descriptions(Small) == {"second": "Two\nlines."}


def test_the_columns_of_a_candidate_are_described():
    descriptions = column_descriptions(Candidates)

    assert set(descriptions) <= set(Candidates.column_names())
    assert descriptions["clicked"] == "Whether `label` is positive."
    assert "known_at" in column_descriptions(Items)


def test_every_figure_of_a_topic_is_described():
    assert {"attribute", "value", "mean", "high", "shifted"} <= set(column_descriptions(TopicShifts))
