"""Cells of lists, clicks and ids in every supported form, and invalid ones."""

import polars as pl
import pytest

from features.errors import SourceError
from features.sources.cells import SPACES, find_separator, read_grades, read_id_lists, read_ids, read_texts


@pytest.mark.parametrize(
    ("cell", "ids"),
    [
        ("a b  c", ["a", "b", "c"]),
        ('["a", "b"]', ["a", "b"]),
        ("[1, 2]", ["1", "2"]),
        ("['a', 'b']", ["a", "b"]),
        ("""["it's", 'b']""", ["it's", "b"]),
        ("['a' 'b']", ["a", "b"]),
        ("[1 2\n 3]", ["1", "2", "3"]),
        ("[a, b]", ["a", "b"]),
        ("[None, 'a']", [None, "a"]),
        ("{a,b}", ["a", "b"]),
        ('{"a, b",0042}', ["a, b", "0042"]),
        ("{a,NULL}", ["a", None]),
        ("{}", []),
        ("[]", []),
        ("[1 2 ... 9]", None),
        ('["a", "b"', None),
        ('["a",, "b"]', None),
        ('{"a": 1}', None),
    ],
)
def test_a_cell_of_ids_is_read_in_every_form(cell: str, ids: list[str | None] | None) -> None:
    assert read_id_lists(pl.Series([cell, "['z']", None]), SPACES).to_list() == [ids, ["z"], None]


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["a b", "c"], SPACES),
        (["a,b", "c"], ","),
        (["a, b", "c "], ","),
        (["a|b", "c | d"], "|"),
        (["a;b"], ";"),
        (['["a,b"]', "{a,b}", "c d"], SPACES),
    ],
)
def test_the_separator_of_lists_is_found(cells: list[str], separator: str) -> None:
    assert find_separator("log.csv", [pl.Series(["x"]), pl.Series(cells)]) == separator


@pytest.mark.parametrize("cells", [["a,b c"], ["a,b", "c d"], ["a,b|c"], ["a|1 b|2"]])
def test_mixed_separators_must_be_declared(cells: list[str]) -> None:
    with pytest.raises(SourceError, match=r"source\.tables\.separator"):
        find_separator("log.csv", [pl.Series(cells)])


def test_separators_of_all_columns_count() -> None:
    with pytest.raises(SourceError, match="blanks"):
        find_separator("log.csv", [pl.Series(["a b"]), pl.Series(["c,d"])])


def test_a_separator_may_be_several_signs_and_ids_are_stripped() -> None:
    assert read_id_lists(pl.Series([" a b :: c::"]), "::").to_list() == [["a b", "c"]]
    assert read_id_lists(pl.Series([[" a", "b "]]), SPACES).to_list() == [["a", "b"]]


def test_clicks_are_numbers_or_booleans() -> None:
    written = pl.Series(["1", "0.5", "True", "yes", "T", "y", " FALSE", "no", "f", "N", None])
    assert read_grades(written).to_list() == [1, 0.5, 1, 1, 1, 1, 0, 0, 0, 0, None]
    assert read_grades(pl.Series([True, False])).to_list() == [1, 0]
    assert read_grades(pl.Series(["yes", "no"]).cast(pl.Categorical)).to_list() == [1, 0]


@pytest.mark.parametrize("word", ["nan", "NaN", "inf", "-Infinity", "1e400", "maybe", ""])
def test_a_value_that_is_not_finite_is_no_click(word: str) -> None:
    assert read_grades(pl.Series([word, "1"])).to_list() == [None, 1]


def test_nan_and_infinity_are_no_clicks_and_no_ids() -> None:
    cells = pl.Series([1.0, float("nan"), float("inf")])
    assert read_grades(cells).to_list() == [1, None, None]
    assert read_ids(cells).to_list() == ["1", None, None]


def test_bytes_are_text_if_they_are_utf_8() -> None:
    assert read_texts(pl.Series([b"a", b"\xff", None])).to_list() == ["a", None, None]


def test_ids_are_stripped() -> None:
    assert read_ids(pl.Series([" a ", "b"])).to_list() == ["a", "b"]
