"""Privacy of user ids between logs and lake: pseudonyms, and the users that were forgotten.

The lake has the fingerprint of the pseudonyms' key (table `pseudonyms`) and a mark for each user to leave out (table
`forgotten`), so every machine that opens it finds both. Neither table has an id.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import polars as pl

from features.errors import ProjectError
from features.events.pseudonyms import Forgotten, Pseudonyms, mark
from features.schemas import INSTANT
from features.sources.raw import RawEvents
from models.registry.mlflow_store import Kind
from pipelines.lake import Lake

KEYS = "pseudonyms"
"""Table with one slice, named by the fingerprint of the lake's key."""
FORGOTTEN = "forgotten"
"""Table with one slice per forgotten user, named by their mark."""

_NONE_FORGOTTEN = pl.DataFrame(
    schema={
        "salt": pl.String,
        "forgotten_at": INSTANT,
        "ranker": pl.List(pl.String),
        "interest": pl.List(pl.String),
        "slice": pl.String,
    }
)


@dataclass(frozen=True)
class Privacy:
    """How a lake stores user ids. Raises ProjectError if the key is not the one its ids were made with."""

    lake: Lake
    key: str
    """`MOMENTRANK_PSEUDONYM_KEY`, or empty."""

    @cached_property
    def pseudonyms(self) -> Pseudonyms | None:
        """The pseudonyms, or None if ids are stored as they are."""
        pseudonyms = Pseudonyms(self.key) if self.key else None
        fingerprints = self.lake.slices(KEYS)
        if pseudonyms is None and fingerprints:
            raise ProjectError(
                f"the tables in {self.lake.root} contain pseudonyms, but MOMENTRANK_PSEUDONYM_KEY is not set: set it "
                "to the key that they were made with"
            )
        if pseudonyms and fingerprints and fingerprints != [pseudonyms.fingerprint]:
            raise ProjectError(
                f"MOMENTRANK_PSEUDONYM_KEY is not the key that the tables in {self.lake.root} were made with, so "
                "no user would be recognized: set that key, or another MOMENTRANK_HOME to start afresh"
            )
        if pseudonyms and not fingerprints and self.lake.slices("impressions"):
            raise ProjectError(
                f"the tables in {self.lake.root} contain plain user ids, but MOMENTRANK_PSEUDONYM_KEY is set: "
                "unset it, or set another MOMENTRANK_HOME and run all slices again with pseudonyms"
            )
        return pseudonyms

    def record_key(self) -> None:
        """Write the key's fingerprint to the lake. Call before the first id is written."""
        if self.pseudonyms and not self.lake.slices(KEYS):
            self.lake.write(
                KEYS, self.pseudonyms.fingerprint, pl.DataFrame({"begun_at": [datetime.now(UTC)]})
            )

    def stored(self, user: str) -> str:
        """A user id of the logs as stored in the tables."""
        return self.pseudonyms.of(user) if self.pseudonyms else user

    def hide(self, users: pl.Series) -> pl.Series:
        """User ids of a log as stored in the tables; readers call this."""
        return self.pseudonyms.hide(users) if self.pseudonyms else users

    def clean(self, raw: RawEvents) -> RawEvents:
        """Rows without forgotten users and without texts that may quote a pseudonymized id."""
        return Forgotten(self.marks()).drop(self.pseudonyms.withhold(raw) if self.pseudonyms else raw)

    def marks(self) -> dict[str, str]:
        """Mark → salt of every forgotten user."""
        forgotten = self._forgotten()
        return dict(zip(forgotten["slice"], forgotten["salt"], strict=True))

    def is_forgotten(self, stored: str) -> bool:
        """Whether a user (id as stored in the tables) was forgotten before."""
        return bool(Forgotten(self.marks()).among([stored]))

    def forgotten_since_fit(self, kind: Kind) -> dict[str, int]:
        """Model version → number of users it was fitted on that were forgotten since."""
        versions = self._forgotten()[kind].explode().drop_nulls()
        counts: dict[str, int] = dict(versions.value_counts().iter_rows())
        return counts

    def mark_forgotten(self, stored: str, fitted: Mapping[Kind, Sequence[str]]) -> None:
        """Leave a user out from now on. `fitted`: model kind → versions fitted on them.

        Versions are added to those recorded before for the same user.
        """
        marks = self.marks()
        salt = next(iter(marks.values()), secrets.token_hex(16))
        name = mark(stored, salt)
        before = self._forgotten().filter(slice=name)
        row: dict[str, list[object]] = {"salt": [salt], "forgotten_at": [datetime.now(UTC)]}
        for kind, versions in fitted.items():
            recorded = before[kind].explode().drop_nulls().to_list()
            row[kind] = [sorted({*recorded, *versions}, key=int)]
        self.lake.write(FORGOTTEN, name, pl.DataFrame(row, schema=_NONE_FORGOTTEN.drop("slice").schema))

    def _forgotten(self) -> pl.DataFrame:
        if not self.lake.slices(FORGOTTEN):
            return _NONE_FORGOTTEN
        return self.lake.read(FORGOTTEN)
