"""Contributions of a user's past moments to a candidate's logit.

Each past moment has a presence of 1: its weight in every attention, in `Taste` and in the user's state. A moment's
contribution is the derivative of the logit with respect to its presence, which costs one more pass over a
candidate's tokens. Leaving out moments one by one gives nearly the same order; a test compares the two.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .item_arrays import Embedded, ItemArrays
from .moment_arrays import Batch, MomentArrays, by_length, collate, gaps, segments, used_items
from .network import MomentDecoder, Visible
from .reader import Reading
from .scoring import embed
from .version import InterestModel

_TOKENS_PER_BATCH = 2048
"""Fewer than for scores, because the history's keys are copied for each candidate."""


@dataclass(frozen=True)
class Contributions:
    """The moments with the greatest contributions to each of C candidates, greatest first."""

    moment: npt.NDArray[np.int64]
    """[C, top] index into the history arrays; -1 if the candidate sees fewer moments."""
    weight: npt.NDArray[np.float32]
    """[C, top] in units of the logit; negative if a moment counts against the candidate."""


def contributions(
    model: InterestModel, items: ItemArrays, moments: MomentArrays, top: int, cache: Path | None = None
) -> Contributions:
    """The `top` moments of each candidate's visible history. Arrays and errors as in `scoring.score`."""
    items.check(model.config)
    moments.check(len(items), len(model.config.actions))
    if not len(moments.history_item) or not len(moments.candidate_item):
        return _nothing(len(moments.candidate_item), top)
    items, moments = used_items(items, moments, model.config)
    return contributions_of(model, embed(model, items, cache), moments, top)


def contributions_of(model: InterestModel, items: Embedded, moments: MomentArrays, top: int) -> Contributions:
    """`contributions` of encoded items."""
    result, decoder = _nothing(len(moments.candidate_item), top), model.decoder.eval()
    with torch.no_grad():
        read = decoder.items(items)
    pieces = [s for s in segments(moments, model.config) if s.candidates and s.stop > s.start]
    gap = gaps(moments)
    for chunk in by_length(pieces, _TOKENS_PER_BATCH):
        batch = collate(moments, chunk, gap, model.config).to(model.device)
        best = _slopes(decoder, batch, read).topk(min(top, batch.history))
        value, token = best.values.cpu().numpy(), best.indices.cpu().numpy()
        origin = np.array([segment.start for segment in chunk])[batch.row.cpu().numpy(), None]
        visible = np.isfinite(value)
        result.moment[batch.candidate, : value.shape[1]] = np.where(visible, origin + token, -1)
        result.weight[batch.candidate, : value.shape[1]] = np.where(visible, value, 0.0)
    return result


def _nothing(candidates: int, top: int) -> Contributions:
    return Contributions(np.full((candidates, top), -1, np.int64), np.zeros((candidates, top), np.float32))


def _slopes(decoder: MomentDecoder, batch: Batch, read: Reading) -> Tensor:
    """[N, J] derivative of each candidate's logit by each history token's presence; -inf if it is not visible."""
    length, row, place = batch.history, batch.row, batch.history + batch.column
    x, past, states = _remember(decoder, batch, read)
    visible = batch.prefix[row, place]
    newest = (visible - 1).clamp_min(0)
    presence = torch.ones(len(row), length, device=x.device, requires_grad=True)
    # Two tokens per candidate: the user's newest, whose output is the user's state, and the candidate itself.
    both = torch.stack([newest, place], dim=1)
    seen = Visible.between(
        torch.stack([newest, visible], dim=1),
        batch.at[row[:, None], both],
        batch.at[row, :length],
        decoder.config.window,
    )
    x = x[row[:, None], both]
    for layer, (keys, values) in zip(decoder.layers, past, strict=True):
        x, _, _ = layer(x, replace(seen, presence=presence), (keys[row], values[row]))
    x = decoder.last(x)
    # Without the newest moment, the user would still have the state before it.
    before = states[row, newest]
    state = before + presence.gather(1, newest[:, None]) * (x[:, 0] - before)
    chosen, item = batch.item[row, place], batch.item[row, :length]
    taste = decoder.items.taste(
        read.place[chosen][:, None],
        read.place[item],
        batch.action[row, :length],
        seen.allowed[:, 1:],
        seen.elapsed[:, 1:],
        presence,
    )[:, 0]
    logit = decoder.head(x[:, 1], state, read.item_embedding[chosen], read.item_bias[chosen], taste)
    (slope,) = torch.autograd.grad(logit.sum(), presence)
    return slope.masked_fill(~seen.allowed[:, 1], float("-inf"))


@torch.no_grad()
def _remember(
    decoder: MomentDecoder, batch: Batch, read: Reading
) -> tuple[Tensor, list[tuple[Tensor, Tensor]], Tensor]:
    """Tokens [S, T, width], the history's keys and values in each layer, and states [S, J+1, width].

    State n is that of a user with n moments; state 0 is `no_history`.
    """
    length = batch.history
    tokens = decoder.tokens(read.token[batch.item], batch.action, batch.gap)
    at = batch.at[:, :length]
    seen = Visible.between(batch.prefix[:, :length], at, at, decoder.config.window)
    x, past = tokens[:, :length], []
    for layer in decoder.layers:
        x, key, value = layer(x, seen)
        past.append((key, value))
    no_history = decoder.no_history.expand(len(x), 1, -1)
    return tokens, past, torch.cat([no_history, decoder.last(x)], dim=1)
