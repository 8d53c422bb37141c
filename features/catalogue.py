"""The catalogue: every feature a candidate can have, declared once.

A feature is a name, a family, a meaning and the expression that reads it from what `behaviour.py` has joined:
`{grain}:{counter}` for the state's counters, `number:{name}` for declared numbers, `text_*` for similarities.
The same list makes the training table, the daily slice, a live request and the documentation.
"""

from dataclasses import dataclass

import polars as pl

from features.decay import column
from features.lists import FORMS
from features.project import Project
from features.similarity import COLUMNS as TEXT_COLUMNS
from features.state import kinds_counted

_FIRST_RATE = 0.05  # a click rate to start from, worth `prior_strength` exposures, before anything is known


@dataclass(frozen=True)
class Feature:
    """One column of the features table."""

    name: str
    family: str
    """item, attribute, user, affinity, pair, text or context."""
    meaning: str
    value: pl.Expr
    compared: bool = False
    """Whether its list-relative forms are features too."""


def features(project: Project) -> list[Feature]:
    """The features that this project's state can be asked for, before their list-relative forms."""
    return [
        *_item_features(project),
        *_attribute_features(project),
        *_user_features(project),
        *_affinity_features(project),
        *_pair_features(),
        *_text_features(),
        *_context_features(),
    ]


def catalogue(project: Project) -> pl.DataFrame:
    """`name, family, meaning` of every column of the features table, list-relative forms included."""
    declared = features(project)
    rows = [(f.name, f.family, f.meaning) for f in declared]
    for form, words in FORMS.items():
        rows += [(f"{f.name}_{form}", f.family, f"{f.meaning}: {words}") for f in declared if f.compared]
    return pl.DataFrame(rows, schema=["name", "family", "meaning"], orient="row")


def _item_features(project: Project) -> list[Feature]:
    found = []
    for half_life in project.features.half_lives:
        span = _span(half_life)
        name = _suffix(half_life)
        rate = _rate("item", half_life, project)
        found += [
            Feature(
                f"item_exposures{name}",
                "item",
                f"times shown, {span}",
                _counter("item", "exposures", half_life),
            ),
            Feature(
                f"item_clicks{name}",
                "item",
                f"times taken, {span}",
                _counter("item", "clicks", half_life),
                True,
            ),
            Feature(f"item_ctr{name}", "item", f"smoothed click rate, {span}", rate, True),
        ]
    longest = project.features.half_lives[-1]
    for kind, quantity in list(kinds_counted(project).items())[1:]:
        value = _counter("item", quantity, longest)
        found.append(
            Feature(
                f"item_{quantity}{_suffix(longest)}", "item", f"{kind}s received, {_span(longest)}", value
            )
        )
    shortest = _rate("item", project.features.half_lives[0], project)
    found += [
        Feature(
            "item_trend",
            "item",
            "click rate of late over click rate of old",
            shortest / _rate("item", longest, project),
        ),
        Feature(
            "item_age_hours",
            "item",
            "hours since it was published, or its version became known",
            _hours(pl.col("born_at")),
        ),
        Feature(
            "item_hours_since_shown",
            "item",
            "hours since anybody saw or took it",
            _hours(pl.col("item:last_at")),
        ),
    ]
    found += [
        Feature(f"item_{name}", "item", f"declared number {name}", pl.col(f"number:{name}"), True)
        for name in project.items.numeric
    ]
    return found


def _attribute_features(project: Project) -> list[Feature]:
    return [
        Feature(
            f"item_{a}_ctr{_suffix(h)}",
            "attribute",
            f"smoothed click rate of the item's {a}, everybody's, {_span(h)}",
            _rate(f"attribute:{a}", h, project),
            True,
        )
        for a in project.items.categorical
        for h in project.features.half_lives
    ]


def _user_features(project: Project) -> list[Feature]:
    found = []
    for h in project.features.half_lives:
        name = _suffix(h)
        found += [
            Feature(
                f"user_exposures{name}",
                "user",
                f"items shown to the user, {_span(h)}",
                _counter("user", "exposures", h),
            ),
            Feature(
                f"user_clicks{name}",
                "user",
                f"items the user took, {_span(h)}",
                _counter("user", "clicks", h),
            ),
            Feature(
                f"user_ctr{name}",
                "user",
                f"the user's smoothed click rate, {_span(h)}",
                _rate("user", h, project),
            ),
        ]
    last = _hours(pl.col("user:last_at"))
    return [*found, Feature("user_hours_since", "user", "hours since the user's last event", last)]


