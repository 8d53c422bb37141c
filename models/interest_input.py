"""Tables to arrays for the interest model, and its scores and vectors back to tables.

`models/interest` knows arrays only, so that it runs without Polars. It is imported lazily.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.config.sections import BehaviourConfig, Interest, Labels
from features.events.point_in_time import known_before, see, versions
from features.queries import QUERY_AT, queries
from features.schemas import INSTANT
from features.state import MomentState, SliceEvents
from features.state.histories import SKIPPED, exposed
from features.state.histories import moments as moments_of

if TYPE_CHECKING:
    from models.interest.config import InterestConfig
    from models.interest.item_arrays import ItemArrays
    from models.interest.moment_arrays import MomentArrays
    from models.interest.version import InterestModel


QUERY_CACHE = "queries"
"""Subfolder of the cache with the vectors of queries: erasure removes it, because queries are typed by users."""


@dataclass(frozen=True)
class InterestInput:
    """The interest model's input of one slice, and the ids of its rows."""

    items: "ItemArrays"
    moments: "MomentArrays"
    keys: pl.DataFrame
    """`impression_id, item_id` of each candidate, in order of the arrays."""
    past: pl.DataFrame
    """`item_id, action` of each moment of the histories, in order of the arrays."""


def actions(labels: Labels) -> tuple[str, ...]:
    """The action vocabulary: the declared interaction kinds, and the skip."""
    return (*labels.gains, SKIPPED)


def interest_config(interest: Interest, behaviour: BehaviourConfig, seed: int) -> "InterestConfig":
    """The `[interest]` section as the configuration of `models/interest`."""
    from models.interest.config import InterestConfig

    section = interest.model_dump()
    section["numbers"] = behaviour.items.numeric if interest.numbers else ()
    return InterestConfig(**section, actions=actions(behaviour.labels), seed=seed)


def require_interest(interest: Interest, *, here: bool) -> None:
    """Raise InterestModelError unless this machine has the encoder and, if the model runs `here`, its device."""
    from models.interest.pretrained import find_encoder

    find_encoder(interest.encoder)
    if here and interest.device == "cuda":
        from models.interest.config import find_device

        find_device(interest.device)


def item_vectors(items: pl.DataFrame, interest: Interest, cache: Path) -> pl.DataFrame:
    """`schemas.ItemVectors` of item versions: the frozen encoder's unit vector of each text."""
    texts = [text_of(title, body) for title, body in items.select("title", "body").iter_rows()]
    return items.select("item_id", "known_at").with_columns(vector=_vectors(texts, interest, cache))


def with_queries(
    vectors: pl.DataFrame,
    state: MomentState,
    impressions: pl.DataFrame,
    interest: Interest,
    cache: Path | None,
) -> pl.DataFrame:
    """Add the vectors of the queries in `impressions` and in the state (`features/queries.py`), if there are any."""
    if not state.config.context.query:
        return vectors
    return pl.concat(
        [vectors, query_rows(queries(state, impressions), interest, cache and cache / QUERY_CACHE)]
    )


def query_rows(texts: pl.Series, interest: Interest, cache: Path | None = None) -> pl.DataFrame:
    """`schemas.ItemVectors` of queries, whose ids are their texts."""
    vectors = _vectors(texts.to_list(), interest, cache)
    return pl.DataFrame(
        {"item_id": texts, "known_at": pl.repeat(QUERY_AT, len(texts), eager=True), "vector": vectors}
    ).cast({"known_at": INSTANT})


def _vectors(texts: Sequence[str], interest: Interest, cache: Path | None) -> pl.Series:
    from models.interest.encoder import frozen_vectors

    vectors = frozen_vectors(texts, interest.encoder, interest.max_tokens, cache)
    return pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1])).cast(pl.List(pl.Float32))


def interest_scores(
    given: InterestInput, version: Path | None, fitted_until: str | None, cache: Path
) -> pl.DataFrame:
    """`schemas.InterestScores` by the version saved in a folder; null scores if there is none yet."""
    if version is None:
        return _scored(given, np.full(given.keys.height, np.nan, np.float32), fitted_until)
    from models.interest.version import InterestModel

    return interest_scores_by(InterestModel.load(version), given, fitted_until, cache)


def interest_scores_by(
    model: "InterestModel", given: InterestInput, fitted_until: str | None, cache: Path
) -> pl.DataFrame:
    """`schemas.InterestScores` by a loaded version."""
    from models.interest.scoring import score

    return _scored(given, score(model, given.items, given.moments, cache), fitted_until)


def _scored(given: InterestInput, values: NDArray[np.float32], fitted_until: str | None) -> pl.DataFrame:
    return given.keys.with_columns(
        interest_score=pl.Series(values).fill_nan(None),
        interest_slice=pl.lit(fitted_until, pl.String),
    )


def text_of(title: str | None, body: str | None) -> str:
    """The encoder's text of an item: title, then body."""
    return ". ".join(part for part in (title, body) if part)


