"""All users' response to items that share the candidate's attribute values."""

from collections.abc import Iterator

from features.catalogue.families.feature import Feature
from features.catalogue.families.reading import (
    BAYES,
    COEC,
    TREND,
    click_rate,
    counted,
    over_expected,
    span,
    suffix,
    trend,
)
from features.config.sections import BehaviourConfig


def attribute_features(config: BehaviourConfig) -> Iterator[Feature]:
    """Per declared attribute: exposures, click rate, clicks over expected and trend, summed over the item's values."""
    for name in config.items.categorical:
        for half_life in config.features.half_lives:
            tail, when = suffix(half_life), span(half_life)
            exposures = counted("attribute", "exposures", half_life, name)
            yield Feature(
                f"item_{name}_exposures{tail}",
                "attribute",
                f"exposures of its {name}, {when}",
                exposures,
            )
            ctr = click_rate("attribute", half_life, config, part=name)
            yield Feature(f"item_{name}_ctr{tail}", "attribute", f"smoothed click rate of its {name}, {when}",
                          ctr, BAYES, True)  # fmt: skip
            coec = over_expected("attribute", half_life, config, name)
            yield Feature(f"item_{name}_coec{tail}", "attribute",
                          f"clicks on its {name} over clicks expected at its positions, {when}",
                          coec, COEC, True)  # fmt: skip
        yield Feature(f"item_{name}_trend", "attribute",
                      f"recent click rate of its {name} over the long-term one",
                      trend("attribute", config, name), TREND, True)  # fmt: skip
