"""Every feature against its definition, computed from the slow oracle of `conftest.py`."""

import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.catalogue import features
from features.config.project import Project
from features.state import SliceEvents

SECONDS = {"30m": 1800.0, "1h": 3600.0, "4h": 14400.0, "none": None}


def clicked(updates: list[Any]) -> list[Any]:
    return [update for update in updates if "clicks" in update.amounts]


class View:
    """Expected features of one candidate."""

    def __init__(self, oracle: Any, impression: dict[str, Any], item: str) -> None:
        self.oracle, self.impression, self.item = oracle, impression, item
        self.user, self.as_of = impression["user_id"], impression["shown_at"]
        self.updates = [update for update in oracle.updates if update.at < self.as_of]
        self.values = oracle.values(item, self.as_of)
        self.version, self.numbers = oracle.version(item, self.as_of), oracle.numbers(item, self.as_of)
        self.others = [(kind, name) for kind, name in oracle.kinds.items() if kind != "click"]
        self.strength = oracle.settings.prior_strength
        self.of_item, self.of_user, self.of_pair = (
            self.of([f for f in self.updates if chosen(f)])
            for chosen in (
                lambda f: f.item == item,
                lambda f: f.user == self.user,
                lambda f: f.item == item and f.user == self.user,
            )
        )

    def features(self) -> dict[str, float]:
        """Every feature, by name."""
        project = self.oracle.project
        spans = {span: "all" if span == "none" else span for span in project.features.half_lives}
        out = self.plain() | self.oracle.session(self.impression)
        for span, tail in spans.items():
            out |= self.spanned(span, tail)
        short, *_, long = (*spans.values(), "all")
        for grain in ("item", "user", *(f"item_{name}" for name in project.items.categorical)):
            out[f"{grain}_trend"] = out[f"{grain}_ctr_{short}"] / out[f"{grain}_ctr_{long}"]
        return out

    def of(self, *groups: list[Any]) -> list[Any]:
        return [update for group in groups for update in self.oracle.unexpired(group, self.as_of)]

    def with_value(self, value: tuple[str, str]) -> list[Any]:
        return [f for f in self.updates if value in f.values]

    def own(self, updates: list[Any]) -> list[Any]:
        return [f for f in updates if f.user == self.user]

    def total(self, chosen: list[Any], quantity: str, span: str) -> float:
        h = SECONDS[span]
        ages = [(f.amounts.get(quantity, 0.0), (self.as_of - f.at).total_seconds()) for f in chosen]
        return sum(amount * (1.0 if h is None else 2 ** (-age / h)) for amount, age in ages)

    def rate(
        self,
        chosen: list[Any],
        numerator: str,
        denominator: str,
        span: str,
        prior: float,
        weight: float = 1.0,
    ) -> float:
        strength = self.strength * weight
        total, count = self.total(chosen, numerator, span), self.total(chosen, denominator, span)
        return (total + strength * prior) / (count + strength)

    def ctr(self, chosen: list[Any], span: str, prior: float | None = None) -> float:
        prior = self.rate(self.updates, "clicks", "exposures", span, 0.05) if prior is None else prior
        return self.rate(chosen, "clicks", "exposures", span, prior)

    def coec(self, chosen: list[Any], span: str) -> float:
        return self.rate(chosen, "clicks", "expected", span, 1.0, weight=0.05)

    def mean(self, chosen: list[Any], total: str, count: str, span: str) -> float:
        prior = self.rate(self.updates, total, count, span, 0.0, weight=0.05)
        return self.rate(chosen, total, count, span, prior, weight=0.05)

    def hours(self, chosen: list[Any]) -> float:
        return (self.as_of - max(f.at for f in chosen)) / timedelta(hours=1) if chosen else math.nan

    def spanned(self, span: str, tail: str) -> dict[str, float]:
        """Features that exist per half-life."""
        project, out = self.oracle.project, {}
        for grain, chosen in (("item", self.of_item), ("user", self.of_user)):
            out |= {
                f"{grain}_exposures": self.total(chosen, "exposures", span),
                f"{grain}_clicks": self.total(chosen, "clicks", span),
                f"{grain}_ctr": self.ctr(chosen, span),
                f"{grain}_coec": self.coec(chosen, span),
            }
            for kind, name in self.others:
                prior = self.rate(self.updates, name, "exposures", span, 0.0)
                out[f"{grain}_{kind}_rate"] = self.rate(chosen, name, "exposures", span, prior)
            for kind in self.oracle.settings.valued:
                out[f"{grain}_{kind}_mean"] = self.mean(chosen, "value", "views", span)
        out |= {f"item_{name}": self.total(self.of_item, name, span) for _, name in self.others}
        out["item_position"] = self.rate(self.of_item, "position", "exposures", span, 1.0)
        for attribute in project.items.categorical:
            by_value = [self.with_value(value) for value in self.values if value[0] == attribute]
            every, own = self.of(*by_value), self.of(*map(self.own, by_value))
            clicks, ctr = self.total(own, "clicks", span), self.ctr(own, span, out["user_ctr"])
            out |= {
                f"item_{attribute}_exposures": self.total(every, "exposures", span),
                f"item_{attribute}_ctr": self.ctr(every, span),
                f"item_{attribute}_coec": self.coec(every, span),
                f"user_{attribute}_clicks": clicks,
                f"user_{attribute}_skips": self.total(own, "exposures", span) - clicks,
                f"user_{attribute}_ctr": ctr,
                f"user_{attribute}_lift": ctr / self.ctr(every, span),
                f"user_{attribute}_share": clicks / (out["user_clicks"] + self.strength),
            }
        for number in project.items.numeric:
            user_mean = self.mean(self.of_user, f"sum {number}", f"known {number}", span)
            out[f"user_{number}_usual"] = user_mean
            out[f"user_{number}_gap"] = abs(self.numbers.get(number, math.nan) - user_mean)
        for field in project.context.categorical:
            matching = [
                [f for f in self.updates if c["value"] in f.surface] for c in self.impression["context"]
            ]
            own = self.of(*([f for f in group if f.item == self.item] for group in matching))
            out[f"context_{field}_ctr"] = self.ctr(self.of(*matching), span)
            out[f"item_{field}_ctr"] = self.ctr(own, span, out["item_ctr"])
        return {f"{name}_{tail}": value for name, value in out.items()}

    def attribute(self, name: str) -> dict[str, float]:
        """Features of an attribute that have no half-life."""
        mine = [value for value in self.values if value[0] == name]
        own = [self.of(self.own(self.with_value(value))) for value in mine]
        share_clicked = sum(bool(clicked(one)) for one in own) / max(len(mine), 1)
        shown = [c["item_id"] for c in self.impression["candidates"]]
        every = [{v for v in self.oracle.values(item, self.as_of) if v[0] == name} for item in shown]
        return {
            f"user_{name}_hours_since": self.hours([f for one in own for f in one]),
            f"user_{name}_hours_since_click": self.hours([f for one in own for f in clicked(one)]),
            f"user_{name}_known": share_clicked if self.version else math.nan,
            f"user_{name}_entropy": self.oracle.entropy(self.of_user, name),
            f"item_{name}_count": float(len(mine)) if self.version else math.nan,
            f"list_{name}_variety": len(set().union(*every)) / len(shown),
            f"list_{name}_shared": sum(v in values for v in mine for values in every) / len(shown),
        }

    def texts(self) -> dict[str, float]:
        moments = [
            (d["known_at"], d["item_id"], d["kind"])
            for d in self.oracle.interactions
            if d["user_id"] == self.user and d["kind"] in ("click", "comment")
        ]
        to_clicked = self.oracle.similarity(self.item, moments, self.as_of)
        to_skipped = self.oracle.similarity(self.item, self.oracle.skips(self.user), self.as_of)
        return {
            f"text_{action}_{how}": value
            for action, similarities in (("clicked", to_clicked), ("skipped", to_skipped))
            for how, value in zip(("mean", "max", "lse"), similarities, strict=True)
        } | {"text_taste": to_clicked[0] - to_skipped[0]}

    def plain(self) -> dict[str, float]:
        """Features that have no half-life."""
        version, missing = self.version, math.nan
        born_at = (version["published_at"] or version["known_at"]) if version else None
        exposures, clicks = (
            self.total(self.of_pair, quantity, "none") for quantity in ("exposures", "clicks")
        )
        out = self.texts()
        for name in self.oracle.project.items.categorical:
            out |= self.attribute(name)
        return out | {
            "item_age_hours": (self.as_of - born_at) / timedelta(hours=1) if born_at else missing,
            "item_hours_since_shown": self.hours(self.of_item),
            "item_hours_since_click": self.hours(clicked(self.of_item)),
            "item_title_words": float(len(version["title"].split())) if version else missing,
            "item_body_words": float(len((version["body"] or "").split())) if version else missing,
            **{f"item_{n}": self.numbers.get(n, missing) for n in self.oracle.project.items.numeric},
            "user_hours_since": self.hours(self.of_user),
            "user_hours_since_click": self.hours(clicked(self.of_user)),
            "pair_seen": float(exposures > 0),
            "pair_exposures": exposures,
            "pair_clicks": clicks,
            "pair_skips": exposures - clicks,
            **{f"pair_{name}": self.total(self.of_pair, name, "none") for _, name in self.others},
            "pair_hours_since": self.hours(self.of_pair),
            "pair_hours_since_click": self.hours(clicked(self.of_pair)),
            "list_size": float(len(self.impression["candidates"])),
            "hour": float(self.as_of.hour),
            "weekday": float(self.as_of.isoweekday()),
        }


