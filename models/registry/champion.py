"""The champion: which ranker version serves. It is promoted by rule or by hand, or rolled back."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from features.errors import ModelError
from models.registry import versions as registered
from models.registry.champion_history import Action, Move, moves, succession, withdrawn
from models.registry.mlflow_store import Store
from models.registry.versions import Version

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"


class Champions(Store):
    """The part of a registry that moves the alias `champion` and records every move."""

    def champion(self) -> Version | None:
        """The champion, or None before the first promotion."""
        with self._connected() as client:
            if CHAMPION not in registered.aliases(client, self.name("ranker")):
                return None
            version = registered.find(client, self.name("ranker"), CHAMPION)
            return Version(str(version.version), version.tags.get("slice", ""))

    def promote(self, version_or_alias: str, reason: str = "") -> str:
        """Make a ranker version the champion by hand; return its number."""
        with self._connected() as client:
            return self._set_alias(client, version_or_alias, "promoted by hand", reason)

    def set_champion(self, version: str, champion: str | None, reason: str) -> bool:
        """Make a version that was evaluated against `champion` the champion; False if it was not promoted.

        It is not promoted if another version became champion since (the evaluation was against a different one), or if
        it was rolled back by hand: only `promote` brings it back. A retry changes nothing.
        """
        with self._connected() as client:
            current = registered.aliases(client, self.name("ranker")).get(CHAMPION)
            if current not in (version, champion) or version in withdrawn(self._moves(client)):
                return False
            self._set_alias(client, version, "promoted by rule", reason)
            return True

    def rollback(self, reason: str = "") -> str:
        """Make the previous champion champion again; return its version. Can be repeated.

        Raises ModelError without a champion or a previous one.
        """
        with self._connected() as client:
            champion = str(registered.find(client, self.name("ranker"), CHAMPION).version)
            champions = succession(self._moves(client), champion)
            if len(champions) < 2:
                raise ModelError(
                    f"{self.name('ranker')} version {champion} has no previous champion to roll back to: "
                    "`momentrank promote` makes another version champion"
                )
            return self._set_alias(client, champions[-2], "rolled back", reason)

    def history(self) -> list[Move]:
        """All moves of the champion alias, oldest first."""
        with self._connected() as client:
            return self._moves(client)

    def _moves(self, client: "MlflowClient") -> list[Move]:
        model = registered.model(client, self.name("ranker"))
        return moves(model.tags) if model else []

    def _set_alias(self, client: "MlflowClient", version_or_alias: str, action: Action, reason: str) -> str:
        """Record the move and set the alias; do nothing if the version is champion already."""
        name = self.name("ranker")
        target = registered.find(client, name, version_or_alias)
        version, replaced = str(target.version), registered.aliases(client, name).get(CHAMPION)
        if version != replaced:
            move = Move(datetime.now(UTC), version, target.tags.get("slice", ""), action, replaced, reason)
            client.set_registered_model_tag(name, *move.as_tag())
            # The alias moves last, so a failure in between leaves the old champion.
            client.set_registered_model_alias(name, CHAMPION, version)
        return version
