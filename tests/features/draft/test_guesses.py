import tomllib
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from features.draft.guesses import Guess, literal, write_toml


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_read_back(text: str) -> None:
    assert tomllib.loads(f"value = {literal(text)}") == {"value": text}
    written = write_toml("a", [Guess("source.path", text, text, "low", text)])
    assert tomllib.loads(written) == {"name": "a", "source": {"path": text}}


def test_values_of_other_types() -> None:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    values = {"a": at, "b": {"add to cart": 3.0}, "c": ("x", "y"), "d": 0.5, "e": True}
    text = "\n".join(f"{key} = {literal(value)}" for key, value in values.items())
    assert tomllib.loads(text) == {**values, "c": ["x", "y"]}
