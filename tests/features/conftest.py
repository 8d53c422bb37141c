"""Reference definitions of the features: plain, slow loops over raw events that share no code with `features`."""

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
class Update:
    """One exposure or interaction: its entities, and the amounts it adds to their counters."""

    at: datetime
    user: str
    item: str
    values: set[tuple[str, str]]
    surface: set[str]
    amounts: dict[str, float]


class Oracle:
    """Reference quantities of a log. `test_behaviour.py` computes features from them."""

    def __init__(self, events: SliceEvents, project: Project, vectors: pl.DataFrame) -> None:
        self.project, self.settings = project, project.features
        self.items = list(events.items.iter_rows(named=True))
        self.impressions = list(events.impressions.iter_rows(named=True))
        self.interactions = list(events.interactions.iter_rows(named=True))
        self.vectors = {(i, k): v for i, k, v in vectors.iter_rows()}
        self.kinds = {"click": "clicks", "comment": "comments"} | dict.fromkeys(self.settings.valued, "views")
        self.expected = cache(self.expected)  # type: ignore[method-assign]
        self.version = cache(self.version)  # type: ignore[method-assign]
        self.exposures = [(r, c) for r in self.impressions for c in r["candidates"]]
        self.exposure_of = [self.attributed(d) for d in self.interactions]
        self.updates = sorted([*self.exposure_updates(), *self.interaction_updates()], key=lambda u: u.at)

    def version(self, item: str, before: datetime) -> Row | None:
        known = [v for v in self.items if v["item_id"] == item and v["known_at"] < before]
        return max(known, key=lambda v: v["known_at"], default=None)

    def values(self, item: str, before: datetime) -> set[tuple[str, str]]:
        version = self.version(item, before)
        return {(a["name"], a["value"]) for a in version["attributes"]} if version else set()

    def numbers(self, item: str, before: datetime) -> dict[str, float]:
        version = self.version(item, before)
        return {n["name"]: n["value"] for n in version["numbers"]} if version else {}

    def attributed(self, interaction: Row) -> tuple[Row, Row] | None:
        """Impression and candidate of the user's latest exposure to the item within the attribution window."""
        window = self.project.labels.attribution
        exposures = [
            (r, c)
            for r, c in self.exposures
            if (r["user_id"], c["item_id"]) == (interaction["user_id"], interaction["item_id"])
            and timedelta(0) <= interaction["known_at"] - r["shown_at"] <= window
        ]
        return max(exposures, key=lambda e: (e[0]["shown_at"], e[0]["impression_id"]), default=None)

    def expected(self, position: int, before: datetime) -> float:
        """Smoothed click rate of a position."""
        shown = sum(min(c["position"], 100) == position and r["shown_at"] < before for r, c in self.exposures)
        clicks = sum(
            exposure is not None
            and min(exposure[1]["position"], 100) == position
            and interaction["kind"] == "click"
            and interaction["known_at"] < before
            for interaction, exposure in zip(self.interactions, self.exposure_of, strict=True)
        )
        strength = self.settings.prior_strength
        return (clicks + strength * 0.05) / (shown + strength)

    def exposure_updates(self) -> Iterable[Update]:
        for r, c in self.exposures:
            position = min(c["position"], 100)
            amounts = {
                "exposures": 1.0,
                "expected": self.expected(position, r["shown_at"]),
                "position": float(position),
            }
            surface = {field["value"] for field in r["context"]}
            values = self.values(c["item_id"], r["shown_at"])
            yield Update(r["shown_at"], r["user_id"], c["item_id"], values, surface, amounts)

    def interaction_updates(self) -> Iterable[Update]:
        for d, exposure in zip(self.interactions, self.exposure_of, strict=True):
            if d["kind"] not in self.kinds:
                continue
            amounts = {self.kinds[d["kind"]]: 1.0}
            if d["kind"] in self.settings.valued:
                amounts["value"] = d["value"] or 0.0
            if d["kind"] == "click":
                numbers = self.numbers(d["item_id"], d["known_at"])
                amounts |= {f"known {name}": 1.0 for name in numbers} | {
                    f"sum {n}": v for n, v in numbers.items()
                }
            surface = {field["value"] for field in exposure[0]["context"]} if exposure else set()
            values = self.values(d["item_id"], d["known_at"])
            yield Update(d["known_at"], d["user_id"], d["item_id"], values, surface, amounts)

    def unexpired(self, updates: Iterable[Update], as_of: datetime) -> list[Update]:
        """Updates before `as_of`, without those that a gap longer than the TTL has expired."""
        kept: list[Update] = []
        for update in updates:
            if update.at < as_of:
                expired = kept and update.at - kept[-1].at > self.settings.ttl
                kept = [update] if expired else [*kept, update]
        return [] if kept and as_of - kept[-1].at > self.settings.ttl else kept

    def skips(self, user: str) -> list[tuple[datetime, str]]:
        """(closing instant, item) of the user's skips."""
        skips = []
        impressions = [r for r in self.impressions if r["user_id"] == user]
        for r in impressions:
            later = [
                n["shown_at"] - timedelta(microseconds=1)
                for n in impressions
                if n["shown_at"] > r["shown_at"]
            ]
            closed_at = min([*later, r["shown_at"] + self.project.labels.attribution])
            for c in r["candidates"]:
                acted_on = any(
                    d["user_id"] == user
                    and d["item_id"] == c["item_id"]
                    and r["shown_at"] <= d["known_at"] <= closed_at
                    for d in self.interactions
                )
                if not acted_on and c["position"] <= self.settings.skips_per_impression:
                    skips.append((closed_at, c["item_id"]))
        return skips

    def vector(self, item: str, before: datetime) -> list[float] | None:
        version = self.version(item, before)
        return self.vectors.get((item, version["known_at"])) if version else None

    def mean_text(self, before: datetime) -> list[float]:
        """Mean vector of all texts shown, else of the catalogue, rounded to 1/16384 like stored vectors."""
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
        """Mean, maximum and soft maximum of centred similarities to the latest items of `past`."""
        recent = [m for m in past if timedelta(0) < as_of - m[0] <= self.settings.ttl]
        others = [self.vector(moment[1], as_of) for moment in sorted(recent)[-self.settings.text_history :]]
        own, texts = self.vector(item, as_of), [o for o in others if o]
        if own is None or not texts:
            return math.nan, math.nan, math.nan
        mean = self.mean_text(as_of)
        own, *texts = [[a - b for a, b in zip(v, mean, strict=True)] for v in (own, *texts)]
        cosines = [sum(a * b for a, b in zip(own, o, strict=True)) for o in texts]
        cosines = [n and n / math.hypot(*own) / math.hypot(*o) for n, o in zip(cosines, texts, strict=True)]
        cosines = [round(n * 2**40) / 2**40 for n in cosines]  # so that sums that cancel are exactly 0
        return sum(cosines) / len(cosines), max(cosines), math.log(1 + sum(math.exp(5 * n) for n in cosines))

    def entropy(self, updates: list[Update], attribute: str) -> float:
        """Entropy of a user's clicks over attribute values; a value that returns after the TTL counts as a new one."""
        clicks: Counter[tuple[str, int]] = Counter()
        for value in {value for update in updates for name, value in update.values if name == attribute}:
            matching = [update for update in updates if (attribute, value) in update.values]
            gaps = 0
            for before, update in zip([matching[0], *matching], matching, strict=False):
                gaps += update.at - before.at > self.settings.ttl
                clicks[value, gaps] += "clicks" in update.amounts
        shares = [n / clicks.total() for n in clicks.values() if n]
        return sum(p * math.log(1 / p) for p in shares) if shares else math.nan

    def session(self, impression: Row) -> dict[str, float]:
        """Session features: earlier impressions with the same session id and no gap longer than `session_gap`."""
        user, as_of = impression["user_id"], impression["shown_at"]
        gap = min(self.settings.session_gap, self.settings.ttl)
        session = ("user_id", "session_id")
        earlier = [
            r["shown_at"]
            for r in self.impressions
            if all(r[n] == impression[n] for n in session) and r["shown_at"] < as_of
        ]
        began, impressions = as_of, 0
        for shown_at in sorted(earlier, reverse=True):
            if began - shown_at > gap:
                break
            began, impressions = shown_at, impressions + 1
        within = [update for update in self.updates if update.user == user and began <= update.at < as_of]
        exposures = sum("exposures" in update.amounts for update in within)
        clicks = sum("clicks" in update.amounts for update in within)
        strength = self.settings.prior_strength
        return {
            "session_lists": impressions,
            "session_exposures": exposures,
            "session_clicks": clicks,
            "session_ctr": (clicks + strength * 0.05) / (exposures + strength),
            "session_minutes": (as_of - began) / timedelta(minutes=1),
        }


@pytest.fixture(scope="session")
def oracle() -> type[Oracle]:
    return Oracle
