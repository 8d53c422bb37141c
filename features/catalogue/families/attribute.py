"""How everybody took items with the candidate's values of an attribute."""

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
from features.config.project import Project


def attribute_features(project: Project) -> Iterator[Feature]:
    """For each declared attribute: counts, rate, rate free of position, and trend, of the item's values together."""
    for name in project.items.categorical:
        for half_life in project.features.half_lives:
            tail, when = suffix(half_life), span(half_life)
            shown = counted("attribute", "exposures", half_life, name)
            yield Feature(
                f"item_{name}_exposures{tail}", "attribute", f"times its {name} was shown, {when}", shown
            )
            smoothed = click_rate("attribute", half_life, project, part=name)
            yield Feature(f"item_{name}_ctr{tail}", "attribute", f"smoothed click rate of its {name}, {when}",
                          smoothed, BAYES, True)  # fmt: skip
            debiased = over_expected("attribute", half_life, project, name)
            yield Feature(f"item_{name}_coec{tail}", "attribute", f"clicks over those expected of its {name}, {when}",
                          debiased, COEC, True)  # fmt: skip
        yield Feature(f"item_{name}_trend", "attribute", f"click rate of its {name} of late over that of old",
                      trend("attribute", project, name), TREND, True)  # fmt: skip
