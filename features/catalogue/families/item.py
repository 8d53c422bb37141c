"""What the item is, and how everybody took it."""

from collections.abc import Iterator

from features.catalogue.families.feature import Feature
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
from features.catalogue.term import read
from features.config.project import Project
from features.state.counters import kinds_counted


def item_features(project: Project) -> Iterator[Feature]:
    """Counts, rates, ages and declared numbers of the item."""
    for half_life in project.features.half_lives:
        yield from _counts(half_life, project)
    yield Feature(
        "item_trend", "item", "click rate of late over click rate of old", trend("item", project), TREND, True
    )
    yield Feature("item_age_hours", "item", "hours since it was published, or its version became known",
                  hours(read("version", "born_at")), METARANK, True)  # fmt: skip
    yield Feature(
        "item_hours_since_shown", "item", "hours since anybody saw or took it", hours(read("item", "last_at"))
    )
    yield Feature(
        "item_hours_since_click",
        "item",
        "hours since anybody took it",
        hours(read("item", "clicked_at")),
        "",
        True,
    )
    yield Feature(
        "item_title_words", "item", "words of the title", read("version", "title_words"), METARANK, True
    )
    yield Feature(
        "item_body_words", "item", "words of the body", read("version", "body_words"), METARANK, True
    )
    for attribute in project.items.categorical:
        yield Feature(f"item_{attribute}_count", "item", f"how many values of {attribute} it has",
                      read("version", "values", attribute), METARANK)  # fmt: skip
    for name in project.items.numeric:
        yield Feature(
            f"item_{name}", "item", f"declared number {name}", read("version", "number", name), "", True
        )


def _counts(half_life: str, project: Project) -> Iterator[Feature]:
    tail, when = suffix(half_life), span(half_life)
    shown = counted("item", "exposures", half_life)
    yield Feature(f"item_exposures{tail}", "item", f"times shown, {when}", shown, "", True)
    taken = counted("item", "clicks", half_life)
    yield Feature(f"item_clicks{tail}", "item", f"times taken, {when}", taken, "", True)
    smoothed = click_rate("item", half_life, project)
    yield Feature(f"item_ctr{tail}", "item", f"smoothed click rate, {when}", smoothed, BAYES, True)
    debiased = over_expected("item", half_life, project)
    yield Feature(f"item_coec{tail}", "item", f"clicks over those expected where it was shown, {when}",
                  debiased, COEC, True)  # fmt: skip
    place = rate("item", "depth", "exposures", half_life, project, prior=1.0)
    yield Feature(
        f"item_position{tail}", "item", f"mean position at which it was shown, {when}", place, "", True
    )
    kinds = kinds_counted(project)
    for kind, quantity in list(kinds.items())[1:]:
        times = counted("item", quantity, half_life)
        yield Feature(f"item_{quantity}{tail}", "item", f"times it had a {kind}, {when}", times)
        share = rate("item", quantity, "exposures", half_life, project)
        yield Feature(f"item_{kind}_rate{tail}", "item", f"smoothed rate of {kind} per exposure, {when}",
                      share, BAYES, True)  # fmt: skip
    for kind in project.features.valued:
        usual = mean("item", f"{kinds[kind]}_value", kinds[kind], half_life, project)
        yield Feature(f"item_{kind}_mean{tail}", "item", f"smoothed mean value of its {kind}, none as 0, {when}",
                      usual, DWELL, True)  # fmt: skip
