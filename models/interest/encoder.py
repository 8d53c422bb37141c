"""Item text → unit vectors: tokenise, pack, encode, cache what tuning does not change.

That is the vector itself (`frozen`), the hidden states below the tuned layers (`top:N`), or the token ids (`lora`,
`adalora`, `full`). Each distinct text is encoded once, in packs of a fixed number of tokens, so that its vector does
not depend on the other texts.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .adapters import Allocation, add_lora
from .config import InterestModelError, find_device
from .layers import LayerStack
from .packing import ATTENTION, Pack, packs
from .pretrained import load_encoder
from .store import RowStore, key

_PACK_TOKENS = {"cpu": 1024, "cuda": 32_768}
"""Smaller packs leave the processor idle; larger ones make a single text slow, because packs are filled up."""
_NEAR = 1e-3
"""Tolerance between packed and padded hidden states in float32; they are about 1."""

Row = npt.NDArray[Any]
_PROBE: tuple[Row, ...] = tuple(np.arange(5, 5 + length, dtype=np.int32) for length in (4, 9, 2))
_log = logging.getLogger(__name__)


def fast_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 instructions; without them fp32 is faster."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class TextEncoder(nn.Module):
    """A Hugging Face text encoder with its authors' pooling and prompt, whose layers or adapters may be tuned."""

    def __init__(
        self,
        name: str,
        tune: str = "frozen",
        max_tokens: int = 48,
        *,
        rank: int = 8,
        seed: int = 1,
        device: str | torch.device = "auto",
        bf16: bool = True,
    ) -> None:
        """`rank` and `seed`: for `lora` and `adalora`. `device`: a name as in the configuration.

        `max_tokens` is lowered to the length of the longest text that the encoder reads.

        Raises InterestModelError if this machine has no such encoder, or the encoder has too few layers to tune.
        """
        super().__init__()
        self.name, self.tune = name, tune
        self.device = find_device(device) if isinstance(device, str) else device
        loaded = load_encoder(name)
        self.tokenizer, self.base, self.hash = loaded.tokenizer, loaded.model, loaded.hash
        self.max_tokens = min(max_tokens, loaded.max_tokens or max_tokens)
        self._pooling, self._prompt = loaded.pooling, loaded.prompt
        self.base.eval().requires_grad_(False)
        self.width = int(self.base.config.hidden_size)
        self.base.to(self.device)
        self._bf16, self._first_position = False, 0
        self._padded = LayerStack(self.base)
        self._below = len(self._padded.layers)
        self._packed: list[nn.Module] = []
        """The layers, where they can be run one by one on packs."""
        self._find_packed()
        self._allocation: Allocation | None = None
        self._prepare_tuning(rank, seed)
        self._bf16 = bf16 and fast_bf16(self.device)
        if self._bf16:
            _halve(self.base)
        if self.device.type == "cuda":
            self._compile()

    def _find_packed(self) -> None:
        """Find the layers that can run one by one on packs; none if that changes the hidden states."""
        layers = getattr(getattr(self.base, "encoder", None), "layer", None)
        if layers is None:
            return
        with torch.inference_mode():
            expected, _ = self._embed(_PROBE)
            before = self.base.config._attn_implementation
            try:
                self.base.set_attn_implementation(ATTENTION)
                # RoBERTa and related models number positions from padding_idx + 1.
                self._first_position = getattr(self.base.embeddings, "padding_idx", -1) + 1
                self._packed = list(layers)
                found, _ = self._embed(_PROBE)
                same = bool((found - expected).abs().max() < _NEAR)
            except Exception:  # an unknown architecture may fail in any way
                same = False
        if not same:
            self._packed = []
            self.base.set_attn_implementation(before)

    def _compile(self) -> None:
        """Compile the layers; without a compiler they run uncompiled."""
        plain = self._packed
        self._packed = [torch.compile(layer, dynamic=True) for layer in plain]  # type: ignore[misc]
        try:
            self._through(
                torch.zeros(8, self.width, device=self.device), Pack.of([3, 5], self.device), self._packed
            )
        except Exception as error:  # missing compilers and unknown operators fail in many ways
            _log.warning("the text encoder runs without torch.compile: %s", error)
            self._packed = plain

    def _prepare_tuning(self, rank: int, seed: int) -> None:
        if self.tune == "full":
            self.base.requires_grad_(True)
        elif self.tune == "lora":
            add_lora(self.base, rank, seed)
        elif self.tune == "adalora":
            self._allocation = Allocation(self.base, rank, seed)
        elif self.tune.startswith("top:"):
            count = int(self.tune.removeprefix("top:"))
            if count > self._below:
                raise InterestModelError(
                    f'tune = "{self.tune}", but {self.name} has {self._below} layers that can be tuned alone: choose '
                    "fewer, frozen, lora or full"
                )
            self._below -= count
            for layer in self._padded.layers[self._below :]:
                layer.requires_grad_(True)

    def tuned_parameters(self) -> dict[str, nn.Parameter]:
        """Trained weights by name."""
        return {name: p for name, p in self.base.named_parameters() if p.requires_grad}

    def stepped(self, step: int, steps: int) -> None:
        """Update AdaLoRA's ranks after step `step` (from 1) of `steps`, before gradients are cleared."""
        if self._allocation is not None:
            self._allocation.stepped(step, steps)

    def penalty(self) -> Tensor:
        """AdaLoRA's regularisation term for the loss; 0 for other ways of tuning."""
        return torch.zeros(()) if self._allocation is None else self._allocation.penalty()

    def allocation(self) -> dict[str, Tensor]:
        """State of `stepped` besides the weights, for `resume`."""
        return {} if self._allocation is None else self._allocation.state()

    def resume(self, allocation: dict[str, Tensor]) -> None:
        """Inverse of `allocation`."""
        if self._allocation is not None:
            self._allocation.restore(allocation)

    def prepare(self, texts: Sequence[str], cache: Path | None = None) -> list[Row]:
        """One row per text, the input of `forward`; computed once per distinct text and stored in `cache`."""
        ids = self.tokenise(texts)
        if self._from_ids:
            return ids
        kind = self._pooling if self.tune == "frozen" else f"layer{self._below}"
        precision = f"{self.device.type}-{'bf16' if self._bf16 else 'fp32'}"
        label = f"{self.hash[:16]}-{self.max_tokens}-{kind}-{precision}"
        store = RowStore(cache / label if cache is not None else None)
        keys = [key(self._prompt + text) for text in texts]
        fresh = list({keys[n]: n for n in store.missing(keys)}.values())
        rows: list[Row] = [np.empty(0)] * len(fresh)
        with torch.inference_mode():
            for chosen, filled in self._packs([ids[n] for n in fresh]):
                for place, row in zip(chosen, self._kept(*self._embed(filled)), strict=False):
                    rows[place] = row
        store.put([keys[n] for n in fresh], rows)
        return [store.get(name) for name in keys]

    def forward(self, rows: Sequence[Row]) -> Tensor:
        """Unit vectors [n, width] from rows of `prepare`, with gradients for tuned weights."""
        if self.tune == "frozen":
            return torch.from_numpy(np.concatenate(rows)).to(self.device)
        if self._from_ids:
            hidden, pack = self._embed(rows)
            return pack.pool(hidden, self._pooling)
        pack = Pack.of([len(row) for row in rows], self.device)
        states = torch.from_numpy(np.concatenate(rows)).to(self.device).float()
        if self._packed:
            states = self._through(states, pack, self._packed[self._below :])
        else:
            with self._autocast():
                states = self._padded.above(self._below, pack.spread(states), pack.real.long())
            states = pack.gather(states)
        return pack.pool(states, self._pooling)

    def vectors(self, rows: Sequence[Row]) -> Tensor:
        """`forward` without gradients, for any number of rows: [n, width] float32."""
        if self.tune == "frozen" and len(rows):
            return self.forward(rows)
        result = torch.zeros(len(rows), self.width, device=self.device)
        with torch.no_grad():
            for chosen, filled in self._packs(rows):
                result[torch.tensor(chosen, device=self.device)] = self(filled)[: len(chosen)]
        return result

    @property
    def _from_ids(self) -> bool:
        """Whether every layer may change, so that only token ids can be cached."""
        return self.tune in ("lora", "adalora", "full")

    def tokenise(self, texts: Sequence[str]) -> list[Row]:
        """Token ids of each text after the prompt, cut at `max_tokens`; at least one."""
        if not texts:
            return []
        # The tokeniser rejects lone surrogates, which broken logs contain.
        clean = [(self._prompt + text).encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = self.tokenizer(clean, truncation=True, max_length=self.max_tokens)["input_ids"]
        return [np.array(row or [self.tokenizer.pad_token_id or 0], dtype=np.int32) for row in encoded]

    def _packs(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], list[Row]]]:
        """Positions of the rows of each pack, and these rows followed by filler."""
        lengths = [len(row) for row in rows]
        for chosen, filler in packs(lengths, _PACK_TOKENS[self.device.type], padding=not self._packed):
            own = [rows[n] for n in chosen]
            yield chosen, own + [np.zeros((length, *own[0].shape[1:]), own[0].dtype) for length in filler]

    def _embed(self, ids: Sequence[Row]) -> tuple[Tensor, Pack]:
        """Hidden states [T, width] that enter the tuned layers, or leave the last one if none is tuned."""
        pack = Pack.of([len(row) for row in ids], self.device)
        tokens = torch.from_numpy(np.concatenate(ids).astype(np.int64)).to(self.device)
        if self._packed:
            place = pack.position[None] + self._first_position
            with self._autocast():
                hidden = self.base.embeddings(input_ids=tokens[None], position_ids=place)[0]
            return self._through(hidden, pack, self._packed[: self._below]), pack
        with self._autocast():
            states = self._padded.below(self._below, pack.spread(tokens), pack.real.long())
        return pack.gather(states).float(), pack

    def _through(self, hidden: Tensor, pack: Pack, layers: Sequence[nn.Module]) -> Tensor:
        """Hidden states [T, width] after `layers`."""
        with self._autocast():
            for layer in layers:
                hidden = _output(layer(hidden[None], None, pack=pack))[0]
        return hidden.float()

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self._bf16 else nullcontext()

    def _kept(self, hidden: Tensor, pack: Pack) -> list[Row]:
        """Rows for the cache, on the CPU."""
        if self.tune == "frozen":
            return list(pack.pool(hidden, self._pooling).cpu().numpy()[:, None])
        states = hidden.clamp(-6e4, 6e4).half().cpu().numpy()
        return [row.copy() for row in np.split(states, pack.ends[1:-1].cpu().numpy())]


def frozen_vectors(
    texts: Sequence[str], encoder: str = "all-MiniLM-L6-v2", max_tokens: int = 48, cache: Path | None = None
) -> npt.NDArray[np.float32]:
    """Unit vectors [n, d] of the pre-trained encoder; each distinct text is encoded once."""
    model = load_frozen(encoder, max_tokens)
    rows = model.prepare(texts, cache)
    return np.concatenate(rows).astype(np.float32) if rows else np.zeros((0, model.width), dtype=np.float32)


@lru_cache(maxsize=2)
def load_frozen(encoder: str, max_tokens: int) -> TextEncoder:
    """The pre-trained encoder, loaded once per process."""
    return TextEncoder(encoder, "frozen", max_tokens)


def _halve(model: nn.Module) -> None:
    """Convert frozen matrices to bf16 once, which autocast would do at every use."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.requires_grad:
            module.to(torch.bfloat16)


def _output(result: Any) -> Tensor:
    """Layers of older architectures return a tuple."""
    output: Tensor = result[0] if isinstance(result, tuple) else result
    return output
