"""What stands between the logs and the lake: pseudonyms of user ids, and people who were forgotten.

The lake itself remembers which key its ids were made with (a fingerprint, table `pseudonyms`) and whom to leave
out (marks, table `forgotten`): neither table holds an id, and every machine that opens the lake finds both.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import polars as pl

from features.errors import ProjectError
from features.events.pseudonyms import Forgotten, Pseudonyms, mark
from features.sources.raw import RawEvents
from models.registry.champion import Kind
from pipelines.lake import Lake

KEYS = "pseudonyms"
"""Table whose one slice is named by the fingerprint of the lake's key."""
FORGOTTEN = "forgotten"
"""Table with a slice for each person who was forgotten, named by their mark."""

_NOBODY = pl.DataFrame(
    schema={
        "salt": pl.String,
        "forgotten_at": pl.Datetime("us", "UTC"),
        "ranker": pl.List(pl.String),
        "interest": pl.List(pl.String),
        "slice": pl.String,
    }
)


@dataclass(frozen=True)
class Privacy:
    """The lake's rule for user ids. Raises ProjectError where the key is not the one that the lake was begun with."""

    lake: Lake
    key: str
    """`MOMENTRANK_PSEUDONYM_KEY`, or empty."""

    @cached_property
    def pseudonyms(self) -> Pseudonyms | None:
        """How ids are hidden; None where they are kept as they are."""
        made = Pseudonyms(self.key) if self.key else None
        kept = self.lake.slices(KEYS)
        if made is None and kept:
            raise ProjectError(
                f"the tables in {self.lake.root} hold pseudonyms, and MOMENTRANK_PSEUDONYM_KEY is not set: set it "
                "to the key that they were made with"
            )
        if made and kept and kept != [made.fingerprint]:
            raise ProjectError(
                f"MOMENTRANK_PSEUDONYM_KEY is not the key that the tables in {self.lake.root} were made with, so "
                "nobody would be known again: set that key, or another MOMENTRANK_HOME to begin anew"
            )
        if made and not kept and self.lake.slices("impressions"):
            raise ProjectError(
                f"the tables in {self.lake.root} hold user ids as they are, and MOMENTRANK_PSEUDONYM_KEY is set: "
                "unset it, or set another MOMENTRANK_HOME and run all slices again with pseudonyms"
            )
        return made

    def settle(self) -> None:
        """Write down which key the lake's ids are made with. To be called before the first of them is written."""
        if self.pseudonyms and not self.lake.slices(KEYS):
            self.lake.write(
                KEYS, self.pseudonyms.fingerprint, pl.DataFrame({"begun_at": [datetime.now(UTC)]})
            )

    def stored(self, user: str) -> str:
        """A user id of the logs as the tables have it."""
        return self.pseudonyms.of(user) if self.pseudonyms else user

    def hide(self, users: pl.Series) -> pl.Series:
        """User ids of a log as the tables have them, for readers to call."""
        return self.pseudonyms.hide(users) if self.pseudonyms else users

    def clean(self, raw: RawEvents) -> RawEvents:
        """Rows without texts that may quote an id that is hidden, and without people who were forgotten."""
        return Forgotten(self.marks()).drop(self.pseudonyms.withhold(raw) if self.pseudonyms else raw)

    def marks(self) -> dict[str, str]:
        """Mark → salt of everybody who was forgotten."""
        kept = self._forgotten()
        return dict(zip(kept["slice"], kept["salt"], strict=True))

    def forgot(self, stored: str) -> bool:
        """Whether a person was forgotten before, by their id as the tables have it."""
        return bool(Forgotten(self.marks()).among([stored]))

    def saw(self, kind: Kind) -> dict[str, int]:
        """Version of a kind of model → how many people it was fitted on who were forgotten since."""
        seen = self._forgotten()[kind].explode().drop_nulls()
        counts: dict[str, int] = dict(seen.value_counts().iter_rows())
        return counts

    def remember(self, stored: str, seen: Mapping[Kind, Sequence[str]]) -> None:
        """Leave a person out from now on; `seen` names the versions of each kind that were fitted on them.

        Of a person who was forgotten before, the versions come on top of those noted then.
        """
        marks = self.marks()
        salt = next(iter(marks.values()), secrets.token_hex(16))
        name = mark(stored, salt)
        before = self._forgotten().filter(slice=name)
        row: dict[str, list[object]] = {"salt": [salt], "forgotten_at": [datetime.now(UTC)]}
        for kind, versions in seen.items():
            noted = {*before[kind].explode().drop_nulls().to_list(), *versions}
            row[kind] = [sorted(noted, key=int)]
        self.lake.write(FORGOTTEN, name, pl.DataFrame(row, schema=_NOBODY.drop("slice").schema))

    def _forgotten(self) -> pl.DataFrame:
        if not self.lake.slices(FORGOTTEN):
            return _NOBODY
        return self.lake.read(FORGOTTEN)
