"""The user and the item: earlier interactions with it, and with items of its attribute values, numbers or text."""

from collections.abc import Iterator

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
from features.catalogue.term import Feature, Term, read
from features.config.sections import BehaviourConfig
from features.similarity import COLUMNS
from features.state.counters import kinds_counted


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


_SOURCE = "content profiles (Pazzani & Billsus 2007), centred (Mu & Viswanath 2018)"
_FORMS = {
    "mean": "mean similarity of the text to the items the user {}",
    "max": "greatest similarity of the text to an item the user {}",
    "lse": "soft maximum, log(1 + Σ exp 5·cos), of the text's similarities to the items the user {}",
}


def text_features() -> Iterator[Feature]:
    """Cosine similarities of frozen text vectors, centred on the mean of the texts shown so far."""
    for past in ("clicked", "skipped"):
        for form, meaning in _FORMS.items():
            name = f"text_{past}_{form}"
            yield Feature(name, "text", meaning.format(past), _similarity(name), _SOURCE, True)
    taste = _similarity("text_clicked_mean").less(_similarity("text_skipped_mean"))
    yield Feature("text_taste", "text", "mean similarity to clicked items minus mean similarity to skipped items",
                  taste, "Rocchio 1971", True)  # fmt: skip


def _similarity(name: str) -> Term:
    return read("text", str(COLUMNS.index(name)))
