"""Users' histories and the impressions in them, as arrays; cut into segments and padded into batches.

A segment is a run of one user's impressions with the history that can influence their scores: it starts
`config.reach` tokens before the newest token that its first impression sees. Only this module cuts histories.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .config import InterestConfig, InterestModelError
from .item_arrays import ItemArrays, inside

IMPRESSIONS_PER_SEGMENT = 8
"""Longer segments would attend over long histories of which each impression sees only a window."""


@dataclass(frozen=True)
class MomentArrays:
    """H history tokens of U users, ordered by user and time, and I impressions with C candidates in all."""

    history_item: npt.NDArray[np.int64]
    """[H] index into the items."""
    history_action: npt.NDArray[np.int64]
    """[H] index into `InterestConfig.actions`."""
    history_at: npt.NDArray[np.float64]
    """[H] epoch seconds."""
    user_start: npt.NDArray[np.int64]
    """[U+1] the history of user u is `user_start[u]:user_start[u+1]`."""
    impression_user: npt.NDArray[np.int64]
    """[I] index of the user."""
    impression_prefix: npt.NDArray[np.int64]
    """[I] number of visible history tokens of the user."""
    impression_at: npt.NDArray[np.float64]
    """[I] epoch seconds."""
    impression_start: npt.NDArray[np.int64]
    """[I+1] the candidates of impression i are `impression_start[i]:impression_start[i+1]`."""
    candidate_item: npt.NDArray[np.int64]
    """[C] index into the items."""
    label: npt.NDArray[np.float32]
    """[C] graded relevance, 0 or more."""

    def check(self, items: int, actions: int) -> None:
        """Raise InterestModelError if the arrays contradict each other or an index is out of range."""
        users = len(self.user_start) - 1
        length = np.diff(self.user_start)
        rules = {
            "history arrays differ in length": len(self.history_item)
            == len(self.history_action)
            == len(self.history_at)
            == int(self.user_start[-1]),
            "impression arrays differ in length": len(self.impression_user)
            == len(self.impression_prefix)
            == len(self.impression_at)
            == len(self.impression_start) - 1,
            "candidate arrays differ in length": len(self.candidate_item)
            == len(self.label)
            == int(self.impression_start[-1]),
            "an item index is outside the items": inside(self.history_item, items)
            and inside(self.candidate_item, items),
            "an action index is outside the vocabulary": inside(self.history_action, actions),
            "an impression's user is unknown": inside(self.impression_user, users),
        }
        broken = [sentence for sentence, holds in rules.items() if not holds]
        if (
            not broken
            and len(self.impression_user)
            and not (
                (self.impression_prefix >= 0) & (self.impression_prefix <= length[self.impression_user])
            ).all()
        ):
            broken = ["an impression sees more history than its user has"]
        if broken:
            raise InterestModelError(f"the moment arrays are inconsistent: {'; '.join(broken)}")

    def only(self, impressions: npt.NDArray[np.int64]) -> "MomentArrays":
        """The same histories with some of the impressions."""
        sizes = np.diff(self.impression_start)[impressions]
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        within = np.arange(start[-1]) - np.repeat(start[:-1], sizes)
        candidates = np.repeat(self.impression_start[impressions], sizes) + within
        return replace(
            self,
            impression_user=self.impression_user[impressions],
            impression_prefix=self.impression_prefix[impressions],
            impression_at=self.impression_at[impressions],
            impression_start=start,
            candidate_item=self.candidate_item[candidates],
            label=self.label[candidates],
        )

    def with_history_dropout(self, share: float, seed: int) -> "MomentArrays":
        """All impressions, followed by `share` of those with a history once more, with an empty one."""
        draw = np.random.default_rng(seed).random(len(self.impression_prefix))
        drawn = np.flatnonzero((draw < share) & (self.impression_prefix > 0))
        every = np.arange(len(self.impression_prefix))
        return replace(
            self.only(np.concatenate([every, drawn])),
            impression_prefix=np.concatenate([self.impression_prefix, np.zeros_like(drawn)]),
        )

    def digest(self) -> str:
        """Hash of the contents."""
        content = hashlib.sha256()
        for field in fields(self):
            content.update(np.ascontiguousarray(getattr(self, field.name)).tobytes())
        return content.hexdigest()


@dataclass(frozen=True)
class Segment:
    """A run of one user's impressions (ascending prefix) and the span of history tokens that can influence them."""

    start: int
    stop: int
    impressions: npt.NDArray[np.int64]
    candidates: int

    @property
    def length(self) -> int:
        """Number of tokens: history and candidates."""
        return self.stop - self.start + self.candidates


def segments(moments: MomentArrays, config: InterestConfig) -> list[Segment]:
    """Segments of all impressions, by user and visible history."""
    order = np.lexsort(
        (np.arange(len(moments.impression_user)), moments.impression_prefix, moments.impression_user)
    )
    user = moments.impression_user[order]
    prefix = moments.impression_prefix[order]
    counts = np.diff(moments.impression_start)
    result: list[Segment] = []
    first = 0
    for index in range(1, len(order) + 1):
        if (
            index < len(order)
            and index - first < IMPRESSIONS_PER_SEGMENT
            and user[index] == user[first]
            and prefix[index] - prefix[first] <= config.reach
        ):
            continue
        origin = int(moments.user_start[user[first]])
        members = order[first:index]
        result.append(
            Segment(
                start=origin + max(0, int(prefix[first]) - config.reach),
                stop=origin + int(prefix[index - 1]),
                impressions=members,
                candidates=int(counts[members].sum()),
            )
        )
        first = index
    return result


