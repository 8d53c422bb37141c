"""User ids as they are kept: keyed hashes in place of the log's own, and the people whose rows are dropped.

Both work on rows as they are read, before anything is written. A pseudonym is
BLAKE2b, keyed, of 128 bits as 32 hex digits: among 10⁹ people two share one with a chance of about 10⁻²¹.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b

import polars as pl

from features.errors import ProjectError
from features.sources.raw import FORGOTTEN, RawEvents, refuse

WITHHELD = "(not kept: it may quote user ids)"
"""In place of a refused row's text where user ids are pseudonyms."""
SHORTEST_KEY = 16  # characters

_BYTES = 16
# Ids that stand in a text in quotes, between a table's or a JSON's signs, or behind a colon.
_WORDS = (r'"[^"]*"', r'[^\s",;|{}\[\]()=]+', r'[^\s",;|{}\[\]()=:]+')


@dataclass(frozen=True)
class Pseudonyms:
    """The pseudonyms that one key gives. Raises ProjectError for a key that could be guessed."""

    key: str = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < SHORTEST_KEY:
            raise ProjectError(
                f"MOMENTRANK_PSEUDONYM_KEY has {len(self.key)} characters, and ids hashed with a short key can be "
                f"guessed: use at least {SHORTEST_KEY}, for example of "
                "python -c 'import secrets; print(secrets.token_hex(32))'"
            )

    @property
    def fingerprint(self) -> str:
        """What tells this key from another and does not give it away."""
        return self._hash("", b"fingerprint")

    def of(self, user: str) -> str:
        """The pseudonym of a user id: 32 hex digits."""
        return self._hash(user, b"user")

    def hide(self, users: pl.Series) -> pl.Series:
        """The pseudonym of each user id, for readers to call; a missing or empty id stays as it is."""
        distinct = _present(users)
        return users.replace(distinct, [self.of(user) for user in distinct])

    def withhold(self, raw: RawEvents) -> RawEvents:
        """The same rows without the texts that may quote an id; those of items stay."""
        withheld = pl.lit(WITHHELD).alias("raw")
        return replace(
            raw,
            impressions=raw.impressions.with_columns(withheld),
            interactions=raw.interactions.with_columns(withheld),
            rejects=raw.rejects.with_columns(withheld),
        )

    @cached_property
    def _digest(self) -> bytes:
        return blake2b(self.key.encode()).digest()

    def _hash(self, text: str, purpose: bytes) -> str:
        return blake2b(
            text.encode("utf-8", "surrogatepass"), digest_size=_BYTES, key=self._digest, person=purpose
        ).hexdigest()


def mark(user: str, salt: str) -> str:
    """What is remembered of a forgotten person in place of their id: enough to know it again, and nothing else."""
    return blake2b(
        user.encode("utf-8", "surrogatepass"), digest_size=_BYTES, key=salt.encode(), person=b"forgotten"
    ).hexdigest()


@dataclass(frozen=True)
class Forgotten:
    """People whose rows are dropped, by their marks."""

    marks: Mapping[str, str]
    """Mark → salt."""

    def among(self, users: Iterable[str]) -> list[str]:
        """Those of the ids that were forgotten."""
        salts = set(self.marks.values())
        return [user for user in users if any(mark(user, salt) in self.marks for salt in salts)]

    def drop(self, raw: RawEvents) -> RawEvents:
        """The rows of everybody else; those dropped are rejects with the reason alone, and none quotes an id."""
        if not self.marks:
            return raw
        gone = pl.col("user_id").is_in(self.among(_users(raw)))
        impressions, lists = refuse(raw.impressions, [(FORGOTTEN, gone)], at="shown_at")
        interactions, done = refuse(raw.interactions, [(FORGOTTEN, gone)], at="known_at")
        dropped = pl.concat([lists, done]).with_columns(raw=pl.lit(""))
        return replace(
            raw,
            impressions=impressions,
            interactions=interactions,
            rejects=pl.concat([self._blank(raw.rejects), dropped]),
        )

    def _blank(self, rejects: pl.DataFrame) -> pl.DataFrame:
        """Rejects that no table could hold, without the texts that name somebody who was forgotten."""
        text = pl.col("raw").fill_null("")
        words = pl.concat_list(text.str.extract_all(pattern) for pattern in _WORDS)
        said = words.list.eval(pl.element().str.strip_chars('"'))
        distinct = rejects.select(said.explode().drop_nulls().unique()).to_series()
        names = self.among(distinct)
        if not names:
            return rejects
        quotes = said.list.set_intersection(pl.lit(pl.Series([names]))).list.len() > 0
        return rejects.with_columns(raw=pl.when(quotes).then(pl.lit("")).otherwise("raw"))


def _users(raw: RawEvents) -> pl.Series:
    """Every user id once."""
    return _present(pl.concat([raw.impressions["user_id"].unique(), raw.interactions["user_id"].unique()]))


def _present(users: pl.Series) -> pl.Series:
    """The distinct ids; a missing or empty one is none."""
    distinct = users.drop_nulls().unique()
    return distinct.filter(distinct != "")
