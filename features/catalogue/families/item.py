"""The item and its attribute values, and all users' response to them."""

from collections.abc import Iterator

from features.catalogue.families.reading import (
    BAYES,
    COEC,
    DWELL,
    METARANK,
    TREND,
    click_rate,
    counted,
    hours,
    mean,
    over_expected,
    rate,
    span,
    suffix,
    trend,
)
from features.catalogue.term import Feature, read
from features.config.sections import BehaviourConfig
from features.state.counters import kinds_counted


def item_features(config: BehaviourConfig) -> Iterator[Feature]:
    """The item's counts, rates, ages, text lengths and declared numbers."""
    for half_life in config.features.half_lives:
        yield from _counts(half_life, config)
    yield Feature(
        "item_trend",
        "item",
        "recent click rate over long-term click rate",
        trend("item", config),
        TREND,
        True,
    )
    yield Feature("item_age_hours", "item", "hours since publication, else since this version became known",
                  hours(read("version", "born_at")), METARANK, True)  # fmt: skip
    yield Feature(
        "item_hours_since_shown",
        "item",
        "hours since it was last shown or clicked",
        hours(read("item", "last_at")),
    )
    yield Feature(
        "item_hours_since_click",
        "item",
        "hours since its last click",
        hours(read("item", "clicked_at")),
        "",
        True,
    )
    yield Feature(
        "item_title_words", "item", "words in the title", read("version", "title_words"), METARANK, True
    )
    yield Feature(
        "item_body_words", "item", "words in the body", read("version", "body_words"), METARANK, True
    )
    for attribute in config.items.categorical:
        yield Feature(f"item_{attribute}_count", "item", f"number of {attribute} values",
                      read("version", "values", attribute), METARANK)  # fmt: skip
    for name in config.items.numeric:
        yield Feature(f"item_{name}", "item", f"the item's {name}", read("version", "number", name), "", True)


def _counts(half_life: str, config: BehaviourConfig) -> Iterator[Feature]:
    tail, when = suffix(half_life), span(half_life)
    exposures = counted("item", "exposures", half_life)
    yield Feature(f"item_exposures{tail}", "item", f"exposures, {when}", exposures, "", True)
    clicks = counted("item", "clicks", half_life)
    yield Feature(f"item_clicks{tail}", "item", f"clicks, {when}", clicks, "", True)
    ctr = click_rate("item", half_life, config)
    yield Feature(f"item_ctr{tail}", "item", f"smoothed click rate, {when}", ctr, BAYES, True)
    coec = over_expected("item", half_life, config)
    yield Feature(f"item_coec{tail}", "item", f"clicks over clicks expected at its positions, {when}",
                  coec, COEC, True)  # fmt: skip
    position = rate("item", "depth", "exposures", half_life, config, prior=1.0)
    yield Feature(
        f"item_position{tail}", "item", f"smoothed mean displayed position, {when}", position, "", True
    )
    kinds = kinds_counted(config)
    for kind, quantity in list(kinds.items())[1:]:
        count = counted("item", quantity, half_life)
        yield Feature(f"item_{quantity}{tail}", "item", f"number of {kind} interactions, {when}", count)
        kind_rate = rate("item", quantity, "exposures", half_life, config)
        yield Feature(f"item_{kind}_rate{tail}", "item", f"smoothed {kind} interactions per exposure, {when}",
                      kind_rate, BAYES, True)  # fmt: skip
    for kind in config.features.valued:
        mean_value = mean("item", f"{kinds[kind]}_value", kinds[kind], half_life, config)
        yield Feature(f"item_{kind}_mean{tail}", "item",
                      f"smoothed mean value of its {kind} interactions, missing as 0, {when}",
                      mean_value, DWELL, True)  # fmt: skip


def attribute_features(config: BehaviourConfig) -> Iterator[Feature]:
    """Per declared attribute: exposures, click rate, clicks over expected and trend, summed over the item's values."""
    for name in config.items.categorical:
        for half_life in config.features.half_lives:
            tail, when = suffix(half_life), span(half_life)
            exposures = counted("attribute", "exposures", half_life, name)
            yield Feature(
                f"item_{name}_exposures{tail}", "attribute", f"exposures of its {name}, {when}", exposures
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
