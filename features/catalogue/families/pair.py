"""What there was between this user and this item."""

from collections.abc import Iterator

from features.catalogue.families.feature import Feature
from features.catalogue.families.reading import METARANK, counted, hours
from features.catalogue.term import read
from features.config.project import Project
from features.state.counters import kinds_counted


def pair_features(project: Project) -> Iterator[Feature]:
    """How often and when the user met, took and passed over this very item."""
    shown, taken = (counted("user_item", quantity, "none") for quantity in ("exposures", "clicks"))
    yield Feature("pair_seen", "pair", "whether this user was ever shown this item",
                  shown.is_positive(), METARANK)  # fmt: skip
    yield Feature(
        "pair_exposures",
        "pair",
        "times this user was shown this item",
        shown,
        "impression fatigue (Agarwal et al. 2009)",
        True,
    )
    yield Feature("pair_clicks", "pair", "times this user took this item", taken, METARANK, True)
    yield Feature("pair_skips", "pair", "times this user passed over this item", shown - taken, "", True)
    for kind, quantity in list(kinds_counted(project).items())[1:]:
        times = counted("user_item", quantity, "none")
        yield Feature(f"pair_{quantity}", "pair", f"times this user had a {kind} with this item", times)
    yield Feature(
        "pair_hours_since",
        "pair",
        "hours since this user met this item",
        hours(read("user_item", "last_at")),
        "",
        True,
    )
    yield Feature(
        "pair_hours_since_click",
        "pair",
        "hours since this user took this item",
        hours(read("user_item", "clicked_at")),
    )
