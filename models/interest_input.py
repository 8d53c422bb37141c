"""Between tables and the interest model: moments and candidates as arrays, scores and vectors as tables.

The interest room knows arrays only, so that it runs where Polars does not. It is imported where it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.point_in_time import known_before
from features.project import Project
from features.state import PASSED, MomentState, SliceEvents, exposed, leave, see, stream, versions

if TYPE_CHECKING:
    from models.interest.config import InterestConfig
    from models.interest.moments import MomentArrays


@dataclass(frozen=True)
class InterestInput:
    """What one slice hands to the interest model; `keys` name the rows of its candidates, in order."""

    texts: list[str]
    moments: "MomentArrays"
    keys: pl.DataFrame


def actions(project: Project) -> tuple[str, ...]:
    """The action vocabulary: the declared interaction kinds, and `passed`."""
    return (*project.labels.gains, PASSED)


def interest_config(project: Project) -> "InterestConfig":
    """The project's `[interest]` section as the interest room takes it."""
    from models.interest.config import InterestConfig

    return InterestConfig(**project.interest.model_dump(), actions=actions(project), seed=project.seed)


def item_vectors(items: pl.DataFrame, project: Project, cache: Path) -> pl.DataFrame:
    """`schemas.ItemVectors` of item versions: the frozen encoder's unit vector of each text."""
    from models.interest.text import frozen_vectors

    texts = [text_of(title, body) for title, body in items.select("title", "body").iter_rows()]
    vectors = frozen_vectors(texts, project.interest.encoder, project.interest.max_tokens, cache)
    return items.select("item_id", "known_at").with_columns(
        vector=pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1])).cast(pl.List(pl.Float32))
    )


def interest_scores(
    given: InterestInput, version: Path | None, fitted_until: str | None, cache: Path
) -> pl.DataFrame:
    """`schemas.InterestScores` by the version saved in a folder; null scores where there is none yet."""
    if version is None:
        values = np.full(given.keys.height, np.nan, np.float32)
    else:
        from models.interest.scoring import score
        from models.interest.version import InterestModel

        values = score(InterestModel.load(version), given.texts, given.moments, cache)
    return given.keys.with_columns(
        interest_score=pl.Series(values).fill_nan(None),
        interest_slice=pl.lit(fitted_until, pl.String),
    )


def text_of(title: str | None, body: str | None) -> str:
    """What the encoder reads of an item: title, then body."""
    return ". ".join(part for part in (title, body) if part)


def interest_input(
    state: MomentState, events: SliceEvents, project: Project, labels: pl.DataFrame | None = None
) -> InterestInput:
    """The slice's impressions with each user's moments known before them.

    `labels`: impression_id, item_id, label; without it labels are 0. Text 0 is the empty text of unknown items.
    """
    from models.interest.moments import MomentArrays

    seen = versions(state, events)
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
    moments = stream(state, leave(state, events, project), events, project).join(
        users.with_row_index("user"), on="user_id", maintain_order="left"
    )
    moments = moments.sort("user", "known_at", maintain_order=True)
    lists = candidates.group_by("user_id", "impression_id", "shown_at", maintain_order=True).agg(pl.len())
    lists = _prefixes(lists, moments, users)
    texts, text_of_version = _texts(seen)
    return InterestInput(
        texts=texts,
        moments=MomentArrays(
            history_item=_text_index(_latest(moments, seen, state.at), text_of_version),
            history_action=_codes(moments["action"], actions(project)),
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
            candidate_item=_text_index(candidates["version"], text_of_version),
            label=candidates["label"].fill_null(0.0).to_numpy().astype(np.float32)
            if labels is not None
            else np.zeros(candidates.height, np.float32),
        ),
        keys=candidates.select("impression_id", "item_id"),
    )


def _prefixes(lists: pl.DataFrame, moments: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """Adds `user` and `prefix`: how many of the user's moments were known before the list."""
    numbered = moments.select("user_id", "known_at", prefix=pl.int_range(1, pl.len() + 1).over("user_id"))
    return (
        known_before(lists, numbered, "shown_at", "known_at", by="user_id")
        .with_columns(pl.col("prefix").fill_null(0))
        .join(users.with_row_index("user"), on="user_id", maintain_order="left")
    )


def _latest(moments: pl.DataFrame, seen: pl.DataFrame, since: datetime) -> pl.Series:
    """Version of each past item as it read when the moment happened, or else as it read before `since`.

    A version that first became known within the slice is no stand-in: earlier impressions must not see it.
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


def _texts(seen: pl.DataFrame) -> tuple[list[str], NDArray[np.int64]]:
    """Distinct texts (0 is the empty one), and the text of each version; a last entry for "no version"."""
    texts = [""] + [text_of(title, body) for title, body in seen.select("title", "body").iter_rows()]
    distinct = list(dict.fromkeys(texts))
    place = {text: i for i, text in enumerate(distinct)}
    return distinct, np.array([place[text] for text in (*texts[1:], "")], np.int64)


def _text_index(version: pl.Series, text_of_version: NDArray[np.int64]) -> NDArray[np.int64]:
    rows = version.cast(pl.Int64).fill_null(len(text_of_version) - 1).to_numpy()
    return np.take(text_of_version, rows)


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
