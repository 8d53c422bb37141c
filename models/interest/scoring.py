"""Interest scores: of a slice in batches, and of a live user, whose state each event advances once.

A live state keeps the keys and values of the last `window` history tokens in each layer; a batch recomputes them from
the arrays. Both give the same scores (within 1e-4 in float32).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .item_arrays import Embedded, ItemArrays
from .moment_arrays import MomentArrays, by_length, collate, gaps, segments, used_items
from .network import Visible
from .reader import Reading
from .version import InterestModel

_TOKENS_PER_BATCH = 16_384
_NEVER = -1.0


def score(
    model: InterestModel, items: ItemArrays, moments: MomentArrays, cache: Path | None = None
) -> npt.NDArray[np.float32]:
    """Click probability in (0, 1) of each candidate, [C]; labels are not used."""
    items.check(model.config)
    moments.check(len(items), len(model.config.actions))
    result = np.zeros(len(moments.candidate_item), dtype=np.float32)
    pieces = [s for s in segments(moments, model.config) if s.candidates]
    if not pieces:
        return result
    items, moments = used_items(items, moments, model.config)
    gap = gaps(moments)
    decoder = model.decoder.eval()
    with torch.inference_mode():
        read = decoder.items(embed(model, items, cache))
        for chunk in by_length(pieces, _TOKENS_PER_BATCH):
            batch = collate(moments, chunk, gap, model.config).to(model.device)
            result[batch.candidate] = _probability(decoder(batch, read))
    return result


@dataclass(frozen=True)
class LiveState:
    """The decoder's state of one user; its size is bounded by the window."""

    keys: Tensor
    """[layers, heads, n, width / heads] of the last n ≤ window tokens."""
    values: Tensor
    """As `keys`."""
    at: Tensor
    """[n] epoch seconds of those tokens, float64."""
    places: Tensor
    """[n, views, p] views of those items, for `Taste`."""
    actions: Tensor
    """[n] indices of the actions."""
    output: Tensor
    """[width] output of the newest token; `no_history` without one."""


def start(model: InterestModel) -> LiveState:
    """State of a user without a history."""
    config, device = model.config, model.device
    empty = torch.zeros(config.layers, config.heads, 0, config.width // config.heads, device=device)
    return LiveState(
        keys=empty,
        values=empty,
        at=torch.zeros(0, dtype=torch.float64, device=device),
        places=torch.zeros(0, *model.decoder.items.taste.shape, device=device),
        actions=torch.zeros(0, dtype=torch.long, device=device),
        output=model.decoder.no_history.detach(),
    )


def embed(model: InterestModel, items: ItemArrays, cache: Path | None = None) -> Embedded:
    """Encoded items, the input of `advance` and `score_live`; keep them for later calls."""
    items.check(model.config)
    return items.tensors(model.encoder.vectors(model.encoder.prepare(items.texts, cache)))


def advance(model: InterestModel, state: LiveState, item: Embedded, action: str, at: float) -> LiveState:
    """State after `action` on `item` (a single item) at `at` (epoch seconds)."""
    return extend(model, state, item, [action], np.array([at]))


def extend(
    model: InterestModel,
    state: LiveState,
    items: Embedded,
    actions: Sequence[str],
    at: npt.NDArray[np.float64],
) -> LiveState:
    """State after n events in order: `actions` on `items` at `at` [n] (epoch seconds)."""
    device = model.device
    codes = torch.tensor([model.config.action_code(action) for action in actions], device=device)
    when = torch.as_tensor(at, dtype=torch.float64, device=device)
    with torch.inference_mode():
        read = model.decoder.items(items)
        known = torch.cat([state.at, when])
        before = known[len(state.at) - 1 : -1] if len(state.at) else torch.cat([when[:1], when[:-1]])
        gap = (when - before).clamp_min(0.0).float()
        if not len(state.at):
            gap[:1] = _NEVER
        places = len(state.at) + torch.arange(len(when), device=device)
        output, keys, values, _ = _decode(model, state, read, codes, gap, when, places, known)
    window = model.config.window
    return LiveState(
        keys=torch.cat([state.keys, keys], dim=2)[:, :, -window:],
        values=torch.cat([state.values, values], dim=2)[:, :, -window:],
        at=known[-window:],
        places=torch.cat([state.places, read.place])[-window:],
        actions=torch.cat([state.actions, codes])[-window:],
        output=output[-1],
    )


def read_items(model: InterestModel, items: Embedded) -> Reading:
    """Items as the decoder reads them, computed once for many requests."""
    with torch.inference_mode():
        found: Reading = model.decoder.items(items)
        return found


def score_live(
    model: InterestModel, state: LiveState, items: Embedded | Reading, at: float
) -> npt.NDArray[np.float32]:
    """Probabilities [n] of candidates `items` (n of them) shown at `at` (epoch seconds)."""
    read = read_items(model, items) if isinstance(items, Embedded) else items
    count, past = len(read.token), len(state.at)
    if not count:
        return np.zeros(0, dtype=np.float32)
    with torch.inference_mode():
        decoder = model.decoder
        # All candidates have the same instant and history: one row of biases serves them all.
        when = state.at.new_full((1,), at)
        gap = (when - state.at[-1]).clamp_min(0.0).float() if past else when.new_full((1,), _NEVER).float()
        codes = state.actions.new_full((1,), len(model.config.actions))
        places = state.actions.new_full((1,), past)
        output, _, _, seen = _decode(model, state, read, codes, gap, when, places, state.at)
        taste = decoder.items.taste(
            read.place[None], state.places[None], state.actions[None], seen.allowed, seen.elapsed
        )[0]
        return _probability(
            decoder.head(output, state.output[None], read.item_embedding, read.item_bias, taste)
        )


def _decode(
    model: InterestModel, state: LiveState, read: Reading, actions: Tensor, gap: Tensor, at: Tensor, prefix: Tensor,
    known: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Visible]:  # fmt: skip
    """Outputs [n, width] of n tokens after the state, their keys and values per layer, and what they see.

    Token i sees the first `prefix[i]` of the tokens at `known`: those of the state, then of these. Tokens that share
    action, gap, instant and prefix may be given them once.
    """
    decoder = model.decoder
    x = decoder.tokens(read.token, actions, gap)[None]
    seen = Visible.between(prefix[None], at[None], known[None], model.config.window)
    keys, values = [], []
    for number, layer in enumerate(decoder.layers):
        x, key, value = layer(x, seen, (state.keys[number][None], state.values[number][None]))
        keys.append(key[0])
        values.append(value[0])
    return decoder.last(x)[0], torch.stack(keys), torch.stack(values), seen


def _probability(logits: Tensor) -> npt.NDArray[np.float32]:
    # Rounding to float32 must not give exactly 0 or 1.
    result: npt.NDArray[np.float32] = logits.sigmoid().clamp(1e-7, 1 - 1e-7).float().cpu().numpy()
    return result
