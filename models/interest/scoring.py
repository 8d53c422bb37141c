"""Scores: of whole slices in batches, and of a live user whose state each event advances once.

A live state keeps each layer's keys and values of the last `window` history tokens; a batch recomputes them
from the arrays. Both give the same score (within 1e-4 in float32) for any split of a history into moments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.interest.config import InterestModelError
from models.interest.moments import MomentArrays, by_length, collate, gaps, segments
from models.interest.network import Visible
from models.interest.training import used_texts
from models.interest.version import InterestModel

_TOKENS_PER_BATCH = 16_384
_NEVER = -1.0


def score(
    model: InterestModel, texts: Sequence[str], moments: MomentArrays, cache: Path | None = None
) -> npt.NDArray[np.float32]:
    """Probability in (0, 1) of each candidate, [C]; labels are not looked at."""
    moments.check(len(texts), len(model.config.actions))
    result = np.zeros(len(moments.candidate_item), dtype=np.float32)
    pieces = [s for s in segments(moments, model.config) if s.candidates]
    if not pieces:
        return result
    texts, moments = used_texts(texts, moments, model.config)
    vectors = model.encoder.vectors(model.encoder.prepare(texts, cache))
    gap = gaps(moments)
    model.decoder.eval()
    with torch.inference_mode():
        for chunk in by_length(pieces, _TOKENS_PER_BATCH):
            batch = collate(moments, chunk, gap, model.config)
            result[batch.candidate] = _probability(model.decoder(batch, vectors))
    return result


@dataclass(frozen=True)
class LiveState:
    """What is remembered of one user: bounded by the window, however long the history."""

    keys: Tensor
    """[layers, heads, n, width / heads] of the last n ≤ window tokens."""
    values: Tensor
    """As `keys`."""
    at: Tensor
    """[n] epoch seconds of those tokens, float64."""
    places: Tensor
    """[n, views, p] their texts as `Taste` places them."""
    actions: Tensor
    """[n] what was done, as index into the vocabulary."""
    output: Tensor
    """[width] output of the newest token; the newcomer's vector before any."""


def start(model: InterestModel) -> LiveState:
    """State of a user with no past."""
    config = model.config
    empty = torch.zeros(config.layers, config.heads, 0, config.width // config.heads)
    decoder = model.decoder
    return LiveState(
        keys=empty,
        values=empty,
        at=torch.zeros(0, dtype=torch.float64),
        places=decoder.taste.place(torch.zeros(0, decoder.text.in_features)),
        actions=torch.zeros(0, dtype=torch.long),
        output=decoder.newcomer.detach(),
    )


def embed(model: InterestModel, texts: Sequence[str], cache: Path | None = None) -> Tensor:
    """Vectors [n, d] of texts, for `advance` and `score_live`; keep them, an item needs its own only once."""
    return model.encoder.vectors(model.encoder.prepare(texts, cache))


def advance(model: InterestModel, state: LiveState, vector: Tensor, action: str, at: float) -> LiveState:
    """State after the user did `action`, at `at` (epoch seconds), to the item with text `vector` [d]."""
    if action not in model.config.actions:
        raise InterestModelError(
            f"action {action!r} is not in the vocabulary: known are {', '.join(model.config.actions)}"
        )
    code = model.config.actions.index(action)
    with torch.inference_mode():
        output, keys, values, _ = _decode(model, state, vector[None], code, at)
        place = model.decoder.taste.place(model.decoder.normal(vector[None]))
    window = model.config.window
    return LiveState(
        keys=torch.cat([state.keys, keys], dim=2)[:, :, -window:],
        values=torch.cat([state.values, values], dim=2)[:, :, -window:],
        at=torch.cat([state.at, torch.tensor([at], dtype=torch.float64)])[-window:],
        places=torch.cat([state.places, place])[-window:],
        actions=torch.cat([state.actions, torch.tensor([code])])[-window:],
        output=output[0],
    )


def score_live(model: InterestModel, state: LiveState, vectors: Tensor, at: float) -> npt.NDArray[np.float32]:
    """Probabilities [n] of candidates with text `vectors` [n, d] shown at `at` (epoch seconds)."""
    decoder = model.decoder
    if not len(vectors):
        return np.zeros(0, dtype=np.float32)
    with torch.inference_mode():
        output, _, _, seen = _decode(model, state, vectors, len(model.config.actions), at)
        text = decoder.normal(vectors)
        places = decoder.taste.place(text)[None]
        taste = decoder.taste(places, state.places[None], state.actions[None], seen.allowed, seen.elapsed)[0]
        return _probability(decoder.head(output, state.output[None], text, decoder.item(text), taste))


def _decode(
    model: InterestModel, state: LiveState, vectors: Tensor, action: int, at: float
) -> tuple[Tensor, Tensor, Tensor, Visible]:
    """Outputs [n, width] of n tokens, side by side after the state; their keys and values in each layer."""
    decoder = model.decoder.eval()
    count, past = len(vectors), len(state.at)
    gap = max(at - float(state.at[-1]), 0.0) if past else _NEVER
    x = decoder.tokens(
        decoder.text(decoder.normal(vectors)), torch.full((count,), action), torch.full((count,), gap)
    )[None]
    seen = Visible.between(
        torch.full((1, count), past),
        torch.full((1, count), at, dtype=torch.float64),
        torch.arange(past),
        state.at[None],
        model.config.window,
    )
    keys, values = [], []
    for number, layer in enumerate(decoder.layers):
        x, key, value = layer(x, seen, (state.keys[number][None], state.values[number][None]))
        keys.append(key[0])
        values.append(value[0])
    return decoder.last(x)[0], torch.stack(keys), torch.stack(values), seen


def _probability(logits: Tensor) -> npt.NDArray[np.float32]:
    # float32 holds no number between 1 - 6e-8 and 1: the ends stay open.
    result: npt.NDArray[np.float32] = logits.sigmoid().clamp(1e-7, 1 - 1e-7).float().cpu().numpy()
    return result
