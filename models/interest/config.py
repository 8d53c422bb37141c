"""How an interest model is built and fitted, and the one error this room raises on purpose."""

import re
from dataclasses import asdict, dataclass
from typing import Any

_TUNE = re.compile(r"^(frozen|full|lora|adalora|top:[1-9]\d*)$")
_DEVICES = ("auto", "cpu", "cuda")


class InterestModelError(ValueError):
    """An encoder is missing, a version does not fit its base, or the arrays contradict each other."""


@dataclass(frozen=True)
class InterestConfig:
    """Mirror of the project file's `[interest]` section, plus the vocabularies of the log and the seed."""

    encoder: str = "all-MiniLM-L6-v2"
    """Name of the packaged encoder, a folder, or a hub name already in the local cache."""
    tune: str = "top:1"
    """`frozen`, `top:N` layers over a cached prefix, `lora` or `adalora` adapters, or `full`."""
    rank: int = 8
    """Rank of the adapters of `lora` and `adalora`."""
    max_tokens: int = 48
    window: int = 64
    """Past tokens that a token attends to in each layer."""
    width: int = 96
    layers: int = 2
    heads: int = 4
    attributes: bool = True
    """Whether an item is also read by its declared attribute values."""
    numbers: tuple[str, ...] = ()
    """Names of the declared numbers an item is also read by, in the order of `ItemArrays.number`."""
    ids: bool = True
    """Whether an item is also read by its id, which only says something once it was learnt from."""
    id_dropout: float = 0.2
    """Share of items whose id is hidden in a training step, so that an unseen item falls back on the rest."""
    history_dropout: float = 0.0
    """Share of impressions that are fitted once more with their user's past hidden: one nobody met has none."""
    epochs: int = 2
    impressions_per_step: int = 32
    accumulate: int = 1
    """Passes of `impressions_per_step` whose gradients are summed up for one step."""
    texts_per_step: int = 32
    """Texts that carry gradient in one pass; the others come from the vector cache. 0: no cap."""
    encoder_rate: float = 2e-5
    decoder_rate: float = 1e-3
    weight_averaging: float = 0.5
    """Weight of a fit's result against the version it began from, in their average; 1 keeps the result alone."""
    holdout: float = 0.0
    """Share of the impressions, the latest, that are not fitted but watched; the best epoch's weights are kept."""
    patience: int = 1
    """Epochs without a lower held-out loss after which a fit with a `holdout` ends."""
    actions: tuple[str, ...] = ("skipped", "click")
    """Names of what a user can do with an item, in the order of `MomentArrays.history_action`."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu` or `cuda`."""
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
            raise InterestModelError("actions is empty: name at least one thing a user can do")
        if self.device not in _DEVICES:
            raise InterestModelError(f"device is {self.device!r}: expected one of {', '.join(_DEVICES)}")
        for name in ("id_dropout", "holdout", "history_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InterestModelError(
                    f"{name} is {getattr(self, name)}: expected a share from 0 to below 1"
                )

    @property
    def reach(self) -> int:
        """Past tokens that can influence a score: the newest one, and `window` more for each layer below it."""
        return self.layers * self.window + 1

    def action_code(self, action: str) -> int:
        """Place of an action in the vocabulary. Raises InterestModelError for one that was never declared."""
        if action not in self.actions:
            raise InterestModelError(
                f"action {action!r} is not in the vocabulary: known are {', '.join(self.actions)}"
            )
        return self.actions.index(action)

    def as_dict(self) -> dict[str, Any]:
        """Values that JSON can hold; `from_dict` reads them back."""
        return {**asdict(self), "actions": list(self.actions), "numbers": list(self.numbers)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "InterestConfig":
        """Inverse of `as_dict`."""
        return cls(**{**values, "actions": tuple(values["actions"]), "numbers": tuple(values["numbers"])})
