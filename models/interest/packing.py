"""Texts of different length laid end to end, so that no layer of the encoder computes padding.

Linear layers, norms and activations process real tokens only. Attention is within each text: on CUDA by kernels for
variable lengths, elsewhere by padding queries, keys and values for this one product.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

ATTENTION = f"packed_{__name__.replace('.', '_')}"
"""Name of `attend` among the attention implementations of transformers."""
_LENGTH_STEP = 8
"""Widths are multiples of this, so that there are few of them."""


@dataclass(frozen=True)
class Pack:
    """n texts with T tokens in total."""

    ends: Tensor
    """[n+1] text i is tokens `ends[i]:ends[i+1]`; int32."""
    owner: Tensor
    """[T] text of each token."""
    position: Tensor
    """[T] position of each token in its text."""
    real: Tensor
    """[n, L] which positions of the padded rectangle have a token."""
    width: int
    """L: the longest text, rounded up."""

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Pack":
        """A pack of texts with these lengths."""
        sizes = np.asarray(lengths, dtype=np.int64)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        owner = np.repeat(np.arange(len(sizes)), sizes)
        width = _padded(int(sizes.max()))
        return cls(
            ends=torch.from_numpy(ends.astype(np.int32)).to(device),
            owner=torch.from_numpy(owner).to(device),
            position=torch.from_numpy(np.arange(ends[-1]) - ends[owner]).to(device),
            real=torch.from_numpy(np.arange(width) < sizes[:, None]).to(device),
            width=width,
        )

    def spread(self, tokens: Tensor) -> Tensor:
        """[n, L, …] from [T, …], with zeros for padding."""
        empty = tokens.new_zeros(self.real.numel(), *tokens.shape[1:])
        filled = empty.index_copy(0, self._place, tokens)
        return filled.view(*self.real.shape, *tokens.shape[1:])

    def gather(self, rectangle: Tensor) -> Tensor:
        """Inverse of `spread`."""
        return rectangle.flatten(0, 1).index_select(0, self._place)

    @property
    def _place(self) -> Tensor:
        return self.owner * self.width + self.position

    def pool(self, hidden: Tensor, pooling: str) -> Tensor:
        """Unit vectors [n, d] of `hidden` [T, d], in float32: the `mean` of a text's tokens, its first or its last."""
        if pooling != "mean":
            chosen = self.ends[:-1] if pooling == "cls" else self.ends[1:] - 1
            return F.normalize(hidden[chosen.long()].float(), dim=-1)
        sums = hidden.new_zeros(len(self.real), hidden.shape[-1], dtype=torch.float32)
        sums = sums.index_add(0, self.owner, hidden.float())
        return F.normalize(sums / self.ends.diff()[:, None], dim=-1)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    *,
    pack: Pack,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention inside each text of a pack: `query`, `key`, `value` [1, heads, T, d] → [1, T, heads, d]."""
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    if _has_varlen(q):
        # Here, because it imports torch's compiler: 1.8 seconds in each process without a GPU.
        from torch.nn.attention.varlen import varlen_attn

        flash: Any = varlen_attn(q, k, v, pack.ends, pack.ends, pack.width, pack.width, scale=scaling)
        return flash[None], None
    q, k, v = (pack.spread(part).transpose(1, 2) for part in (q, k, v))
    seen = pack.real[:, None, None]
    if q.requires_grad and not q.is_cuda:
        # For short texts, the fused kernel's backward pass doubles the time of a training step.
        scale = q.shape[-1] ** -0.5 if scaling is None else scaling
        weight = (q @ k.transpose(-1, -2) * scale).masked_fill(~seen, float("-inf")).softmax(-1)
        mixed = weight.to(v.dtype) @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scaling)
    return pack.gather(mixed.transpose(1, 2))[None], None


AttentionInterface.register(ATTENTION, attend)


def _has_varlen(query: Tensor) -> bool:
    """Whether flash attention supports the tensor: half precision, Ampere or newer."""
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def packs(
    lengths: Sequence[int], tokens: int, *, padding: bool = False
) -> Iterator[tuple[list[int], list[int]]]:
    """Positions of the texts of each pack, and lengths of filler texts that fill it up to `tokens`.

    The texts of a pack have one width, so that the shapes of matrix products and attention, and thus their rounding, do
    not depend on the other texts. With `padding`, every text counts as its width.
    """
    groups: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        groups.setdefault(_padded(length), []).append(number)
    for width, group in sorted(groups.items()):
        chosen: list[int] = []
        left = tokens
        for number in group:
            size = width if padding else lengths[number]
            if chosen and size > left:
                yield chosen, _filler(left, width, padding)
                chosen, left = [], tokens
            chosen.append(number)
            left -= size
        yield chosen, _filler(left, width, padding)


def _filler(left: int, width: int, padding: bool) -> list[int]:
    whole, rest = divmod(max(left, 0), width)
    return [width] * whole + [rest] * bool(rest and not padding)


def _padded(length: int) -> int:
    return -(-length // _LENGTH_STEP) * _LENGTH_STEP
