"""Readable articles for the newsroom.

An article's storyline (its subject within a category) and its style show only in its text, not in attributes.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from features.sources.simulation.vocabulary import TOPICS


@dataclass(frozen=True)
class Storyline:
    """Alternative subjects, developments and sentences with details."""

    subjects: tuple[str, ...]
    developments: tuple[str, ...]
    details: tuple[str, ...]


@dataclass(frozen=True)
class Category:
    """A section of the newsroom; `people` and `places` are shared by its storylines."""

    name: str
    people: tuple[str, ...]
    places: tuple[str, ...]
    storylines: tuple[Storyline, ...]


@dataclass(frozen=True)
class Style:
    """Alternative headlines, first sentences and last sentences."""

    name: str
    titles: tuple[str, ...]
    openings: tuple[str, ...]
    closings: tuple[str, ...]


class Prose(NamedTuple):
    """The text of one article."""

    title: str
    corrected_title: str
    body: str
    tags: tuple[str, ...]
    """A person and a place; independent of storyline and style."""


STYLES = (
    Style(
        "report",
        ("{Subject} {did}", "{Subject} {did}, {person} says", "News from {place}: {subject} {did}"),
        (
            "{Subject} {did}, according to statements released on {day}.",
            "Officials confirmed on {day} that {subject} {did}.",
        ),
        ("A spokesman declined to comment further.", "The next announcement is due within days."),
    ),
    Style(
        "analysis",
        (
            "Why {subject} {did}: the numbers behind it",
            "What the data say now that {subject} {did}",
            "In charts: how {subject} {did}",
        ),
        (
            "Three trends explain why {subject} {did}, and the figures of ten years back them.",
            "Look at the long series and it is less of a surprise that {subject} {did}.",
        ),
        (
            "The correlation is strong, the causes remain open.",
            "By our estimate the effect will last two years.",
        ),
    ),
    Style(
        "explainer",
        (
            "{Subject}, explained: a beginner's guide",
            "Seven questions about {subject}, answered simply",
            "How does it work? {Subject} in plain words",
        ),
        (
            "You have heard that {subject} {did}. Here is what that means, step by step.",
            "What is it, who decides, and why should you care? Start here: {subject} {did}.",
        ),
        ("Still unsure? The glossary below defines each term.", "In short: remember these three things."),
    ),
    Style(
        "live",
        (
            "Live updates: {subject} {did}",
            "As it happens: {subject}, minute by minute",
            "Live from {place}: {subject} {did}",
        ),
        (
            "14:32 Breaking: {subject} {did}. Refresh for the latest.",
            "Follow our live blog, updated every minute, now that {subject} {did}.",
        ),
        ("15:07 More as we get it.", "That is all from our live coverage for now; stay with us."),
    ),
    Style(
        "opinion",
        (
            "I was wrong about {subject}, and so were you",
            "Enough excuses: {subject} {did}, and we should be angry",
            "My view: let us stop pretending about {subject}",
        ),
        (
            "Let me say what nobody dares to: {subject} {did}, and I think we deserved it.",
            "I have argued in this column for years, and now {subject} {did}. Shame on us.",
        ),
        ("I, for one, will not apologise.", "We ought to be ashamed, and I include myself."),
    ),
    Style(
        "interview",
        (
            "“It nearly broke me”: {person} on {subject}",
            "Over tea with {person}, who lived through {subject}",
            "{person} in conversation: “{Subject}? That was my life”",
        ),
        (
            "{person} laughs, pours the tea and remembers the day when {subject} {did}.",
            "“I was at home with my daughter,” {person} tells us of the day when {subject} {did}.",
        ),
        (
            "“Ask me again in a year” is the answer, with a smile.",
            "At the door the old dog waits, as it has each evening.",
        ),
    ),
)

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@cache
def categories() -> tuple[Category, ...]:
    """The newsroom's sections, in the order of `TOPICS`, each with the same number of storylines."""
    sections: list[Category] = []
    lines = TOPICS.strip().splitlines()
    starts = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        name, people, places, *body = lines[start:end]
        heads = [number for number, line in enumerate(body) if not line.startswith("    ")]
        storylines = tuple(
            Storyline(
                _alternatives(body[head]),
                _alternatives(body[head + 1]),
                tuple(line.strip() for line in body[head + 2 : after]),
            )
            for head, after in zip(heads, [*heads[1:], len(body)], strict=True)
        )
        sections.append(
            Category(
                name,
                _alternatives(people.partition(":")[2]),
                _alternatives(places.partition(":")[2]),
                storylines,
            )
        )
    return tuple(sections)


def compose(category: Category, storyline: Storyline, style: Style, random: np.random.Generator) -> Prose:
    """Write an article: title, corrected title, body of about five sentences, and tags."""
    subject, other_subject = _two(storyline.subjects, random)
    person, other_person = _two(category.people, random)
    place, other_place = _two(category.places, random)
    words = {
        "subject": subject,
        "Subject": _capital(subject),
        "did": _one(storyline.developments, random),
        "person": person,
        "place": place,
        "day": _one(_DAYS, random),
    }
    title = _one(style.titles, random)
    first, second = (
        detail.format(person=who, place=where)
        for detail, who, where in zip(
            _two(storyline.details, random), (person, other_person), (place, other_place), strict=True
        )
    )
    background = f"It began with {other_subject}, and few in {place} expected it to end there."
    body = [_one(style.openings, random).format(**words), first, background, second]
    corrected = {
        **words,
        "person": other_person,
        "subject": other_subject,
        "Subject": _capital(other_subject),
    }
    return Prose(
        title=_capital(title.format(**words)),
        corrected_title=_capital(title.format(**corrected)),
        body=" ".join([*map(_capital, body), _one(style.closings, random)]),
        tags=(person.lower(), place.lower()),
    )


def wording(storyline: Storyline, random: np.random.Generator) -> str:
    """A query for a storyline: one of its subjects, half of the time with words of a development."""
    words = _one(storyline.subjects, random).removeprefix("the ").split()
    if random.random() < 0.5:
        words += _one(storyline.developments, random).split()[-2:]
    return " ".join(words)


def _alternatives(line: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in line.split(";"))


def _one(choices: tuple[str, ...], random: np.random.Generator) -> str:
    return choices[int(random.integers(len(choices)))]


def _two(choices: tuple[str, ...], random: np.random.Generator) -> tuple[str, str]:
    first, second = random.choice(len(choices), size=2, replace=False)
    return choices[first], choices[second]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
