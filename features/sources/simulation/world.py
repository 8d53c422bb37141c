"""The newsroom's articles, impressions and interactions.

The attractiveness of an article, its click probability once examined, is

    sigmoid(BASE + match of the user's taste + quality + FRESHNESS·exp(−age in days))

A user who searches finds articles of the storyline more attractive by SOUGHT logits and all others less by UNSOUGHT.
A user examines position p with probability p^−POSITION_DECAY and clicks if the position is examined and the article
attracts (the examination hypothesis: Craswell et al., WSDM 2008).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.config.sections import NewsroomWorld
from features.exploration import explore
from features.sources.simulation import readers
from features.sources.simulation.prose import STYLES, Prose, categories, compose
from features.sources.simulation.readers import DAY, HOUR, MINUTE, Integers, Reals, Visits

BASE = -4.2
STORYLINE_QUALITY, STYLE_QUALITY, OWN_QUALITY = 0.8, 0.6, 0.8
"""Standard deviations, in logits, of the quality of a storyline, a style and an article: the same for all users."""
FRESHNESS = 0.5
SOUGHT, UNSOUGHT = 3.0, 1.0

RECENT, POPULAR, SEARCHED = 1.0, 0.15, 2.0
"""Weights of recency, log clicks and a match with the search in the logging policy, beside Gumbel noise of standard
deviation 1.3."""
POSITION_DECAY = 0.25
STOCK_DAYS = 2
"""Days before the start in which articles are already published."""
SHOWN_DAYS = 3
"""Age in days after which an article is no longer shown."""
CORRECTED = 0.03
"""Share of articles whose title is corrected later."""
TAGGED = 0.4
"""Share of articles that have tags."""
UNFILED = 0.12
"""Share of articles whose log has neither category nor author."""
AUTHORS = 4
"""Authors per category."""
FOLLOW_UP = {"comment": (0.15, 8 * MINUTE), "share": (0.1, 4 * MINUTE)}
"""Kind → probability after a click, and the longest delay."""

_PUBLISHING_HOURS = np.array([1, 1, 1, 1, 2, 5, 8, 8, 7, 6, 6, 5, 5, 5, 5, 5, 5, 4, 3, 3, 2, 2, 1, 1], float)


@dataclass(frozen=True)
class Articles:
    """Articles by time of publication, one entry each. Instants are epoch milliseconds."""

    published: Integers
    category: Integers
    storyline: Integers
    """Within its category."""
    style: Integers
    quality: Reals
    author: Integers
    """Within its category."""
    length: Integers
    corrected: Integers
    """When the title was corrected; 0 for never."""
    tagged: NDArray[np.bool_]
    filed: NDArray[np.bool_]
    prose: tuple[Prose, ...]


@dataclass(frozen=True)
class Lists:
    """Impressions (`visits`) and, one entry each in the order shown, their candidates."""

    visits: Visits
    impression: Integers
    """Index into `visits`."""
    article: Integers
    """Index into `Articles`."""
    position: Integers
    propensity: Reals
    """Probability that the article, among those of its list, is shown at this position."""
    examination: Reals
    """Probability that the position is examined."""
    attractiveness: Reals
    """Probability of a click once the candidate is examined."""


class Action(NamedTuple):
    """One interaction with a candidate."""

    candidate: int
    """Index into the candidates of `Lists`."""
    kind: str
    happened: int
    """Epoch milliseconds."""


@dataclass(frozen=True)
class World:
    """All articles, impressions and interactions of a simulation."""

    articles: Articles
    lists: Lists
    actions: tuple[Action, ...]
    searches: readers.Searches
    """One entry per visit."""


def simulate(size: NewsroomWorld, start: datetime, seed: int) -> World:
    """Simulate `size.days` days from `start`, deterministically."""
    publishing, visiting, tasting, showing, searching = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(5)
    )
    beginning = int(start.timestamp() * 1000)
    articles = _publish(size, beginning, publishing)
    visits = readers.visits(size, beginning, visiting)
    searches = readers.searches(size.queries, visits.user.size, searching)
    tastes = readers.Tastes(size.users, tasting)
    return World(articles, *_show(size, articles, visits, searches, tastes, showing), searches)


def _publish(size: NewsroomWorld, beginning: int, random: np.random.Generator) -> Articles:
    days = np.repeat(np.arange(-STOCK_DAYS, size.days), size.articles_a_day)
    published = np.sort(beginning + days * DAY + readers.times_of_day(_PUBLISHING_HOURS, days.size, random))
    sections = categories()
    category = random.integers(len(sections), size=days.size)
    storyline = random.integers(len(sections[0].storylines), size=days.size)
    style = random.integers(len(STYLES), size=days.size)
    storyline_quality = random.normal(0.0, STORYLINE_QUALITY, (len(sections), len(sections[0].storylines)))
    storyline_quality -= storyline_quality.mean(axis=1, keepdims=True)
    style_quality = random.normal(0.0, STYLE_QUALITY, len(STYLES))
    corrected = published + random.integers(HOUR, 12 * HOUR, days.size)
    return Articles(
        published=published,
        category=category,
        storyline=storyline,
        style=style,
        quality=storyline_quality[category, storyline]
        + style_quality[style]
        + random.normal(0.0, OWN_QUALITY, days.size),
        author=random.integers(AUTHORS, size=days.size),
        length=random.integers(30, 180, days.size) * 10,
        corrected=np.where(random.random(days.size) < CORRECTED, corrected, 0),
        tagged=random.random(days.size) < TAGGED,
        filed=random.random(days.size) >= UNFILED,
        prose=tuple(
            compose(sections[c], sections[c].storylines[s], STYLES[k], random)
            for c, s, k in zip(category, storyline, style, strict=True)
        ),
    )


def _show(
    size: NewsroomWorld,
    articles: Articles,
    visits: Visits,
    searches: readers.Searches,
    tastes: readers.Tastes,
    random: np.random.Generator,
) -> tuple[Lists, tuple[Action, ...]]:
    read = np.zeros((size.users, articles.published.size), bool)
    clicks = np.zeros(articles.published.size)
    day = visits.shown[0] // DAY
    rows: list[tuple[Integers, Reals, Reals, Reals]] = []
    actions: list[Action] = []
    shown_so_far = 0
    for visit, (user, shown) in enumerate(zip(visits.user.tolist(), visits.shown.tolist(), strict=True)):
        while day < shown // DAY:
            tastes.drift()
            day += 1
        wanted = (articles.category == searches.category[visit]) & (
            articles.storyline == searches.storyline[visit]
        )
        chosen = _rank(articles, shown, read[user], wanted, clicks, size.list_size, random)
        propensity = np.ones(chosen.size)
        if size.exploration:
            order, propensity = explore(chosen.size, size.exploration, chosen.size, random)
            chosen = chosen[order]
        age = (shown - articles.published[chosen]) / DAY
        match = tastes.match(
            user, articles.category[chosen], articles.storyline[chosen], articles.style[chosen]
        )
        logit = BASE + articles.quality[chosen] + FRESHNESS * np.exp(-age)
        if searches.text[visit]:
            logit += np.where(wanted[chosen], SOUGHT, -UNSOUGHT)
        attractiveness = 1 / (1 + np.exp(-logit - match))
        examination: Reals = np.arange(1.0, chosen.size + 1) ** -POSITION_DECAY
        clicked = np.flatnonzero(random.random(chosen.size) < examination * attractiveness)
        rows.append((chosen, propensity, examination, attractiveness))
        read[user, chosen[clicked]] = True
        clicks[chosen[clicked]] += 1
        for candidate in (clicked + shown_so_far).tolist():
            actions += _actions(candidate, shown, random)
        shown_so_far += chosen.size
    lengths = [row[0].size for row in rows]
    article, propensity, examination, attractiveness = (
        np.concatenate(column) for column in zip(*rows, strict=True)
    )
    return (
        Lists(
            visits,
            impression=np.repeat(np.arange(len(rows)), lengths),
            article=article,
            position=np.concatenate([np.arange(1, length + 1) for length in lengths]),
            propensity=propensity,
            examination=examination,
            attractiveness=attractiveness,
        ),
        tuple(actions),
    )


def _rank(
    articles: Articles,
    shown: int,
    read: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    clicks: Reals,
    list_size: int,
    random: np.random.Generator,
) -> Integers:
    """Rank recent articles by noise, a little recency and popularity, and the search; articles already read last."""
    oldest, newest = np.searchsorted(articles.published, [shown - SHOWN_DAYS * DAY, shown])
    pool = np.arange(oldest, newest)
    age = (shown - articles.published[pool]) / DAY
    scores = RECENT * np.exp(-age) + POPULAR * np.log1p(clicks[pool]) + random.gumbel(size=pool.size)
    scores += SEARCHED * wanted[pool]
    scores[read[pool]] -= 100.0
    return pool[np.argsort(-scores, kind="stable")[:list_size]]


def _actions(candidate: int, shown: int, random: np.random.Generator) -> list[Action]:
    clicked = shown + int(random.integers(2_000, 2 * MINUTE))
    actions = [Action(candidate, "click", clicked)]
    for kind, (probability, longest) in FOLLOW_UP.items():
        if random.random() < probability:
            actions.append(Action(candidate, kind, clicked + int(random.integers(10_000, longest))))
    return actions
