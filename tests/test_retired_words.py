"""Retired words are found in identifiers and in prose, and reported with their replacement."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("retired_words.py")
_spec = spec_from_file_location("retired_words", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
retired_words = module_from_spec(_spec)
_spec.loader.exec_module(retired_words)

WORDS = {"passed over": "skip; skipped", "crowd": "global counters"}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("The user passed  over the item.", "passed over"),
        ("crowd_total = 0", "crowd"),
        ("class CrowdCounter: ...", "crowd"),
        ("[crowd.counts]", "crowd"),
        ("See docs/crowd-counters.md", "crowd"),
    ],
)
def test_a_retired_word_is_found_in_prose_and_identifiers(text: str, word: str) -> None:
    assert [*retired_words.find(f"first line\n{text}", WORDS)] == [(2, word)]


def test_a_longer_word_that_contains_a_retired_one_is_not_found() -> None:
    assert [*retired_words.find("crowdsourced, overcrowded", WORDS)] == []


def test_the_glossary_says_what_to_use_instead(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text("crowd_total = 0\n", encoding="utf-8")

    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(file)], capture_output=True, text=True, check=False
    )

    assert result.returncode == 1, result.stderr
    assert "example.py:1: 'crowd' is retired, say global counters" in result.stdout
