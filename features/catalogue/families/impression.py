"""The impression: when and where it was shown, and its composition."""

from collections.abc import Iterator

from features.catalogue.families.reading import BAYES, click_rate, span, suffix
from features.catalogue.term import Feature, read
from features.config.sections import BehaviourConfig


def context_features(config: BehaviourConfig) -> Iterator[Feature]:
    """Time of day and week; per declared context field, its click rate and the item's click rate in it."""
    yield Feature("hour", "context", "hour of the day, UTC", read("list", "hour"))
    yield Feature("weekday", "context", "day of the week, 1 for Monday", read("list", "weekday"))
    yield Feature("list_size", "context", "number of candidates in the impression", read("list", "size"))
    for name in config.context.categorical:
        for half_life in config.features.half_lives:
            tail, when = suffix(half_life), span(half_life)
            yield Feature(f"context_{name}_ctr{tail}", "context", f"smoothed click rate for the {name}, {when}",
                          click_rate("context", half_life, config, part=name), BAYES)  # fmt: skip
            prior = click_rate("item", half_life, config)
            yield Feature(f"item_{name}_ctr{tail}", "context", f"the item's smoothed click rate for the {name}, {when}",
                          click_rate("item_context", half_life, config, prior, name), BAYES, True)  # fmt: skip


def list_features(config: BehaviourConfig) -> Iterator[Feature]:
    """Per declared attribute: variety of the impression, and how common the candidate's values are in it."""
    for name in config.items.categorical:
        distinct = read("sharing", "distinct", name).sum()
        yield Feature(f"list_{name}_variety", "list", f"distinct {name} values in the impression, per candidate",
                      distinct / read("list", "size"), "intra-list diversity (Ziegler et al. 2005)")  # fmt: skip
        yield Feature(f"list_{name}_shared", "list", f"share of the impression's candidates with the item's {name}",
                      read("sharing", "shared", name) / read("list", "size"), "", True)  # fmt: skip
