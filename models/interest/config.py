"""Configuration of an interest model and its fit, the device, and the package's error."""

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_TUNE = re.compile(r"^(frozen|full|lora|adalora|top:[1-9]\d*)$")
_DEVICES = ("auto", "cpu", "cuda")


class InterestModelError(ValueError):
    """An encoder is missing, a version does not match its base encoder, or arrays contradict each other."""


@dataclass(frozen=True)
class InterestConfig:
    """The project file's `[interest]` section, with the log's vocabularies and the seed."""

    encoder: str = "all-MiniLM-L6-v2"
    """The packaged encoder's name, a folder, or a hub name in the local cache."""
    tune: str = "top:1"
    """`frozen`, `top:N` (the last N layers), `lora` or `adalora` (adapters), or `full`."""
    rank: int = 8
    """Rank of the adapters of `lora` and `adalora`."""
    max_tokens: int = 48
    window: int = 64
    """History tokens that a token attends to in each layer."""
    width: int = 96
    layers: int = 2
    heads: int = 4
    attributes: bool = True
    """Whether item embeddings include declared attribute values."""
    numbers: tuple[str, ...] = ()
    """Names of the declared numbers in item embeddings, in the order of `ItemArrays.number`."""
    ids: bool = True
    """Whether item embeddings include an id embedding."""
    id_dropout: float = 0.2
    """Share of items whose id embedding is dropped in a training step, which prepares the model for new items."""
    history_dropout: float = 0.0
    """Share of impressions that are fitted once more with an empty history, for cold-start users."""
    epochs: int = 2
    impressions_per_step: int = 32
    accumulate: int = 1
    """Passes of `impressions_per_step` whose gradients are accumulated into one step."""
    texts_per_step: int = 32
    """Texts encoded with gradients in one pass; the others come from the vector cache. 0: all of them."""
    encoder_rate: float = 2e-5
    decoder_rate: float = 1e-3
    weight_averaging: float = 0.5
    """Weight of the fitted parameters against the previous version's; 1 keeps only the fitted ones."""
    holdout: float = 0.0
    """Share of the impressions, the latest, held out for validation; the best epoch's weights are kept."""
    patience: int = 1
    """With a holdout, stop after this many epochs without a lower validation loss."""
    actions: tuple[str, ...] = ("skipped", "click")
    """The actions of users on items, in the order of `MomentArrays.history_action`."""
    device: str = "auto"
    """`auto` (CUDA if there is a device), `cpu` or `cuda`."""
    seed: int = 1

    def __post_init__(self) -> None:
        if not _TUNE.match(self.tune):
            raise InterestModelError(
                f"tune is {self.tune!r}: expected frozen, full, lora, adalora or top:N, for example top:1"
            )
        if self.width % self.heads:
            raise InterestModelError(
                f"width {self.width} is not a multiple of heads {self.heads}: change one of the two"
            )
        if not self.actions:
            raise InterestModelError("actions is empty: name at least one action of a user")
        if self.device not in _DEVICES:
            raise InterestModelError(f"device is {self.device!r}: expected one of {', '.join(_DEVICES)}")
        for name in ("id_dropout", "holdout", "history_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InterestModelError(
                    f"{name} is {getattr(self, name)}: expected a share from 0 to below 1"
                )

    @property
    def reach(self) -> int:
        """History tokens that can influence a score: the newest, and `window` more per layer."""
        return self.layers * self.window + 1

    def action_code(self, action: str) -> int:
        """Index of an action in the vocabulary. Raises InterestModelError for an undeclared action."""
        if action not in self.actions:
            raise InterestModelError(
                f"action {action!r} is not declared: expected one of {', '.join(self.actions)}"
            )
        return self.actions.index(action)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` is the inverse."""
        return {**asdict(self), "actions": list(self.actions), "numbers": list(self.numbers)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "InterestConfig":
        """Inverse of `as_dict`."""
        return cls(**{**values, "actions": tuple(values["actions"]), "numbers": tuple(values["numbers"])})


def find_device(name: str) -> "torch.device":
    """The torch device for a configuration's `device`. Raises InterestModelError if it is `cuda` and there is none."""
    import torch

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise InterestModelError(
            'device = "cuda" but torch finds no CUDA device here: set it to "auto" or "cpu", or install '
            "the CUDA build of torch on a machine with a GPU"
        )
    return torch.device("cuda" if there and name != "cpu" else "cpu")
