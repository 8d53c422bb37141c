"""What each feature is by definition, in plain loops over the raw events: slow, and sharing nothing with the code."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import polars as pl
import pytest

from features.config.project import Project
from features.state import SliceEvents

SECONDS = {"30m": 1800.0, "1h": 3600.0, "4h": 14400.0, "none": None}
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Fact:
    """One exposure or interaction: what it adds, and to whom."""

    at: datetime
    user: str
    item: str
    values: set[tuple[str, str]]
    surface: set[str]
    amounts: dict[str, float]


class Oracle:
    """What is true in a world. `test_behaviour.py` makes features of it."""

    def __init__(self, events: SliceEvents, project: Project, vectors: pl.DataFrame) -> None:
        self.project, self.settings = project, project.features
        self.items = list(events.items.iter_rows(named=True))
        self.lists = list(events.impressions.iter_rows(named=True))
        self.done = list(events.interactions.iter_rows(named=True))
        self.vectors = {(i, k): v for i, k, v in vectors.iter_rows()}
        self.kinds = {"click": "clicks", "comment": "comments"} | dict.fromkeys(self.settings.valued, "views")
        self.expected = cache(self.expected)  # type: ignore[method-assign]
        self.version = cache(self.version)  # type: ignore[method-assign]
        self.exposures = [(r, c) for r in self.lists for c in r["candidates"]]
        self.sight_of = [self.answered(d) for d in self.done]
        self.facts = sorted([*self.exposures(), *self.interactions()], key=lambda fact: fact.at)

    def version(self, item: str, before: datetime) -> Row | None:
        known = [v for v in self.items if v["item_id"] == item and v["known_at"] < before]
        return max(known, key=lambda v: v["known_at"], default=None)

    def values(self, item: str, before: datetime) -> set[tuple[str, str]]:
        version = self.version(item, before)
        return {(a["name"], a["value"]) for a in version["attributes"]} if version else set()

    def numbers(self, item: str, before: datetime) -> dict[str, float]:
        version = self.version(item, before)
        return {n["name"]: n["value"] for n in version["numbers"]} if version else {}

    def answered(self, done: Row) -> tuple[Row, Row] | None:
        """The list and candidate that an interaction answers: the user's latest sight of the item, if not too old."""
        window = self.project.labels.attribution
        exposures = [
            (r, c)
            for r, c in self.exposures
            if (r["user_id"], c["item_id"]) == (done["user_id"], done["item_id"])
            and timedelta(0) <= done["known_at"] - r["shown_at"] <= window
        ]
        return max(exposures, key=lambda s: (s[0]["shown_at"], s[0]["impression_id"]), default=None)

    def expected(self, position: int, before: datetime) -> float:
        """The click rate of a position."""
        shown = sum(min(c["position"], 100) == position and r["shown_at"] < before for r, c in self.exposures)
        clicks = sum(
            exposure is not None
            and min(exposure[1]["position"], 100) == position
            and done["kind"] == "click"
            and done["known_at"] < before
            for done, exposure in zip(self.done, self.sight_of, strict=True)
        )
        strength = self.settings.prior_strength
        return (clicks + strength * 0.05) / (shown + strength)

    def exposures(self) -> Iterable[Fact]:
        for r, c in self.exposures:
            place = min(c["position"], 100)
            amounts = {
                "exposures": 1.0,
                "expected": self.expected(place, r["shown_at"]),
                "position": float(place),
            }
            surface = {fact["value"] for fact in r["context"]}
            values = self.values(c["item_id"], r["shown_at"])
            yield Fact(r["shown_at"], r["user_id"], c["item_id"], values, surface, amounts)

    def interactions(self) -> Iterable[Fact]:
        for d, exposure in zip(self.done, self.sight_of, strict=True):
            if d["kind"] not in self.kinds:
                continue
            amounts = {self.kinds[d["kind"]]: 1.0}
            if d["kind"] in self.settings.valued:
                amounts["value"] = d["value"] or 0.0
            if d["kind"] == "click":
                said = self.numbers(d["item_id"], d["known_at"])
                amounts |= {f"known {name}": 1.0 for name in said} | {f"sum {n}": v for n, v in said.items()}
            surface = {fact["value"] for fact in exposure[0]["context"]} if exposure else set()
            values = self.values(d["item_id"], d["known_at"])
            yield Fact(d["known_at"], d["user_id"], d["item_id"], values, surface, amounts)

    def remembered(self, facts: Iterable[Fact], as_of: datetime) -> list[Fact]:
        """Those known before, from the last long silence on; nothing after a long silence."""
        kept: list[Fact] = []
        for fact in facts:
            if fact.at < as_of:
                silent = kept and fact.at - kept[-1].at > self.settings.ttl
                kept = [fact] if silent else [*kept, fact]
        return [] if kept and as_of - kept[-1].at > self.settings.ttl else kept

    def passes(self, user: str) -> list[tuple[datetime, str]]:
        """(instant, item) of what the user left untouched."""
        found = []
        mine = [r for r in self.lists if r["user_id"] == user]
        for r in mine:
            later = [n["shown_at"] - timedelta(microseconds=1) for n in mine if n["shown_at"] > r["shown_at"]]
            left_at = min([*later, r["shown_at"] + self.project.labels.attribution])
            for c in r["candidates"]:
                taken = any(
                    d["user_id"] == user
                    and d["item_id"] == c["item_id"]
                    and r["shown_at"] <= d["known_at"] <= left_at
                    for d in self.done
                )
                if not taken and c["position"] <= self.settings.skips_per_impression:
                    found.append((left_at, c["item_id"]))
        return found

    def vector(self, item: str, before: datetime) -> list[float] | None:
        version = self.version(item, before)
        return self.vectors.get((item, version["known_at"])) if version else None

    def mean_text(self, before: datetime) -> list[float]:
        """Of all that was shown, or else of the catalogue; to 1/16384, as vectors are kept."""
        shown = [
            self.vector(c["item_id"], r["shown_at"]) for r, c in self.exposures if r["shown_at"] < before
        ]
        texts = [v for v in shown if v] or [
            v for i in {i["item_id"] for i in self.items} if (v := self.vector(i, before))
        ]
        return [round(16384 * sum(n) / len(texts)) / 16384 for n in zip(*texts, strict=True)]

    def similarity(
        self, item: str, past: list[tuple[Any, ...]], as_of: datetime
    ) -> tuple[float, float, float]:
        """Mean, greatest and soft greatest similarity to the newest of the past, seen from the mean text."""
        known = [m for m in past if timedelta(0) < as_of - m[0] <= self.settings.ttl]
        others = [self.vector(moment[1], as_of) for moment in sorted(known)[-self.settings.text_history :]]
        own, texts = self.vector(item, as_of), [o for o in others if o]
        if own is None or not texts:
            return math.nan, math.nan, math.nan
        mean = self.mean_text(as_of)
        own, *texts = [[a - b for a, b in zip(v, mean, strict=True)] for v in (own, *texts)]
        near = [sum(a * b for a, b in zip(own, o, strict=True)) for o in texts]
        near = [n and n / math.hypot(*own) / math.hypot(*o) for n, o in zip(near, texts, strict=True)]
        near = [round(n * 2**40) / 2**40 for n in near]  # what cancels in a list's sum leaves 0
        return sum(near) / len(near), max(near), math.log(1 + sum(math.exp(5 * n) for n in near))

    def entropy(self, facts: list[Fact], attribute: str) -> float:
        """Of the clicks among a user's facts by value; a value that was long silent comes back as another one."""
        takes: Counter[tuple[str, int]] = Counter()
        for value in {value for fact in facts for name, value in fact.values if name == attribute}:
            met = [fact for fact in facts if (attribute, value) in fact.values]
            silences = 0
            for before, fact in zip([met[0], *met], met, strict=False):
                silences += fact.at - before.at > self.settings.ttl
                takes[value, silences] += "clicks" in fact.amounts
        shares = [n / takes.total() for n in takes.values() if n]
        return sum(p * math.log(1 / p) for p in shares) if shares else math.nan

    def session(self, impression: Row) -> dict[str, float]:
        """Back from the list, under its session id, over breaks that are not too long."""
        user, as_of = impression["user_id"], impression["shown_at"]
        gap = min(self.settings.session_gap, self.settings.ttl)
        same = ("user_id", "session_id")
        earlier = [
            r["shown_at"]
            for r in self.lists
            if all(r[n] == impression[n] for n in same) and r["shown_at"] < as_of
        ]
        began, lists = as_of, 0
        for shown_at in sorted(earlier, reverse=True):
            if began - shown_at > gap:
                break
            began, lists = shown_at, lists + 1
        within = [fact for fact in self.facts if fact.user == user and began <= fact.at < as_of]
        seen, taken = (
            sum("exposures" in fact.amounts for fact in within),
            sum("clicks" in fact.amounts for fact in within),
        )
        strength = self.settings.prior_strength
        return {
            "session_lists": lists,
            "session_exposures": seen,
            "session_clicks": taken,
            "session_ctr": (taken + strength * 0.05) / (seen + strength),
            "session_minutes": (as_of - began) / timedelta(minutes=1),
        }


@pytest.fixture(scope="session")
def oracle() -> type[Oracle]:
    return Oracle
