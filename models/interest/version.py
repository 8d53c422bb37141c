"""A version of the interest model: what was trained, the tokenizer, the configuration, the base's hash."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from .config import InterestConfig, InterestModelError
from .device import find_device
from .network import MomentDecoder
from .text import TextEncoder

_FORMAT = 3


class InterestModel:
    """Text encoder and moment decoder that belong together; `history` is the loss curve of the last fit."""

    def __init__(self, config: InterestConfig) -> None:
        """A fresh model: the encoder as it comes, the decoder seeded."""
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
        """Everything that training changes, by name."""
        weights = {f"decoder.{name}": value for name, value in self.decoder.state_dict().items()}
        weights |= {f"encoder.{name}": value.data for name, value in self.encoder.tuned_parameters().items()}
        return weights

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Put back what `trained` gave."""
        own = self.trained()
        if own.keys() != weights.keys():
            odd = sorted(own.keys() ^ weights.keys())[:3]
            raise InterestModelError(f"the saved weights do not fit this configuration, for example {odd}")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(weights[name])

    def go_on(self, config: InterestConfig) -> None:
        """Take up a configuration of the same shape, to be fitted further."""
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
        """Read a version. `encoder` names the base where it lies elsewhere than when the version was saved.

        Without a `device` it goes where the configuration says; one fitted on CUDA also loads without it.

        Raises InterestModelError if the folder holds no version, or one that was trained over another base.
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
                "(momentrank run with a fresh registry), or go back to the release that wrote it"
            )
        model = cls(config)
        if model.encoder.hash != base["hash"]:
            raise InterestModelError(
                f"the version in {folder} was trained over {base['name']} with weights {base['hash'][:12]}, "
                f"but {config.encoder} has weights {model.encoder.hash[:12]}: give the same base, or fit anew"
            )
        model.restore(load_file(folder / "model.safetensors"))
        model.history = description["history"]
        return model
