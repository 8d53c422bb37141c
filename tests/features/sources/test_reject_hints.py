"""A reason of a reject says what mends it, in the words of the log's own format."""

import pytest

from features.sources.reject_hints import hint


@pytest.mark.parametrize(("tables", "said"), [(True, "source.tables.time_format"), (False, "ISO 8601")])
def test_a_hint_names_a_setting_that_the_format_has(tables: bool, said: str) -> None:
    text = hint("bad_timestamp:known_at", tables=tables)

    assert said in text
    assert ("source.tables" in text) == tables


def test_the_longer_reason_has_the_better_hint() -> None:
    assert "items.title" in hint("missing_field:title", tables=True)
    assert "items.title" not in hint("missing_field:user", tables=True)


def test_a_reason_that_nothing_mends_has_no_hint() -> None:
    assert hint("forgotten_person", tables=True) == ""
