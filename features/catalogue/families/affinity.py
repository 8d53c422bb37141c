"""What the user took and passed over among items with the candidate's values of an attribute."""

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
from features.config.project import Project


def affinity_features(project: Project) -> Iterator[Feature]:
    """For each declared attribute: takes, passes, rates, and how they compare with everybody's."""
    for name in project.items.categorical:
        for half_life in project.features.half_lives:
            yield from _of(name, half_life, project)
        yield Feature(f"user_{name}_hours_since", "affinity", f"hours since the user last met the item's {name}",
                      hours(read("user_attribute", "last_at", name)), "", True)  # fmt: skip
        yield Feature(f"user_{name}_hours_since_click", "affinity", f"hours since the user took the item's {name}",
                      hours(read("user_attribute", "clicked_at", name)), "", True)  # fmt: skip
        known = read("user_attribute", "clicked", name) / read("version", "values", name).at_least(1)
        yield Feature(f"user_{name}_known", "affinity", f"share of the item's values of {name} that the user ever took",
                      known, f"{METARANK}: interacted with", True)  # fmt: skip

    for name in project.items.numeric:
        for half_life in project.features.half_lives:
            tail, when = suffix(half_life), span(half_life)
            usual = mean("user", f"{name}_sum", f"{name}_known", half_life, project)
            yield Feature(
                f"user_{name}_usual{tail}",
                "affinity",
                f"smoothed mean {name} of what the user took, {when}",
                usual,
            )
            gap = read("version", "number", name).less(usual).abs()
            yield Feature(f"user_{name}_gap{tail}", "affinity", f"how far the item's {name} is from that, {when}",
                          gap, "", True)  # fmt: skip


def _of(name: str, half_life: str, project: Project) -> Iterator[Feature]:
    tail, when = suffix(half_life), span(half_life)
    clicks = counted("user_attribute", "clicks", half_life, name)
    passed = counted("user_attribute", "exposures", half_life, name).less(clicks)
    own = click_rate("user_attribute", half_life, project, click_rate("user", half_life, project), name)
    taken = counted("user", "clicks", half_life)
    yield Feature(f"user_{name}_clicks{tail}", "affinity", f"the user's takes of the item's {name}, {when}",
                  clicks, METARANK, True)  # fmt: skip
    yield Feature(f"user_{name}_passed{tail}", "affinity", f"the user's passes of the item's {name}, {when}",
                  passed, "", True)  # fmt: skip
    yield Feature(f"user_{name}_ctr{tail}", "affinity", f"the user's smoothed click rate of the item's {name}, {when}",
                  own, BAYES, True)  # fmt: skip
    lift = own / click_rate("attribute", half_life, project, part=name)
    yield Feature(f"user_{name}_lift{tail}", "affinity", f"that rate over everybody's of the {name}, {when}",
                  lift, "lift (Brin et al. 1997)", True)  # fmt: skip
    yield Feature(f"user_{name}_share{tail}", "affinity", f"takes of the {name} per take of anything, {when}",
                  clicks / (taken + project.features.prior_strength), "", True)  # fmt: skip
