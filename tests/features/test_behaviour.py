"""Every feature against its definition, told of what the slow oracle of `conftest.py` says is true."""

import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.catalogue import features
from features.config.project import Project
from features.state import SliceEvents

SECONDS = {"30m": 1800.0, "1h": 3600.0, "4h": 14400.0, "none": None}


def clicked(facts: list[Any]) -> list[Any]:
    return [fact for fact in facts if "clicks" in fact.amounts]


class View:
    """What can be said of one candidate when it is shown."""

    def __init__(self, told: Any, impression: dict[str, Any], item: str) -> None:
        self.told, self.impression, self.item = told, impression, item
        self.user, self.as_of = impression["user_id"], impression["shown_at"]
        self.facts = [fact for fact in told.facts if fact.at < self.as_of]
        self.values = told.values(item, self.as_of)
        self.version, self.numbers = told.version(item, self.as_of), told.numbers(item, self.as_of)
        self.others = [(kind, name) for kind, name in told.kinds.items() if kind != "click"]
        self.strength = told.settings.prior_strength
        self.of_item, self.of_user, self.of_pair = (
            self.of([f for f in self.facts if chosen(f)])
            for chosen in (
                lambda f: f.item == item,
                lambda f: f.user == self.user,
                lambda f: f.item == item and f.user == self.user,
            )
        )

    def features(self) -> dict[str, float]:
        """Every feature, by name."""
        project = self.told.project
        spans = {span: "all" if span == "none" else span for span in project.features.half_lives}
        out = self.plain() | self.told.session(self.impression)
        for span, tail in spans.items():
            out |= self.spanned(span, tail)
        short, *_, long = (*spans.values(), "all")
        for grain in ("item", "user", *(f"item_{name}" for name in project.items.categorical)):
            out[f"{grain}_trend"] = out[f"{grain}_ctr_{short}"] / out[f"{grain}_ctr_{long}"]
        return out

    def of(self, *groups: list[Any]) -> list[Any]:
        return [fact for group in groups for fact in self.told.remembered(group, self.as_of)]

    def with_value(self, value: tuple[str, str]) -> list[Any]:
        return [f for f in self.facts if value in f.values]

    def own(self, facts: list[Any]) -> list[Any]:
        return [f for f in facts if f.user == self.user]

    def total(self, chosen: list[Any], quantity: str, span: str) -> float:
        h = SECONDS[span]
        ages = [(f.amounts.get(quantity, 0.0), (self.as_of - f.at).total_seconds()) for f in chosen]
        return sum(amount * (1.0 if h is None else 2 ** (-age / h)) for amount, age in ages)

    def rate(
        self, chosen: list[Any], part: str, whole: str, span: str, prior: float, worth: float = 1.0
    ) -> float:
        start = self.strength * worth
        return (self.total(chosen, part, span) + start * prior) / (self.total(chosen, whole, span) + start)

    def ctr(self, chosen: list[Any], span: str, prior: float | None = None) -> float:
        prior = self.rate(self.facts, "clicks", "exposures", span, 0.05) if prior is None else prior
        return self.rate(chosen, "clicks", "exposures", span, prior)

    def coec(self, chosen: list[Any], span: str) -> float:
        return self.rate(chosen, "clicks", "expected", span, 1.0, worth=0.05)

    def mean(self, chosen: list[Any], part: str, whole: str, span: str) -> float:
        everybody = self.rate(self.facts, part, whole, span, 0.0, worth=0.05)
        return self.rate(chosen, part, whole, span, everybody, worth=0.05)

    def hours(self, chosen: list[Any]) -> float:
        return (self.as_of - max(f.at for f in chosen)) / timedelta(hours=1) if chosen else math.nan

    def spanned(self, span: str, tail: str) -> dict[str, float]:
        """What is told for each half-life."""
        project, out = self.told.project, {}
        for grain, chosen in (("item", self.of_item), ("user", self.of_user)):
            out |= {
                f"{grain}_exposures": self.total(chosen, "exposures", span),
                f"{grain}_clicks": self.total(chosen, "clicks", span),
                f"{grain}_ctr": self.ctr(chosen, span),
                f"{grain}_coec": self.coec(chosen, span),
            }
            for kind, name in self.others:
                prior = self.rate(self.facts, name, "exposures", span, 0.0)
                out[f"{grain}_{kind}_rate"] = self.rate(chosen, name, "exposures", span, prior)
            for kind in self.told.settings.valued:
                out[f"{grain}_{kind}_mean"] = self.mean(chosen, "value", "views", span)
        out |= {f"item_{name}": self.total(self.of_item, name, span) for _, name in self.others}
        out["item_position"] = self.rate(self.of_item, "position", "exposures", span, 1.0)
        for attribute in project.items.categorical:
            met = [self.with_value(value) for value in self.values if value[0] == attribute]
            every, own = self.of(*met), self.of(*map(self.own, met))
            taken, habit = self.total(own, "clicks", span), self.ctr(own, span, out["user_ctr"])
            out |= {
                f"item_{attribute}_exposures": self.total(every, "exposures", span),
                f"item_{attribute}_ctr": self.ctr(every, span),
                f"item_{attribute}_coec": self.coec(every, span),
                f"user_{attribute}_clicks": taken,
                f"user_{attribute}_passed": self.total(own, "exposures", span) - taken,
                f"user_{attribute}_ctr": habit,
                f"user_{attribute}_lift": habit / self.ctr(every, span),
                f"user_{attribute}_share": taken / (out["user_clicks"] + self.strength),
            }
        for number in project.items.numeric:
            usual = self.mean(self.of_user, f"sum {number}", f"known {number}", span)
            out[f"user_{number}_usual"] = usual
            out[f"user_{number}_gap"] = abs(self.numbers.get(number, math.nan) - usual)
        for occasion in project.context.categorical:
            met = [[f for f in self.facts if c["value"] in f.surface] for c in self.impression["context"]]
            own = self.of(*([f for f in one if f.item == self.item] for one in met))
            out[f"context_{occasion}_ctr"] = self.ctr(self.of(*met), span)
            out[f"item_{occasion}_ctr"] = self.ctr(own, span, out["item_ctr"])
        return {f"{name}_{tail}": value for name, value in out.items()}

    def attribute(self, name: str) -> dict[str, float]:
        """What is told once of an attribute."""
        mine = [value for value in self.values if value[0] == name]
        own = [self.of(self.own(self.with_value(value))) for value in mine]
        known = sum(bool(clicked(one)) for one in own) / max(len(mine), 1)
        shown = [c["item_id"] for c in self.impression["candidates"]]
        every = [{v for v in self.told.values(item, self.as_of) if v[0] == name} for item in shown]
        return {
            f"user_{name}_hours_since": self.hours([f for one in own for f in one]),
            f"user_{name}_hours_since_click": self.hours([f for one in own for f in clicked(one)]),
            f"user_{name}_known": known if self.version else math.nan,
            f"user_{name}_entropy": self.told.entropy(self.of_user, name),
            f"item_{name}_count": float(len(mine)) if self.version else math.nan,
            f"list_{name}_variety": len(set().union(*every)) / len(shown),
            f"list_{name}_shared": sum(v in values for v in mine for values in every) / len(shown),
        }

    def texts(self) -> dict[str, float]:
        moments = [
            (d["known_at"], d["item_id"], d["kind"])
            for d in self.told.done
            if d["user_id"] == self.user and d["kind"] in ("click", "comment")
        ]
        taken = self.told.similarity(self.item, moments, self.as_of)
        passed = self.told.similarity(self.item, self.told.passes(self.user), self.as_of)
        return {
            f"text_{action}_{how}": value
            for action, found in (("clicked", taken), ("skipped", passed))
            for how, value in zip(("mean", "max", "lse"), found, strict=True)
        } | {"text_taste": taken[0] - passed[0]}

    def plain(self) -> dict[str, float]:
        """What is told once, whatever the half-life."""
        version, nothing = self.version, math.nan
        born_at = (version["published_at"] or version["known_at"]) if version else None
        seen, taken = (self.total(self.of_pair, quantity, "none") for quantity in ("exposures", "clicks"))
        out = self.texts()
        for name in self.told.project.items.categorical:
            out |= self.attribute(name)
        return out | {
            "item_age_hours": (self.as_of - born_at) / timedelta(hours=1) if born_at else nothing,
            "item_hours_since_shown": self.hours(self.of_item),
            "item_hours_since_click": self.hours(clicked(self.of_item)),
            "item_title_words": float(len(version["title"].split())) if version else nothing,
            "item_body_words": float(len((version["body"] or "").split())) if version else nothing,
            **{f"item_{n}": self.numbers.get(n, nothing) for n in self.told.project.items.numeric},
            "user_hours_since": self.hours(self.of_user),
            "user_hours_since_click": self.hours(clicked(self.of_user)),
            "pair_seen": float(seen > 0),
            "pair_exposures": seen,
            "pair_clicks": taken,
            "pair_skips": seen - taken,
            **{f"pair_{name}": self.total(self.of_pair, name, "none") for _, name in self.others},
            "pair_hours_since": self.hours(self.of_pair),
            "pair_hours_since_click": self.hours(clicked(self.of_pair)),
            "list_size": float(len(self.impression["candidates"])),
            "hour": float(self.as_of.hour),
            "weekday": float(self.as_of.isoweekday()),
        }


