"""`python -m features.state` compiles every kernel and caches it on disk: a few seconds, saved by the first run."""

from datetime import timedelta

import polars as pl

from features.behaviour import lookup_and_update
from features.config.sections import BehaviourConfig, Context, ItemFields
from features.config.slices import parse_instant
from features.ranking_dataset import relative
from features.schemas import Impressions, Interactions, Items, ItemVectors
from features.state import SliceEvents, start

_START = parse_instant("2026-01-05T00:00:00Z")


def main() -> None:
    """Process a slice with one interaction: compilation depends on types only."""
    config = BehaviourConfig(
        items=ItemFields(categorical=("category",), numeric=("length",)),
        context=Context(categorical=("surface",)),
    )
    click = ("", None, "", "", "click", None, _START, _START)
    interactions = pl.DataFrame([click], schema=Interactions.create_empty().schema, orient="row")
    events = SliceEvents(Items.create_empty(), Impressions.create_empty(), interactions)
    vectors = ItemVectors.create_empty()
    table, _ = lookup_and_update(start(_START, config), events, _START + timedelta(days=1), vectors)
    relative(table, {"z": ["item_length"]})


if __name__ == "__main__":
    main()
