"""Every kind of feature against its definition, told in plain loops over the raw events."""

import math
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.behaviour import read_features
from features.catalogue import catalogue, features
from features.project import Project
from features.state import SliceEvents, start

HALF_LIVES = {"1h": 3600.0, "all": None}


class Oracle:
    """What the features of one candidate are by definition: slow, and nothing shared with the code."""

    def __init__(self, events: SliceEvents, project: Project, vectors: pl.DataFrame) -> None:
        self.project = project
        self.items = list(events.items.iter_rows(named=True))
        self.lists = list(events.impressions.iter_rows(named=True))
        self.done = list(events.interactions.iter_rows(named=True))
        self.vectors = {(i, k): v for i, k, v in vectors.iter_rows()}

    def version(self, item: str, before: datetime) -> dict[str, Any] | None:
        known = [v for v in self.items if v["item_id"] == item and v["known_at"] < before]
        return max(known, key=lambda v: v["known_at"], default=None)

    def values(self, item: str, before: datetime, attribute: str) -> set[str]:
        version = self.version(item, before)
        return {a["value"] for a in version["attributes"] if a["name"] == attribute} if version else set()

    def facts(self, before: datetime) -> list[tuple[str, str, str, datetime]]:
        """(quantity, user, item, instant) of all that was known."""
        shown = [
            ("exposures", r["user_id"], c["item_id"], r["shown_at"])
            for r in self.lists
            for c in r["candidates"]
        ]
        names = {"click": "clicks", "comment": "comments"}
        done = [
            (names[d["kind"]], d["user_id"], d["item_id"], d["known_at"])
            for d in self.done
            if d["kind"] in names
        ]
        return [fact for fact in shown + done if fact[3] < before]

    def passes(self, user: str) -> list[tuple[datetime, str]]:
        """(instant, item) of what the user left untouched."""
        found = []
        mine = [r for r in self.lists if r["user_id"] == user]
        for r in mine:
            later = [n["shown_at"] - timedelta(microseconds=1) for n in mine if n["shown_at"] > r["shown_at"]]
            left_at = min([*later, r["shown_at"] + self.project.labels.attribution])
            for c in r["candidates"][: self.project.features.passed_per_list]:
                taken = any(
                    d["user_id"] == user
                    and d["item_id"] == c["item_id"]
                    and r["shown_at"] <= d["known_at"] <= left_at
                    for d in self.done
                )
                if not taken:
                    found.append((left_at, c["item_id"]))
        return found

    def likeness(self, item: str, past: list[tuple[Any, ...]], as_of: datetime) -> tuple[float, float, float]:
        """Mean, greatest and last similarity to the newest of the past."""

        def vector(of: str) -> list[float] | None:
            version = self.version(of, as_of)
            return self.vectors.get((of, version["known_at"])) if version else None

        own = vector(item)
        newest = sorted(moment for moment in past if moment[0] < as_of)[-self.project.features.recent :]
        others = [vector(moment[1]) for moment in newest]
        if own is None or not others:
            return math.nan, math.nan, math.nan
        near = [math.nan if o is None else sum(a * b for a, b in zip(own, o, strict=True)) for o in others]
        there = [n for n in near if not math.isnan(n)]
        if not there:
            return math.nan, math.nan, math.nan
        return sum(there) / len(there), max(there), near[-1]

    def features(self, impression: dict[str, Any], item: str) -> dict[str, float]:
        user, as_of = impression["user_id"], impression["shown_at"]
        facts = self.facts(as_of)
        strength = self.project.features.prior_strength
        out: dict[str, float] = {}

        def total(
            chosen: list[tuple[str, str, str, datetime]], quantity: str, half_life: float | None
        ) -> float:
            ages = [(as_of - when).total_seconds() for q, _, _, when in chosen if q == quantity]
            return sum(1.0 if half_life is None else 2 ** (-age / half_life) for age in ages)

        def rate(chosen: list[tuple[str, str, str, datetime]], h: float | None, prior: float) -> float:
            return (total(chosen, "clicks", h) + strength * prior) / (
                total(chosen, "exposures", h) + strength
            )

        def hours(instants: list[datetime]) -> float:
            return (as_of - max(instants)).total_seconds() / 3600 if instants else math.nan

        of_item = [f for f in facts if f[2] == item]
        of_user = [f for f in facts if f[1] == user]
        of_pair = [f for f in of_item if f[1] == user]
        for name, h in HALF_LIVES.items():
            everybody = rate(facts, h, 0.05)
            habit = rate(of_user, h, everybody)
            out |= {
                f"item_exposures_{name}": total(of_item, "exposures", h),
                f"item_clicks_{name}": total(of_item, "clicks", h),
                f"item_ctr_{name}": rate(of_item, h, everybody),
                f"user_exposures_{name}": total(of_user, "exposures", h),
                f"user_clicks_{name}": total(of_user, "clicks", h),
                f"user_ctr_{name}": habit,
            }
            for attribute in self.project.items.categorical:
                mine = self.values(item, as_of, attribute)
                valued = [f for f in facts for v in self.values(f[2], f[3], attribute) if v in mine]
                own = [f for f in valued if f[1] == user]
                taken = total(own, "clicks", h)
                out |= {
                    f"item_{attribute}_ctr_{name}": rate(valued, h, everybody),
                    f"user_{attribute}_clicks_{name}": taken,
                    f"user_{attribute}_passed_{name}": total(own, "exposures", h) - taken,
                    f"user_{attribute}_ctr_{name}": rate(own, h, habit),
                }
        version = self.version(item, as_of)
        numbers = {n["name"]: n["value"] for n in version["numbers"]} if version else {}
        born_at = (version["published_at"] or version["known_at"]) if version else None
        taken_moments = [
            (d["known_at"], d["item_id"], d["kind"])
            for d in self.done
            if d["user_id"] == user and d["kind"] in ("click", "comment")
        ]
        clicked = self.likeness(item, taken_moments, as_of)
        passed = self.likeness(item, self.passes(user), as_of)
        return out | {
            "item_comments_all": total(of_item, "comments", None),
            "item_trend": out["item_ctr_1h"] / out["item_ctr_all"],
            "item_age_hours": hours([born_at] if born_at else []),
            "item_hours_since_shown": hours([f[3] for f in of_item]),
            "item_length": numbers.get("length", math.nan),
            "user_hours_since": hours([f[3] for f in of_user]),
            "pair_exposures": total(of_pair, "exposures", None),
            "pair_clicks": total(of_pair, "clicks", None),
            "pair_hours_since": hours([f[3] for f in of_pair]),
            "text_clicked_mean": clicked[0],
            "text_clicked_max": clicked[1],
            "text_clicked_last": clicked[2],
            "text_passed_mean": passed[0],
            "text_passed_max": passed[1],
            "text_taste": clicked[0] - passed[0],
            "list_size": float(len(impression["candidates"])),
            "hour": float(as_of.hour),
            "weekday": float(as_of.isoweekday()),
        }


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_every_feature_is_what_its_definition_says(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = toy.project()
    vectors = toy.vectors(world.items)
    oracle = Oracle(world, project, vectors)
    cuts = data.draw(st.sets(st.integers(1, 30), max_size=2))

    found, _ = toy.walk(world, project, [toy.START + n * toy.STEP for n in cuts])

    rows = {(row["impression_id"], row["item_id"]): row for row in found.iter_rows(named=True)}
    declared = [f.name for f in features(project)]
    assert len(rows) == sum(len(r["candidates"]) for r in oracle.lists)
    for impression in oracle.lists:
        for candidate in impression["candidates"]:
            expected = oracle.features(impression, candidate["item_id"])
            assert sorted(expected) == sorted(declared)
            row = rows[impression["impression_id"], candidate["item_id"]]
            for name, value in expected.items():
                seen = math.nan if row[name] is None else row[name]
                assert seen == pytest.approx(value, rel=2e-6, abs=2e-6, nan_ok=True), name


def test_features_are_the_catalogue_in_float32(toy: SimpleNamespace) -> None:
    project = toy.project()
    shown = toy.impressions(("r", "u", toy.at(5), ["b", "a"]))
    events = SliceEvents(toy.items(), shown, toy.interactions())

    found = read_features(start(project), events, project, toy.vectors(toy.items()))

    assert found.columns == ["impression_id", "item_id", *catalogue(project)["name"]]
    assert set(found.dtypes[2:]) == {pl.Float32}
    assert found["item_id"].to_list() == ["b", "a"]


def test_a_stretch_without_impressions_has_no_features_but_their_columns(toy: SimpleNamespace) -> None:
    project = toy.project()
    events = SliceEvents(toy.items(), toy.impressions(), toy.interactions())

    found = read_features(start(project), events, project, toy.vectors(toy.items()))

    assert found.height == 0
    assert found.columns[2:] == catalogue(project)["name"].to_list()


def test_a_candidate_without_a_value_of_an_attribute_has_everybodys_rate(toy: SimpleNamespace) -> None:
    project = toy.project()
    events = SliceEvents(
        toy.items(toy.item("plain", toy.START), toy.item("tagged", toy.START, tags=["x"])),
        toy.impressions(("r", "u", toy.at(5), ["plain", "tagged", "unknown"])),
        toy.interactions(),
    )

    found = read_features(start(project), events, project, toy.vectors(toy.items()))

    np.testing.assert_allclose(found["item_category_ctr_all"].to_list(), [0.05] * 3, rtol=1e-6)


def test_a_project_without_attributes_and_numbers_has_features(toy: SimpleNamespace) -> None:
    project = toy.project(items={"numeric": (), "categorical": ()})
    events = SliceEvents(toy.items(), toy.impressions(("r", "u", toy.at(5), ["a"])), toy.interactions())

    found = read_features(start(project), events, project, toy.vectors(toy.items()))

    assert found["item_ctr_all"].to_list() == pytest.approx([0.05])
    assert not [name for name in found.columns if "category" in name]
