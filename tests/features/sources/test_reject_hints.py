"""Hints on reject reasons name settings of the log's format."""

import pytest

from features.sources.reject_hints import hint


@pytest.mark.parametrize(("tables", "expected"), [(True, "source.tables.time_format"), (False, "ISO 8601")])
def test_a_hint_names_a_setting_that_the_format_has(tables: bool, expected: str) -> None:
    text = hint("bad_timestamp:known_at", tables=tables)

    assert expected in text
    assert ("source.tables" in text) == tables


def test_a_longer_reason_has_a_more_specific_hint() -> None:
    assert "items.title" in hint("missing_field:title", tables=True)
    assert "items.title" not in hint("missing_field:user", tables=True)


def test_a_reason_without_a_fix_has_no_hint() -> None:
    assert hint("forgotten_person", tables=True) == ""