def interest_input(
    state: MomentState, events: SliceEvents, labels: pl.DataFrame | None = None
) -> InterestInput:
    """The slice's impressions, and each user's moments known before them.

    `labels`: `impression_id, item_id, label`; the default is 0.
    """
    from models.interest.moment_arrays import MomentArrays

    seen = versions(state.items, events.items)
    shown = exposed(events.impressions).sort("user_id", "shown_at", "impression_id", "position")
    candidates = see(shown, seen, "shown_at")
    if labels is not None:
        candidates = candidates.join(
            labels.select("impression_id", "item_id", "label"),
            on=["impression_id", "item_id"],
            how="left",
            maintain_order="left",
        )
    users = candidates.select("user_id").unique(maintain_order=True)
    moments = moments_of(state, events).join(
        users.with_row_index("user"), on="user_id", maintain_order="left"
    )
    moments = moments.sort("user", "known_at", maintain_order=True)
    lists = candidates.group_by("user_id", "impression_id", "shown_at", maintain_order=True).agg(pl.len())
    lists = _prefixes(lists, moments, users)
    past = moments.select("item_id", version=_latest(moments, seen, state.at))
    rows = pl.concat([past, candidates.select("item_id", "version")])
    items = rows.unique(maintain_order=True)
    place = rows.join(
        items.with_row_index("place"), on=["item_id", "version"], nulls_equal=True, maintain_order="left"
    )["place"].to_numpy()
    return InterestInput(
        items=item_arrays(items, seen, state.config.items.numeric),
        moments=MomentArrays(
            history_item=place[: past.height].astype(np.int64),
            history_action=_codes(moments["action"], actions(state.config.labels)),
            history_at=_seconds(moments["known_at"]),
            user_start=_starts(
                users.join(
                    moments.group_by("user_id").len(), on="user_id", how="left", maintain_order="left"
                )["len"].fill_null(0)
            ),
            impression_user=lists["user"].to_numpy().astype(np.int64),
            impression_prefix=lists["prefix"].to_numpy().astype(np.int64),
            impression_at=_seconds(lists["shown_at"]),
            impression_start=_starts(lists["len"]),
            candidate_item=place[past.height :].astype(np.int64),
            label=candidates["label"].fill_null(0.0).to_numpy().astype(np.float32)
            if labels is not None
            else np.zeros(candidates.height, np.float32),
        ),
        keys=candidates.select("impression_id", "item_id"),
        past=moments.select("item_id", "action"),
    )


def _prefixes(lists: pl.DataFrame, moments: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """Add `user`, and `prefix`: the number of the user's moments known before the impression."""
    numbered = moments.select("user_id", "known_at", prefix=pl.int_range(1, pl.len() + 1).over("user_id"))
    return (
        known_before(lists, numbered, "shown_at", "known_at", by="user_id")
        .with_columns(pl.col("prefix").fill_null(0))
        .join(users.with_row_index("user"), on="user_id", maintain_order="left")
    )


def _latest(moments: pl.DataFrame, seen: pl.DataFrame, since: datetime) -> pl.Series:
    """Version of each past item at its moment, or else the latest version known before `since`.

    A version that became known within the slice cannot stand in: earlier impressions must not see it.
    """
    at = see(moments.select("item_id", "known_at"), seen, "known_at")["version"]
    kept = seen.with_row_index("kept").filter(pl.col("known_at") < since)
    fallback = moments.select("item_id").join(
        kept.select("item_id", "kept").unique("item_id", keep="last", maintain_order=True),
        on="item_id",
        how="left",
        maintain_order="left",
    )["kept"]
    return pl.select(pl.coalesce(at, fallback)).to_series()


def item_arrays(items: pl.DataFrame, seen: pl.DataFrame, numbers: Sequence[str]) -> "ItemArrays":
    """Items (`item_id`, `version`: a row of `seen`, or null if it had no version yet) as arrays."""
    from models.interest.item_arrays import ItemArrays, attribute_code, id_code

    numbered = seen.with_row_index("version").join(
        items.select("version").drop_nulls(), on="version", how="semi", maintain_order="left"
    )
    described = items.join(numbered.drop("item_id"), on="version", how="left", maintain_order="left")
    texts = [text_of(title, body) for title, body in described.select("title", "body").iter_rows()]
    read = ItemArrays.of_texts(texts)
    values = (
        described.select("attributes")
        .with_row_index("item")
        .explode("attributes", empty_as_null=False, keep_nulls=False)
        .select("item", pl.col("attributes").struct.unnest())
        .unique(maintain_order=True)
        .select("item", value=pl.format("{}={}", "name", "value"))
    )
    return replace(
        read,
        attribute_start=_starts(_lengths(values["item"], described.height)),
        attribute=_hashed(values["value"], attribute_code),
        number=_numbers(described, numbers),
        id=_hashed(described["item_id"], id_code),
    )


def _lengths(owner: pl.Series, count: int) -> pl.Series:
    return pl.Series(np.bincount(owner.to_numpy(), minlength=count)[:count])


def _hashed(values: pl.Series, code: Callable[[str], int]) -> NDArray[np.int64]:
    known = {value: code(value) for value in values.unique().to_list()}
    return np.array([known[value] for value in values.to_list()], np.int64)


def _numbers(items: pl.DataFrame, names: Sequence[str]) -> NDArray[np.float32]:
    """[item, number]: declared numbers of items, NaN if an item has none."""
    result = np.full((items.height, len(names)), np.nan, np.float32)
    pairs = (
        items.select("numbers")
        .with_row_index("item")
        .explode("numbers", empty_as_null=False, keep_nulls=False)
        .select("item", pl.col("numbers").struct.unnest())
        .filter(pl.col("name").is_in(names))
    )
    column = {name: number for number, name in enumerate(names)}
    for item, name, value in pairs.iter_rows():
        result[item, column[name]] = np.nan if value is None else value
    return result


def _codes(action: pl.Series, vocabulary: Sequence[str]) -> NDArray[np.int64]:
    return (
        action.replace_strict({name: i for i, name in enumerate(vocabulary)}, return_dtype=pl.Int64)
        .to_numpy()
        .astype(np.int64)
    )


def _seconds(instant: pl.Series) -> NDArray[np.float64]:
    return instant.dt.epoch("us").to_numpy().astype(np.float64) / 1e6


def _starts(sizes: pl.Series) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes.to_numpy())]).astype(np.int64)
