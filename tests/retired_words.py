"""Find words that docs/glossary.md retires, in code, documents and settings.

`python tests/retired_words.py [FILE…]` prints each with its replacement and exits 1 if there are any.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
SUFFIXES = {".py", ".md", ".toml", ".yaml", ".sql", ".html"}
# The glossary and the test list these words, log and changelog quote old names, the newsroom's articles are fiction.
EXEMPT = {
    GLOSSARY,
    ROOT / "tests" / "test_retired_words.py",
    ROOT / "CHANGELOG.md",
    ROOT / "docs" / "log.md",
    ROOT / "features" / "draft" / "names.py",
    ROOT / "features" / "sources" / "simulation" / "vocabulary.py",
    ROOT / "features" / "sources" / "simulation" / "prose.py",
}


def retired_words(glossary: str) -> dict[str, str]:
    """Return each retired word or phrase, in lower case, with its replacement."""
    words = {}
    for line in glossary.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3:
            words |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[2]), cells[0])
    return words


def find(text: str, words: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yield (line from 1, word) for each retired word in `text`, also within identifiers, in any case."""
    pattern = re.compile(r"\b(" + "|".join(sorted(words, key=len, reverse=True)) + r")\b")
    for number, line in enumerate(text.splitlines(), 1):
        parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\-/.]", " ", line).lower()
        yield from ((number, match[1]) for match in pattern.finditer(re.sub(r"\s+", " ", parts)))


def main(names: list[str]) -> int:
    """Check the named files, by default every file in git; print each retired word. Return the exit status."""
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
            shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
            print(f"{shown}:{line}: {word!r} is retired, say {words[word]}")
    if count:
        print(f"{count} retired words; docs/glossary.md defines their replacements")
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
