"""`python -m features.state` compiles every kernel and caches it on disk: some seconds, saved by the first run."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import dataframely as dy
import polars as pl

from features.behaviour import lookup_and_update
from features.config.sections import BehaviourConfig, Context, ItemFields
from features.config.slices import Slices, microseconds, parse_instant
from features.live import LiveMoments, Request
from features.ranking_dataset import relative
from features.schemas import Impressions, Interactions, Items, ItemVectors
from features.state import SliceEvents, start

_START = parse_instant("2026-01-05T00:00:00Z")


def main() -> None:
    """Process two slices, the second without events, and a request: compilation depends on the arrays' types only."""
    config = BehaviourConfig(
        items=ItemFields(categorical=("category",), numeric=("length",)),
        context=Context(categorical=("surface",), query="words"),
    )
    shown_at, candidates = _START + timedelta(minutes=2), [{"item_id": "i", "position": 1}]
    context = [{"name": "words", "value": "a query"}]
    clicked_at = shown_at + timedelta(minutes=2)
    vectors = _table(ItemVectors, [("i", _START, [1.0])])
    events = SliceEvents(
        _table(Items, [("i", _START, "title", None, None, [], [])]),
        _table(Impressions, [("r", "u", shown_at, None, context, candidates)]),
        _table(Interactions, [("1", None, "u", "i", "click", None, clicked_at, clicked_at)]),
    )
    nothing = SliceEvents(events.items.clear(), events.impressions.clear(), events.interactions.clear())
    noon = _START + timedelta(hours=12)
    _, state = lookup_and_update(start(_START, config), events, noon, vectors)
    table, _ = lookup_and_update(state, nothing, noon + timedelta(hours=12), vectors)
    relative(table, {"z": ["item_length"]})
    request = Request("u", ("i",), microseconds(state.at), context=(("words", "a query"),))
    LiveMoments(state, Slices(start=_START), vectors).look_up(request)


def _table(schema: type[dy.Schema], rows: Iterable[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema.create_empty().schema, orient="row")


if __name__ == "__main__":
    main()