def relative(name: str, values: list[float]) -> list[float]:
    """A list-relative form of a list's values, of which some may be missing."""
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return values
    mean, greatest = sum(there) / len(there), max(there)
    spread = math.sqrt(sum((value - mean) ** 2 for value in there) / len(there))
    rounded = [np.float32(value) for value in there]

    def of(value: float) -> float:
        if name == "z":
            return (value - mean) / spread if spread > 1e-5 * max(map(abs, there)) else 0.0
        if name == "rank":
            return 1.0 + sum(other > np.float32(value) for other in rounded)
        if name == "share":
            return value / sum(there) if sum(there) > 0 else 0.0
        return value - greatest

    return [value if math.isnan(value) else of(value) for value in values]


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_every_feature_is_what_its_definition_says(
    toy: SimpleNamespace, oracle: Any, data: st.DataObject
) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())
    told = oracle(world, project, toy.vectors(world.items))
    cuts = data.draw(st.sets(st.sampled_from([*toy.instants(world), toy.at(95), toy.at(200)]), max_size=2))

    found, _ = toy.walk(world, project, cuts)

    rows = {(row["impression_id"], row["item_id"]): row for row in found.iter_rows(named=True)}
    assert len(rows) == sum(len(r["candidates"]) for r in told.lists)
    declared = {f.name: f.compared for f in features(project)}
    for impression in told.lists:
        shown = [c["item_id"] for c in impression["candidates"]]
        expected = [View(told, impression, item).features() for item in shown]
        assert sorted(expected[0]) == sorted(declared)
        for name, compared in declared.items():
            values = [of_item[name] for of_item in expected]
            columns = {name: values}
            if compared:
                columns |= {f"{name}_{form}": relative(form, values) for form in project.features.relative}
            for column, right in columns.items():
                read = [rows[impression["impression_id"], item][column] for item in shown]
                seen = [math.nan if value is None else value for value in read]
                assert seen == pytest.approx(right, rel=2e-6, abs=1e-7, nan_ok=True), column


def _renamed(events: SliceEvents, names: dict[str, str]) -> SliceEvents:
    """The same events, their declared attributes and numbers under other names."""
    items = events.items.with_columns(
        pl.col(column).list.eval(
            pl.struct(pl.element().struct.field("name").replace(names), pl.element().struct.field("value"))
        )
        for column in ("attributes", "numbers")
    )
    return SliceEvents(items, events.impressions, events.interactions)


def test_names_with_a_colon_are_names_like_any_other(toy: SimpleNamespace) -> None:
    names = {"category": "og:type", "tags": "og", "length": "og:len:gth"}
    odd = toy.project(items={"numeric": ["og:len:gth"], "categorical": ["og:type", "og"]})
    events = toy.busy()
    expected, _ = toy.walk(events, toy.project())
    found, _ = toy.walk(_renamed(events, names), odd)
    assert [name for name in found.columns if "og:type" in name]
    assert_frame_equal(found.rename(dict(zip(found.columns, expected.columns, strict=True))), expected)
