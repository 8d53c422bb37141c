"""Find words that docs/glossary.md retired, in code, documents and settings.

`python tests/retired_words.py [FILE…]` prints each with the word to use instead and exits 1 if there are any.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
SUFFIXES = {".py", ".md", ".toml", ".yaml", ".sql", ".html"}
# The glossary names them, the log and changelog quote what things were called, and the newsroom's articles are fiction.
EXEMPT = {
    GLOSSARY,
    ROOT / "CHANGELOG.md",
    ROOT / "docs" / "log.md",
    ROOT / "features" / "sources" / "simulation" / "topics.py",
    ROOT / "features" / "sources" / "simulation" / "prose.py",
}


def retired_words(glossary: str) -> dict[str, str]:
    """Each retired word or phrase, in lower case, with what to say instead."""
    words = {}
    for line in glossary.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3:
            words |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[2]), cells[0])
    return words


def find(text: str, words: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Line, from 1, and word of each that `text` holds: as a word, or as part of an identifier in any case."""
    pattern = re.compile(r"\b(" + "|".join(sorted(words, key=len, reverse=True)) + r")\b")
    for number, line in enumerate(text.splitlines(), 1):
        parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\-/.]", " ", line).lower()
        yield from ((number, match[1]) for match in pattern.finditer(re.sub(r"\s+", " ", parts)))


def main(names: list[str]) -> int:
    """Print what is found in the named files, by default every file of the repository."""
    if not names:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        names = listed.stdout.splitlines()
    words = retired_words(GLOSSARY.read_text(encoding="utf-8"))
    count = 0
    for path in (ROOT / name for name in names):
        if path.suffix not in SUFFIXES or path in EXEMPT or not path.is_file():
            continue
        for line, word in find(path.read_text(encoding="utf-8"), words):
            count += 1
            print(f"{path.relative_to(ROOT)}:{line}: {word!r} is retired, say {words[word]}")
    if count:
        print(f"{count} retired words; docs/glossary.md says what is meant by each")
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
