"""`python -m features.state` compiles every kernel, so that the first run need not: a few seconds, kept on disk."""

from datetime import timedelta

from features.behaviour import lookup_and_update
from features.catalogue.relative import relative
from features.config.project import Project
from features.config.slices import parse_instant
from features.schemas import Impressions, Interactions, Items, ItemVectors
from features.state import SliceEvents, start

_START = parse_instant("2026-01-05T00:00:00Z")


def main() -> None:
    """Pass over a slice of nothing: what is compiled depends on types alone."""
    project = Project.model_validate(
        {
            "name": "compile",
            "source": {"format": "newsroom"},
            "slices": {"start": _START},
            "items": {"categorical": ["category"], "numeric": ["length"]},
            "context": {"categorical": ["surface"]},
        }
    )
    nothing = SliceEvents(Items.create_empty(), Impressions.create_empty(), Interactions.create_empty())
    vectors = ItemVectors.create_empty()
    table, _ = lookup_and_update(start(project), nothing, _START + timedelta(days=1), project, vectors)
    relative(table, {"z": ["item_length"]})


if __name__ == "__main__":
    main()
