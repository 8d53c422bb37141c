"""The user's clicks and skips on items that share the candidate's attribute values or numbers."""

from collections.abc import Iterator

from features.catalogue.families.feature import Feature
from features.catalogue.families.reading import (
    BAYES,
    METARANK,
    click_rate,
    counted,
    hours,
    mean,
    span,
    suffix,
)
from features.catalogue.term import read
from features.config.sections import BehaviourConfig


def affinity_features(config: BehaviourConfig) -> Iterator[Feature]:
    """Per attribute: clicks, skips, rates and lift over the global rate. Per number: the user's mean."""
    for name in config.items.categorical:
        for half_life in config.features.half_lives:
            yield from _rates(name, half_life, config)
        yield Feature(f"user_{name}_hours_since", "affinity",
                      f"hours since the user last saw or clicked the item's {name}",
                      hours(read("user_attribute", "last_at", name)), "", True)  # fmt: skip
        yield Feature(f"user_{name}_hours_since_click", "affinity",
                      f"hours since the user last clicked the item's {name}",
                      hours(read("user_attribute", "clicked_at", name)), "", True)  # fmt: skip
        clicked_share = read("user_attribute", "clicked", name) / read("version", "values", name).at_least(1)
        yield Feature(f"user_{name}_known", "affinity",
                      f"share of the item's {name} values that the user has ever clicked",
                      clicked_share, f"{METARANK}: interacted with", True)  # fmt: skip

    for name in config.items.numeric:
        for half_life in config.features.half_lives:
            tail, when = suffix(half_life), span(half_life)
            clicked_mean = mean("user", f"{name}_sum", f"{name}_known", half_life, config)
            yield Feature(
                f"user_{name}_usual{tail}",
                "affinity",
                f"smoothed mean {name} of the items the user clicked, {when}",
                clicked_mean,
            )
            gap = read("version", "number", name).less(clicked_mean).abs()
            yield Feature(f"user_{name}_gap{tail}", "affinity",
                          f"absolute difference between the item's {name} and the user's mean, {when}",
                          gap, "", True)  # fmt: skip


def _rates(name: str, half_life: str, config: BehaviourConfig) -> Iterator[Feature]:
    tail, when = suffix(half_life), span(half_life)
    clicks = counted("user_attribute", "clicks", half_life, name)
    skips = counted("user_attribute", "exposures", half_life, name).less(clicks)
    ctr = click_rate("user_attribute", half_life, config, click_rate("user", half_life, config), name)
    all_clicks = counted("user", "clicks", half_life)
    yield Feature(f"user_{name}_clicks{tail}", "affinity", f"the user's clicks on the item's {name}, {when}",
                  clicks, METARANK, True)  # fmt: skip
    yield Feature(f"user_{name}_skips{tail}", "affinity",
                  f"the user's exposures to the item's {name} without a click, {when}",
                  skips, "", True)  # fmt: skip
    yield Feature(f"user_{name}_ctr{tail}", "affinity", f"the user's smoothed click rate on the item's {name}, {when}",
                  ctr, BAYES, True)  # fmt: skip
    lift = ctr / click_rate("attribute", half_life, config, part=name)
    yield Feature(f"user_{name}_lift{tail}", "affinity",
                  f"the user's click rate on the item's {name} over all users', {when}",
                  lift, "lift (Brin et al. 1997)", True)  # fmt: skip
    yield Feature(f"user_{name}_share{tail}", "affinity",
                  f"share of the user's clicks that are on the item's {name}, smoothed, {when}",
                  clicks / (all_clicks + config.features.prior_strength), "", True)  # fmt: skip
