"""Earlier interactions of this user with this item."""

from collections.abc import Iterator

from features.catalogue.families.feature import Feature
from features.catalogue.families.reading import METARANK, counted, hours
from features.catalogue.term import read
from features.config.sections import BehaviourConfig
from features.state.counters import kinds_counted


def pair_features(config: BehaviourConfig) -> Iterator[Feature]:
    """How often and when the user saw, clicked and skipped this item."""
    exposures, clicks = (counted("user_item", quantity, "none") for quantity in ("exposures", "clicks"))
    yield Feature("pair_seen", "pair", "whether this user has seen this item before",
                  exposures.is_positive(), METARANK)  # fmt: skip
    yield Feature(
        "pair_exposures",
        "pair",
        "earlier impressions of this item to this user",
        exposures,
        "impression fatigue (Agarwal et al. 2009)",
        True,
    )
    yield Feature("pair_clicks", "pair", "this user's earlier clicks on this item", clicks, METARANK, True)
    yield Feature(
        "pair_skips",
        "pair",
        "earlier impressions of this item to this user without a click",
        exposures - clicks,
        "",
        True,
    )
    for kind, quantity in list(kinds_counted(config).items())[1:]:
        count = counted("user_item", quantity, "none")
        yield Feature(
            f"pair_{quantity}", "pair", f"this user's earlier {kind} interactions with this item", count
        )
    yield Feature(
        "pair_hours_since",
        "pair",
        "hours since this user last saw or clicked this item",
        hours(read("user_item", "last_at")),
        "",
        True,
    )
    yield Feature(
        "pair_hours_since_click",
        "pair",
        "hours since this user last clicked this item",
        hours(read("user_item", "clicked_at")),
    )
