"""How an interest model is built and fitted, and the one error this room raises on purpose."""

import re
from dataclasses import asdict, dataclass
from typing import Any

_TUNE = re.compile(r"^(frozen|full|top:[1-9]\d*)$")


class InterestModelError(ValueError):
    """An encoder is missing, a version does not fit its base, or the arrays contradict each other."""


@dataclass(frozen=True)
class InterestConfig:
    """Mirror of the project file's `[interest]` section, plus the action vocabulary and the seed."""

    encoder: str = "all-MiniLM-L6-v2"
    """Name of the packaged encoder, a folder, or a hub name already in the local cache."""
    tune: str = "top:1"
    """`frozen`, `top:N` layers over a cached prefix, or `full`."""
    max_tokens: int = 48
    window: int = 64
    """Past tokens that a token attends to in each layer."""
    width: int = 96
    layers: int = 2
    heads: int = 4
    epochs: int = 2
    impressions_per_step: int = 32
    texts_per_step: int = 32
    """Texts that carry gradient in one step; the others come from the vector cache. 0: no cap."""
    encoder_rate: float = 2e-5
    decoder_rate: float = 1e-3
    actions: tuple[str, ...] = ("passed", "click")
    """Names of what a user can do with an item, in the order of `MomentArrays.history_action`."""
    seed: int = 1

    def __post_init__(self) -> None:
        if not _TUNE.match(self.tune):
            raise InterestModelError(
                f"tune is {self.tune!r}: expected frozen, full or top:N, for example top:1"
            )
        if self.width % self.heads:
            raise InterestModelError(
                f"width {self.width} is not a multiple of heads {self.heads}: change one of the two"
            )
        if not self.actions:
            raise InterestModelError("actions is empty: name at least one thing a user can do")

    @property
    def reach(self) -> int:
        """Past tokens that can influence a score: the newest one, and `window` more for each layer below it."""
        return self.layers * self.window + 1

    def as_dict(self) -> dict[str, Any]:
        """Values that JSON can hold; `from_dict` reads them back."""
        return {**asdict(self), "actions": list(self.actions)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "InterestConfig":
        """Inverse of `as_dict`."""
        return cls(**{**values, "actions": tuple(values["actions"])})
