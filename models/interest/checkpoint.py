"""The state of an unfinished fit, in one file that is replaced atomically, so that a killed fit can be resumed."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .version import InterestModel

_EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class TrainingState:
    """What resuming a fit needs besides weights and optimiser."""

    step: int
    """Steps done."""
    history: list[dict[str, float]]
    vectors: Tensor
    """The cache of text vectors."""
    best: dict[str, Tensor]
    """Weights of the epoch with the lowest validation loss; empty without a holdout."""


class Checkpoint:
    """One fit's checkpoint in `folder`; `identity` hashes everything that the fit's result depends on."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._path = folder / "training.safetensors"
        self._identity = identity
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is old enough to be replaced."""
        return time.monotonic() - self._written >= _EVERY_SECONDS

    def save(self, model: InterestModel, optimiser: torch.optim.Optimizer, state: TrainingState) -> None:
        """Replace the checkpoint."""
        tensors = {f"model.{name}": value for name, value in model.trained().items()}
        tensors |= {f"best.{name}": value for name, value in state.best.items()}
        tensors |= {f"encoder.{name}": value for name, value in model.encoder.allocation().items()}
        tensors["vectors"] = state.vectors
        for number, slots in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": value for name, value in slots.items()}
        facts = {
            "identity": self._identity,
            "step": str(state.step),
            "history": json.dumps(state.history),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        save_file({n: v.detach().contiguous().cpu() for n, v in tensors.items()}, partial, metadata=facts)
        os.replace(partial, self._path)
        self._written = time.monotonic()

    def restore(self, model: InterestModel, optimiser: torch.optim.Optimizer) -> TrainingState | None:
        """Restore weights and optimiser; None without a checkpoint of the same identity."""
        try:
            with safe_open(self._path, framework="pt") as file:
                facts = file.metadata() or {}
                if facts.get("identity") != self._identity:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        model.restore(_under(tensors, "model."))
        model.encoder.resume(_under(tensors, "encoder."))
        states: dict[int, dict[str, Any]] = {}
        for name, value in _under(tensors, "optimiser.").items():
            number, _, field = name.partition(".")
            states.setdefault(int(number), {})[field] = value
        optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
        return TrainingState(
            step=int(facts["step"]),
            history=json.loads(facts["history"]),
            vectors=tensors["vectors"].to(model.device),
            best=_under(tensors, "best."),
        )


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
