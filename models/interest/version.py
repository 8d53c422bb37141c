"""A version of the interest model: trained weights, tokenizer, configuration and the base encoder's hash."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from .config import InterestConfig, InterestModelError, find_device
from .encoder import TextEncoder
from .network import MomentDecoder

_FORMAT = 5


class InterestModel:
    """A text encoder and its moment decoder; `history` is the loss curve of the last fit."""

    def __init__(self, config: InterestConfig) -> None:
        """A fresh model: the pre-trained encoder and a seeded decoder."""
        self.config = config
        self.device = find_device(config.device)
        self.encoder = TextEncoder(
            config.encoder,
            config.tune,
            config.max_tokens,
            rank=config.rank,
            seed=config.seed,
            device=self.device,
        )
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.decoder = MomentDecoder(config, self.encoder.width)
        self.decoder.to(self.device).eval()
        self.history: list[dict[str, float]] = []

    def trained(self) -> dict[str, Tensor]:
        """Weights that training changes, by name."""
        weights = {f"decoder.{name}": value for name, value in self.decoder.state_dict().items()}
        weights |= {f"encoder.{name}": value.data for name, value in self.encoder.tuned_parameters().items()}
        return weights

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Inverse of `trained`."""
        own = self.trained()
        if own.keys() != weights.keys():
            odd = sorted(own.keys() ^ weights.keys())[:3]
            raise InterestModelError(
                f"the saved weights do not match the configuration, for example {odd}: fit anew"
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(weights[name])

    def resume(self, config: InterestConfig) -> None:
        """Prepare for another fit with a configuration of the same shape."""
        self.config = self.decoder.config = self.decoder.items.config = config
        self.history = []

    def save(self, folder: Path) -> None:
        """Write safetensors, tokenizer and JSON into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({n: v.contiguous().cpu() for n, v in self.trained().items()}, folder / "model.safetensors")
        self.encoder.tokenizer.save_pretrained(folder / "tokenizer")
        description = {
            "format": _FORMAT,
            "config": self.config.as_dict(),
            "base": {"name": self.encoder.name, "hash": self.encoder.hash},
            "versions": {
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "numpy": np.__version__,
            },
            "history": self.history,
        }
        (folder / "config.json").write_text(json.dumps(description, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, encoder: str | None = None, device: str | None = None) -> "InterestModel":
        """Read a version. `encoder` names the base encoder if it has moved since the version was saved.

        `device`: by default the configuration's; a version fitted on CUDA also loads without CUDA.

        Raises InterestModelError if the folder holds no version, or one of another base encoder.
        """
        try:
            description: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            found = description["format"]
            if found == _FORMAT:
                saved = description["config"]
                place = device or ("cpu" if saved["device"] == "cpu" else "auto")
                config = InterestConfig.from_dict(
                    saved | {"device": place} | ({"encoder": encoder} if encoder else {})
                )
                base = description["base"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InterestModelError(f"{folder} holds no interest model version: {error}") from None
        if found != _FORMAT:
            raise InterestModelError(
                f"the interest model version in {folder} has format {found}, this release reads {_FORMAT}: fit anew "
                "with momentrank run and a fresh registry, or use the release that wrote it"
            )
        model = cls(config)
        if model.encoder.hash != base["hash"]:
            raise InterestModelError(
                f"the version in {folder} was fitted over {base['name']} with weights {base['hash'][:12]}, "
                f"but {config.encoder} has weights {model.encoder.hash[:12]}: name the same encoder, or fit anew"
            )
        model.restore(load_file(folder / "model.safetensors"))
        model.history = description["history"]
        return model
