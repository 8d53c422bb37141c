"""What a fit does before its first step: load the model, prepare texts, hash its inputs, seed."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .config import InterestConfig, InterestModelError
from .encoder import Row
from .item_arrays import ItemArrays
from .moment_arrays import MomentArrays
from .version import InterestModel
from .workers import Workers

_SHAPE = (
    "tune", "rank", "max_tokens", "window", "width", "layers", "heads", "actions", "attributes", "numbers", "ids"
)  # fmt: skip


def setup(config: InterestConfig, start_from: Path | None) -> InterestModel:
    """A fresh model, or the version in `start_from`. Raises InterestModelError if that version has another shape."""
    if start_from is None:
        return InterestModel(config)
    model = InterestModel.load(start_from, encoder=config.encoder, device=config.device)
    for name in _SHAPE:
        found, wanted = getattr(model.config, name), getattr(config, name)
        if found != wanted:
            raise InterestModelError(
                f"the version in {start_from} has {name} {found!r}, the configuration {wanted!r}: set "
                f"interest.{name} back, or fit without a version to start from"
            )
    model.resume(config)
    return model


def prepare(model: InterestModel, texts: list[str], cache: Path | None, workers: Workers) -> list[Row]:
    """The encoder's rows of all texts. With a shared cache, each worker computes a part of them."""
    if workers.size > 1 and cache is not None:
        model.encoder.prepare(workers.shard(texts), cache)
        workers.barrier()
    return model.encoder.prepare(texts, cache)


def identity(model: InterestModel, items: ItemArrays, moments: MomentArrays, config: InterestConfig) -> str:
    """Hash of everything that a fit's result depends on."""
    content = hashlib.sha256(json.dumps(config.as_dict(), sort_keys=True).encode())
    content.update(model.encoder.hash.encode())
    content.update(items.digest().encode())
    content.update(moments.digest().encode())
    for _, value in sorted(model.trained().items()):
        content.update(value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Inside the context, the same seed gives the same result; random state and settings are restored after it."""
    before, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Otherwise every new tensor is filled with NaN first.
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn)
            memory.fill_uninitialized_memory = fill