def used_items(
    items: ItemArrays, moments: MomentArrays, config: InterestConfig
) -> tuple[ItemArrays, MomentArrays]:
    """Only the items that can influence a score, and the arrays with indices into them."""
    reached = np.zeros(len(moments.history_item), dtype=bool)
    for segment in segments(moments, config):
        reached[segment.start : segment.stop] = True
    used = np.unique(np.concatenate([moments.history_item[reached], moments.candidate_item]))
    place = np.zeros(len(items), dtype=np.int64)
    place[used] = np.arange(len(used))
    return items.pick(used), replace(
        moments, history_item=place[moments.history_item], candidate_item=place[moments.candidate_item]
    )


@dataclass(frozen=True)
class Batch:
    """S segments padded to J history and M candidate tokens; T = J + M, history first."""

    item: Tensor
    """[S, T] index into the items."""
    action: Tensor
    """[S, T] action of a history token; the size of the vocabulary for a candidate."""
    gap: Tensor
    """[S, T] seconds since the user's previous token; -1 if there is none."""
    at: Tensor
    """[S, T] epoch seconds, float64."""
    prefix: Tensor
    """[S, T] number of the segment's history tokens before the token."""
    history: int
    """J"""
    newest: Tensor
    """[S, K] position of the newest history token that each impression of a segment sees; 0 if there is none."""
    row: Tensor
    """[N] segment of each real candidate."""
    column: Tensor
    """[N] its position in 0…M-1."""
    impression: Tensor
    """[N] its impression's position in 0…K-1."""
    candidate: npt.NDArray[np.int64]
    """[N] its index in the moment arrays; ordered by impression."""
    sizes: npt.NDArray[np.int64]
    """Candidates of each impression, in the order of `candidate`."""

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on a device."""
        tensors: dict[str, Any] = {n: v.to(device) for n, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)


def gaps(moments: MomentArrays) -> npt.NDArray[np.float32]:
    """[H] seconds since the user's previous history token; -1 for the first."""
    result = np.diff(moments.history_at, prepend=0.0)
    starts = moments.user_start[:-1]
    first = starts[starts < len(result)]
    result = np.maximum(result, 0.0)
    result[first] = -1.0
    return result.astype(np.float32)


def collate(
    moments: MomentArrays, chosen: Sequence[Segment], gap: npt.NDArray[np.float32], config: InterestConfig
) -> Batch:
    """Pad segments into one batch. `gap`: `gaps(moments)`, computed once for all batches."""
    history = max(s.stop - s.start for s in chosen)
    shape = (len(chosen), history + max(s.candidates for s in chosen))
    item = np.zeros(shape, dtype=np.int64)
    action = np.zeros(shape, dtype=np.int64)
    elapsed = np.full(shape, -1.0, dtype=np.float32)
    at = np.zeros(shape, dtype=np.float64)
    prefix = np.zeros(shape, dtype=np.int64)
    newest = np.zeros((len(chosen), max(len(s.impressions) for s in chosen)), dtype=np.int64)
    rows, columns, turns, members, sizes = [], [], [], [], []
    for number, segment in enumerate(chosen):
        span = slice(segment.start, segment.stop)
        length = segment.stop - segment.start
        item[number, :length] = moments.history_item[span]
        action[number, :length] = moments.history_action[span]
        elapsed[number, :length] = gap[span]
        at[number, :length] = moments.history_at[span]
        prefix[number, :length] = np.arange(length)
        place = history
        for turn, impression in enumerate(segment.impressions):
            low, high = moments.impression_start[impression : impression + 2]
            origin = moments.user_start[moments.impression_user[impression]]
            visible = int(origin + moments.impression_prefix[impression])
            where = slice(place, place + int(high - low))
            item[number, where] = moments.candidate_item[low:high]
            action[number, where] = len(config.actions)
            at[number, where] = moments.impression_at[impression]
            prefix[number, where] = visible - segment.start
            if visible > origin:
                newest[number, turn] = visible - 1 - segment.start
                since = moments.impression_at[impression] - moments.history_at[visible - 1]
                elapsed[number, where] = max(since, 0.0)
            rows.append(np.full(high - low, number))
            columns.append(np.arange(where.start, where.stop) - history)
            turns.append(np.full(high - low, turn))
            members.append(np.arange(low, high))
            sizes.append(int(high - low))
            place = where.stop
    return Batch(
        item=torch.from_numpy(item),
        action=torch.from_numpy(action),
        gap=torch.from_numpy(elapsed),
        at=torch.from_numpy(at),
        prefix=torch.from_numpy(prefix),
        history=history,
        newest=torch.from_numpy(newest),
        row=torch.from_numpy(np.concatenate(rows)),
        column=torch.from_numpy(np.concatenate(columns)),
        impression=torch.from_numpy(np.concatenate(turns)),
        candidate=np.concatenate(members),
        sizes=np.array(sizes, dtype=np.int64),
    )


def by_length(chosen: Sequence[Segment], tokens: int) -> Iterator[list[Segment]]:
    """Batches of segments of similar length, with at most `tokens` padded tokens each."""
    batch: list[Segment] = []
    for segment in sorted(chosen, key=lambda s: s.length):
        if batch and segment.length * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(segment)
    if batch:
        yield batch
