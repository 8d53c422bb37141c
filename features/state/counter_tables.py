"""All counters of a state in memory, and their entities."""

from collections.abc import Mapping

import polars as pl

from features.config.sections import BehaviourConfig
from features.state import snapshot
from features.state.counters import counters, parts
from features.state.entities import Entities
from features.state.table import Table

Part = tuple[str, str]
"""A grain, and the item attribute or context field of its entries; `""` for none."""


class Tables:
    """A table for each grain and part, built from the stored frames on first use."""

    def __init__(self, frames: Mapping[str, pl.DataFrame], config: BehaviourConfig) -> None:
        self._frames = frames
        self.config = config
        self.declared = counters(config)
        self.users, self.items = Entities(), Entities()
        self.values = {("attribute", name): Entities() for name in config.items.categorical}
        self.values |= {("context", name): Entities() for name in config.context.categorical}
        self._parts = {grain: parts(counter, config) for grain, counter in self.declared.items()}
        self._tables: dict[Part, Table] = {}
        self._owned: set[Part] = set()

    def __getitem__(self, part: Part) -> Table:
        """The table of a grain and part, to read."""
        if part not in self._tables:
            grain, name = part
            self._tables[part] = snapshot.restore(
                self._frames[grain], self.declared[grain], name, self._entities(part)
            )
        return self._tables[part]

    def of(self, grain: str) -> list[Part]:
        """The parts of a grain."""
        return [(grain, name) for name in self._parts[grain]]

    def own(self, part: Part) -> Table:
        """The table of a grain and part, to write: a copy that no other state shares."""
        if part not in self._owned:
            self._tables[part] = self._tables[part].copy() if part in self._tables else self[part]
            self._owned.add(part)
        return self._tables[part]

    def copy(self) -> "Tables":
        """An independent copy with the same entities; each table is copied on first write."""
        other = object.__new__(Tables)
        other.__dict__ |= self.__dict__
        other._tables, other._owned = dict(self._tables), set()
        return other

    def frame(self, grain: str, at: int, *, decayed: bool = False) -> pl.DataFrame:
        """A grain's entries that are live at an instant, by key: as stored, or `decayed` to the instant."""
        tables = [(part[1], self[part], self._entities(part)) for part in self.of(grain)]
        return snapshot.frame(self.declared[grain], tables, at, decayed=decayed)

    def _entities(self, part: Part) -> list[Entities]:
        """The entities of a part's keys, in the order of its codes' halves."""
        grain, name = part
        keys = self.declared[grain].keys
        entities = {"user_id": self.users, "item_id": self.items}
        if "value" in keys:
            entities["value"] = self.values["attribute" if "attribute" in keys else "context", name]
        return [entities[key] for key in keys if key in entities]