def _affinity_features(project: Project) -> list[Feature]:
    found = []
    for a in project.items.categorical:
        for h in project.features.half_lives:
            grain, name, span = f"user_attribute:{a}", _suffix(h), _span(h)
            clicks = _counter(grain, "clicks", h)
            passed = _counter(grain, "exposures", h) - clicks
            rate = _rate(grain, h, project, prior=_rate("user", h, project))
            found += [
                Feature(
                    f"user_{a}_clicks{name}",
                    "affinity",
                    f"the user's takes of the item's {a}, {span}",
                    clicks,
                    True,
                ),
                Feature(
                    f"user_{a}_passed{name}",
                    "affinity",
                    f"the user's passes of the item's {a}, {span}",
                    passed,
                ),
                Feature(
                    f"user_{a}_ctr{name}",
                    "affinity",
                    f"the user's smoothed click rate of the item's {a}, {span}",
                    rate,
                    True,
                ),
            ]
    return found


def _pair_features() -> list[Feature]:
    return [
        Feature(
            "pair_exposures", "pair", "times this user was shown this item", pl.col("user_item:exposures_all")
        ),
        Feature("pair_clicks", "pair", "times this user took this item", pl.col("user_item:clicks_all")),
        Feature(
            "pair_hours_since",
            "pair",
            "hours since this user met this item",
            _hours(pl.col("user_item:last_at")),
        ),
    ]


def _text_features() -> list[Feature]:
    meanings = {
        "text_clicked_mean": "mean likeness of the text to what the user lately took",
        "text_clicked_max": "greatest likeness of the text to anything the user lately took",
        "text_clicked_last": "likeness of the text to what the user took last",
        "text_passed_mean": "mean likeness of the text to what the user lately passed over",
        "text_passed_max": "greatest likeness of the text to anything the user lately passed over",
    }
    taste = pl.col("text_clicked_mean") - pl.col("text_passed_mean")
    return [
        *(Feature(name, "text", meanings[name], pl.col(name), True) for name in TEXT_COLUMNS),
        Feature(
            "text_taste",
            "text",
            "likeness to what was taken, less likeness to what was passed over",
            taste,
            True,
        ),
    ]


def _context_features() -> list[Feature]:
    local = pl.col("as_of").dt
    return [
        Feature("list_size", "context", "candidates in the list", pl.len().over("impression_id")),
        Feature("hour", "context", "hour of the day, UTC", local.hour()),
        Feature("weekday", "context", "day of the week, 1 for Monday", local.weekday()),
    ]


def _counter(grain: str, quantity: str, half_life: str) -> pl.Expr:
    return pl.col(f"{grain}:{column(quantity, half_life)}")


def _rate(grain: str, half_life: str, project: Project, prior: pl.Expr | None = None) -> pl.Expr:
    """(clicks + strength · prior) / (exposures + strength); the prior is everybody's rate unless given."""
    strength = project.features.prior_strength
    if prior is None:
        everything = [_counter("everything", q, half_life) for q in ("clicks", "exposures")]
        prior = (everything[0] + strength * _FIRST_RATE) / (everything[1] + strength)
    clicks, exposures = (_counter(grain, q, half_life) for q in ("clicks", "exposures"))
    return (clicks + strength * prior) / (exposures + strength)


def _hours(instant: pl.Expr) -> pl.Expr:
    return (pl.col("as_of") - instant).dt.total_microseconds() / 3.6e9


def _suffix(half_life: str) -> str:
    return column("", half_life)


def _span(half_life: str) -> str:
    return "ever" if half_life == "none" else f"half-life {half_life}"


def as_markdown(project: Project) -> str:
    """The catalogue as a Markdown page, by family."""
    rows = catalogue(project)
    lines = [
        f"# Features of `{project.name}`",
        "",
        f"{rows.height} columns, read strictly before each list. "
        f"Written by `python -m features projects/{project.name}.toml`.",
    ]
    for (family,), members in rows.group_by("family", maintain_order=True):
        lines += ["", f"## {family}", "", "| column | meaning |", "|---|---|"]
        lines += [
            f"| `{name}` | {meaning} |" for name, meaning in members.select("name", "meaning").iter_rows()
        ]
    return "\n".join(lines) + "\n"