def relative(name: str, values: list[float]) -> list[float]:
    """A list-relative form of an impression's values; some may be missing."""
    present = [value for value in values if not math.isnan(value)]
    if not present:
        return values
    mean, greatest = sum(present) / len(present), max(present)
    spread = math.sqrt(sum((value - mean) ** 2 for value in present) / len(present))
    rounded = [np.float32(value) for value in present]

    def of(value: float) -> float:
        if name == "z":
            return (value - mean) / spread if spread > 1e-5 * max(map(abs, present)) else 0.0
        if name == "rank":
            return 1.0 + sum(other > np.float32(value) for other in rounded)
        if name == "share":
            return value / sum(present) if sum(present) > 0 else 0.0
        return value - greatest

    return [value if math.isnan(value) else of(value) for value in values]


@settings(max_examples=30)
@given(data=st.data())
def test_every_feature_follows_its_definition(toy: SimpleNamespace, oracle: Any, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())
    reference = oracle(world, project, toy.vectors(world.items))
    cuts = data.draw(st.sets(st.sampled_from([*toy.instants(world), toy.at(95), toy.at(200)]), max_size=2))

    table, _ = toy.walk(world, project, cuts)

    rows = {(row["impression_id"], row["item_id"]): row for row in table.iter_rows(named=True)}
    assert len(rows) == sum(len(r["candidates"]) for r in reference.impressions)
    declared = {f.name: f.compared for f in features(project.behaviour) if f.family != "query"}
    for impression in reference.impressions:
        shown = [c["item_id"] for c in impression["candidates"]]
        expected = [View(reference, impression, item).features() for item in shown]
        assert sorted(expected[0]) == sorted(declared)
        for name, compared in declared.items():
            values = [of_item[name] for of_item in expected]
            columns = {name: values}
            if compared:
                columns |= {f"{name}_{form}": relative(form, values) for form in project.features.relative}
            for column, expected_values in columns.items():
                read = [rows[impression["impression_id"], item][column] for item in shown]
                actual = [math.nan if value is None else value for value in read]
                assert actual == pytest.approx(expected_values, rel=2e-6, abs=1e-7, nan_ok=True), column


def _renamed(events: SliceEvents, names: dict[str, str]) -> SliceEvents:
    """The same events with declared attributes and numbers renamed."""
    items = events.items.with_columns(
        pl.col(column).list.eval(
            pl.struct(pl.element().struct.field("name").replace(names), pl.element().struct.field("value"))
        )
        for column in ("attributes", "numbers")
    )
    return SliceEvents(items, events.impressions, events.interactions)


def test_names_may_contain_colons(toy: SimpleNamespace) -> None:
    names = {"category": "og:type", "tags": "og", "length": "og:len:gth"}
    odd = toy.project(items={"numeric": ["og:len:gth"], "categorical": ["og:type", "og"]})
    events = toy.busy()
    expected, _ = toy.walk(events, toy.project())
    found, _ = toy.walk(_renamed(events, names), odd)
    assert [name for name in found.columns if "og:type" in name]
    assert_frame_equal(found.rename(dict(zip(found.columns, expected.columns, strict=True))), expected)
