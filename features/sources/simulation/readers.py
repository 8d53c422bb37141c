"""The newsroom's readers: their visits, their tastes, and what they search for.

A taste has a share for each category, each storyline within a category, and each style. The match of an article,
in logits, is

    √category·(CATEGORY + STORYLINE·(√storyline − ½)) + STYLE·(√style − mean of √style)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.config.sections import NewsroomWorld
from features.sources.simulation.prose import STYLES, categories, wording

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

CATEGORY = 9.5
STORYLINE = 3.5
STYLE = 3.6
CATEGORY_SPREAD, STORYLINE_SPREAD, STYLE_SPREAD = 0.12, 0.3, 0.3
"""Dirichlet concentrations: the smaller, the narrower a taste."""

DRIFT = 0.01
"""Share of a taste that is replaced every day."""
SWITCHERS = 0.005
"""Share of users whose taste is replaced completely on a day."""
NEW_USERS = 0.3
"""Share of users whose first visit is after the first day."""
ACTIVITY_SPREAD = 1.0
"""Standard deviation of log visits per user."""
ONCE_ONLY = 0.15
"""Share of users who rarely come more than once."""
_READING_HOURS = np.array([1, 1, 1, 1, 1, 2, 5, 9, 9, 6, 5, 5, 7, 6, 4, 4, 5, 6, 7, 8, 9, 9, 8, 6], float)


@dataclass(frozen=True)
class Visits:
    """Impressions by time: users, sessions, instants."""

    user: Integers
    session: Integers
    shown: Integers
    """Epoch milliseconds."""


@dataclass(frozen=True)
class Searches:
    """What each visit searches for. Without a search, the text is empty and category and storyline are -1."""

    category: Integers
    storyline: Integers
    """Within its category."""
    text: tuple[str, ...]


class Tastes:
    """Users' tastes of one day: shares of categories, storylines and styles."""

    def __init__(self, users: int, random: np.random.Generator) -> None:
        self._users, self._random = users, random
        self._category, self._storyline, self._style = self._draw()

    def drift(self) -> None:
        """Advance one day: all tastes change a little, a few completely."""
        switched = self._random.random(self._users) < SWITCHERS
        new = np.where(switched, 1.0, DRIFT)
        category, storyline, style = self._draw()
        self._category += new[:, None] * (category - self._category)
        self._storyline += new[:, None, None] * (storyline - self._storyline)
        self._style += new[:, None] * (style - self._style)

    def match(self, user: int, category: Integers, storyline: Integers, style: Integers) -> Reals:
        """Match of articles with a user's taste, in logits; one entry per article."""
        within = np.sqrt(self._storyline[user, category, storyline]) - 0.5
        interest = np.sqrt(self._category[user, category]) * (CATEGORY + STORYLINE * within)
        manner = np.sqrt(self._style[user])
        return np.asarray(interest + STYLE * (manner[style] - manner.mean()))

    def _draw(self) -> tuple[Reals, Reals, Reals]:
        sections = len(categories())
        storylines = len(categories()[0].storylines)
        return (
            self._random.dirichlet(np.full(sections, CATEGORY_SPREAD), self._users),
            self._random.dirichlet(np.full(storylines, STORYLINE_SPREAD), (self._users, sections)),
            self._random.dirichlet(np.full(len(STYLES), STYLE_SPREAD), self._users),
        )


def visits(size: NewsroomWorld, beginning: int, random: np.random.Generator) -> Visits:
    """Simulate sessions of one to five impressions a few minutes apart, by time."""
    new = random.random(size.users) < NEW_USERS
    new[0] = False
    arrival = np.where(new, random.integers(1, size.days, size.users), 0)
    once_only = random.random(size.users) < ONCE_ONLY
    activity = np.where(once_only, 1e-3, random.lognormal(0.0, ACTIVITY_SPREAD, size.users))
    users: list[Integers] = []
    sessions: list[Integers] = []
    shown: list[Integers] = []
    for day in range(size.days):
        first_timers = np.flatnonzero((arrival == day) & (new | once_only))
        weights = np.where(arrival < max(day, 1), activity, 0.0)
        regulars = random.choice(size.users, size.impressions_a_day, p=weights / weights.sum())
        visitor = np.concatenate([first_timers, regulars])[: size.impressions_a_day]
        lists = np.minimum(random.geometric(0.5, visitor.size), 5)
        opened = beginning + day * DAY + times_of_day(_READING_HOURS, visitor.size, random)
        opened = np.minimum(opened, beginning + (day + 1) * DAY - 15 * MINUTE)
        session = np.repeat(np.arange(visitor.size), lists)[: size.impressions_a_day]
        waits = random.integers(MINUTE // 2, 3 * MINUTE, session.size)
        waits[np.flatnonzero(np.diff(session, prepend=-1))] = 0
        total = np.cumsum(waits)
        since_opened = total - total[np.searchsorted(session, session)]
        users.append(visitor[session])
        sessions.append(session + day * size.impressions_a_day)
        shown.append(opened[session] + since_opened)
    order = np.lexsort((np.concatenate(sessions), np.concatenate(shown)))
    return Visits(*(np.concatenate(column)[order] for column in (users, sessions, shown)))


def searches(share: float, count: int, random: np.random.Generator) -> Searches:
    """Draw what `count` visits search for: any storyline, in words of its articles."""
    sections = categories()
    searching = random.random(count) < share
    category = np.where(searching, random.integers(len(sections), size=count), -1)
    storyline = np.where(searching, random.integers(len(sections[0].storylines), size=count), -1)
    words = (
        wording(sections[c].storylines[s], random) if c >= 0 else ""
        for c, s in zip(category.tolist(), storyline.tolist(), strict=True)
    )
    return Searches(category, storyline, tuple(words))


def times_of_day(hours: Reals, count: int, random: np.random.Generator) -> Integers:
    """Draw milliseconds since midnight; `hours` weights the 24 hours."""
    hour = random.choice(24, count, p=hours / hours.sum())
    return np.asarray(hour * HOUR + random.integers(HOUR, size=count))
