"""Which ranker version serves: promoted by the rule or by hand, or rolled back to; every move is kept.

Knows no MLflow: a registry's client does the moving.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Literal

from features.errors import ModelError
from models.registry import versions as registered
from models.registry.champion_history import Action, Move, moves, succession, withdrawn

Kind = Literal["ranker", "interest"]

CHAMPION = "champion"


class Champions(ABC):
    """The part of a registry that moves the alias `champion`. Every move is kept in the history."""

    @abstractmethod
    def name(self, kind: Kind) -> str:
        """Name of the registered model."""

    @abstractmethod
    def _connected(self) -> AbstractContextManager[Any]:
        """A client of the store."""

    def champion(self) -> tuple[str, str] | None:
        """Version and slice of the ranker that serves, or None before the first promotion."""
        with self._connected() as client:
            if CHAMPION not in registered.aliases(client, self.name("ranker")):
                return None
            found = registered.find(client, self.name("ranker"), CHAMPION)
            return str(found.version), found.tags.get("slice", "")

    def promote(self, version_or_alias: str, reason: str = "") -> str:
        """Make a ranker version the champion because a person says so; returns it."""
        with self._connected() as client:
            return self._set_alias(client, version_or_alias, "promoted by hand", reason)

    def set_champion(self, version: str, champion: str | None, reason: str) -> bool:
        """Make a version the champion that was evaluated against `champion` and may take its place.

        False, and nothing moved, where another version has become champion meanwhile (against that one it was
        not evaluated), or where a person went back from this one: only a person brings it again. A retry finds it
        champion and changes nothing.
        """
        with self._connected() as client:
            present = registered.aliases(client, self.name("ranker")).get(CHAMPION)
            if present not in (version, champion) or version in withdrawn(self._moves(client)):
                return False
            self._set_alias(client, version, "promoted by rule", reason)
            return True

    def rollback(self, reason: str = "") -> str:
        """Make the champion before the present one champion again; returns its version. Can be repeated.

        Raises ModelError where there is no champion, or none before it.
        """
        with self._connected() as client:
            champion = str(registered.find(client, self.name("ranker"), CHAMPION).version)
            line = succession(self._moves(client), champion)
            if len(line) < 2:
                raise ModelError(
                    f"{self.name('ranker')} version {champion} is champion and there is none before it: there is "
                    f"nothing to roll back to. `momentrank promote` makes another version champion"
                )
            return self._set_alias(client, line[-2], "rolled back", reason)

    def history(self) -> list[Move]:
        """Who was made champion when, and why, oldest first."""
        with self._connected() as client:
            return self._moves(client)

    def _moves(self, client: Any) -> list[Move]:
        found = registered.model(client, self.name("ranker"))
        return moves(found.tags) if found else []

    def _set_alias(self, client: Any, version_or_alias: str, action: Action, reason: str) -> str:
        """Make a version the champion and keep how it came to that; one that is champion already stays so."""
        name = self.name("ranker")
        found = registered.find(client, name, version_or_alias)
        version, replaced = str(found.version), registered.aliases(client, name).get(CHAMPION)
        if version != replaced:
            move = Move(datetime.now(UTC), version, found.tags.get("slice", ""), action, replaced, reason)
            client.set_registered_model_tag(name, *move.as_tag())
            # The alias moves last: stopped half-way, the champion is still the one it was.
            client.set_registered_model_alias(name, CHAMPION, version)
        return version
