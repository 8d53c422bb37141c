"""Pseudonyms of user ids, and rows of forgotten users dropped; both before anything is written.

A pseudonym is a keyed BLAKE2b hash of 128 bits, as 32 hex digits. Among 10⁹ users the chance of any collision is
about 10⁻²¹.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b

import polars as pl

from features.errors import ProjectError
from features.sources.raw import FORGOTTEN, RawEvents, refuse

WITHHELD = "(not kept: it may quote user ids)"
"""Replaces the text of refused rows where user ids are pseudonyms."""
MIN_KEY_LENGTH = 16

_BYTES = 16
# Possible ids in a text: in quotes, between CSV or JSON punctuation, or after a colon.
_WORDS = (r'"[^"]*"', r'[^\s",;|{}\[\]()=]+', r'[^\s",;|{}\[\]()=:]+')


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms under one secret key. Raises ProjectError for a key short enough to guess."""

    key: str = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < MIN_KEY_LENGTH:
            raise ProjectError(
                f"MOMENTRANK_PSEUDONYM_KEY has {len(self.key)} characters, and ids hashed with a short key can be "
                f"guessed: use at least {MIN_KEY_LENGTH}, for example from "
                "python -c 'import secrets; print(secrets.token_hex(32))'"
            )

    @property
    def fingerprint(self) -> str:
        """Identifies the key without revealing it."""
        return self._hash("", b"fingerprint")

    def of(self, user: str) -> str:
        """The pseudonym of a user id: 32 hex digits."""
        return self._hash(user, b"user")

    def hide(self, users: pl.Series) -> pl.Series:
        """Replace each user id by its pseudonym; missing and empty ids stay. Called by the log readers."""
        distinct = _present(users)
        return users.replace(distinct, [self.of(user) for user in distinct])

    def withhold(self, raw: RawEvents) -> RawEvents:
        """Blank the raw text of impressions, interactions and rejects, which may quote a user id."""
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
    """Salted hash by which a forgotten user's id is recognised without storing it."""
    return blake2b(
        user.encode("utf-8", "surrogatepass"), digest_size=_BYTES, key=salt.encode(), person=b"forgotten"
    ).hexdigest()


@dataclass(frozen=True)
class Forgotten:
    """Users whose rows are dropped, by `mark`."""

    marks: Mapping[str, str]
    """Mark → salt."""

    @cached_property
    def _salts(self) -> frozenset[str]:
        return frozenset(self.marks.values())

    def among(self, users: Iterable[str]) -> list[str]:
        """The forgotten users among `users`."""
        return [user for user in users if any(mark(user, salt) in self.marks for salt in self._salts)]

    def drop(self, raw: RawEvents) -> RawEvents:
        """Move rows of forgotten users to the rejects, without their text; no reject quotes a forgotten id."""
        if not self.marks:
            return raw
        forgotten = pl.col("user_id").is_in(self.among(_users(raw)))
        impressions, dropped_impressions = refuse(raw.impressions, [(FORGOTTEN, forgotten)], at="shown_at")
        interactions, dropped_interactions = refuse(raw.interactions, [(FORGOTTEN, forgotten)], at="known_at")
        dropped = pl.concat([dropped_impressions, dropped_interactions]).with_columns(raw=pl.lit(""))
        return replace(
            raw,
            impressions=impressions,
            interactions=interactions,
            rejects=pl.concat([self._blank(raw.rejects), dropped]),
        )

    def _blank(self, rejects: pl.DataFrame) -> pl.DataFrame:
        """Blank the raw text of rejects that quote the id of a forgotten user."""
        text = pl.col("raw").fill_null("")
        words = pl.concat_list(text.str.extract_all(pattern) for pattern in _WORDS)
        words = words.list.eval(pl.element().str.strip_chars('"'))
        distinct = rejects.select(words.explode().drop_nulls().unique()).to_series()
        forgotten = self.among(distinct)
        if not forgotten:
            return rejects
        quotes = words.list.set_intersection(pl.lit(pl.Series([forgotten]))).list.len() > 0
        return rejects.with_columns(raw=pl.when(quotes).then(pl.lit("")).otherwise("raw"))


def _users(raw: RawEvents) -> pl.Series:
    """Distinct user ids of impressions and interactions."""
    return _present(pl.concat([raw.impressions["user_id"].unique(), raw.interactions["user_id"].unique()]))


def _present(users: pl.Series) -> pl.Series:
    """Distinct ids, without missing and empty ones."""
    distinct = users.drop_nulls().unique()
    return distinct.filter(distinct != "")
