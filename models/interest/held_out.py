"""Validation on impressions that are held out of a fit: early stopping and calibration."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .item_arrays import Embedded
from .moment_arrays import MomentArrays, Segment, by_length, collate, gaps, segments
from .network import list_loss
from .reader import Reading
from .version import InterestModel
from .workers import Workers

_TOKENS_PER_PASS = 8192
_BINS = 10

_Measured = tuple[float, int, npt.NDArray[np.float32], npt.NDArray[np.bool_]]
"""Mean loss and number of some impressions; each candidate's probability, and whether it was clicked."""


def split(moments: MomentArrays, share: float) -> tuple[MomentArrays, MomentArrays]:
    """Impressions to fit, and impressions to hold out: the latest `share` of them."""
    order = np.argsort(moments.impression_at, kind="stable")
    fitted = len(order) - round(share * len(order))
    return moments.only(np.sort(order[:fitted])), moments.only(np.sort(order[fitted:]))


class Validation:
    """Held-out impressions and the best weights by their loss; the same on every worker."""

    def __init__(self, model: InterestModel, moments: MomentArrays, workers: Workers = Workers()) -> None:
        self._model, self._moments, self._workers = model, moments, workers
        self._pieces = [s for s in segments(moments, model.config) if s.candidates]
        self._gap = gaps(moments)
        self.losses: list[float] = []
        """Validation loss after each epoch."""
        self.best: dict[str, Tensor] = {}
        """`InterestModel.trained` after the epoch with the lowest loss; empty without a holdout."""

    @property
    def enabled(self) -> bool:
        """Whether impressions were held out."""
        return bool(self._pieces)

    @property
    def exhausted(self) -> bool:
        """Whether the loss has not fallen for `patience` epochs."""
        if not self.losses:
            return False
        return len(self.losses) - 1 - int(np.argmin(self.losses)) >= self._model.config.patience

    def measure(self, items: Embedded) -> dict[str, float]:
        """Validation loss and calibration error of the current weights; empty without a holdout."""
        if not self.enabled:
            return {}
        decoder = self._model.decoder.eval()
        with torch.no_grad():
            read = decoder.items(items)
            chunks = list(by_length(self._pieces, _TOKENS_PER_PASS))
            measured = self._workers.collect(
                [self._measure(chunk, read) for chunk in self._workers.shard(chunks)]
            )
        losses, sizes, probability, clicked = zip(*measured, strict=True)
        loss = float(np.average(losses, weights=sizes))
        if not self.losses or loss < min(self.losses):
            self.best = {name: value.detach().cpu().clone() for name, value in self._model.trained().items()}
        self.losses.append(loss)
        error = calibration_error(np.concatenate(probability), np.concatenate(clicked))
        return {"held_out_loss": loss, "held_out_calibration_error": error}

    def _measure(self, chunk: list[Segment], items: Reading) -> _Measured:
        batch = collate(self._moments, chunk, self._gap, self._model.config).to(self._model.device)
        label = torch.from_numpy(self._moments.label[batch.candidate])
        logit: Tensor = self._model.decoder(batch, items).cpu()
        loss = float(list_loss(logit, label, torch.from_numpy(batch.sizes)))
        return loss, len(batch.sizes), logit.sigmoid().numpy(), label.numpy() > 0


def calibration_error(probability: npt.NDArray[np.float32], clicked: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error: |mean probability − click rate| of ten equal bins, weighted by their size."""
    place = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    gap = np.bincount(place, weights=probability - clicked, minlength=_BINS)
    return float(np.abs(gap).sum() / max(len(place), 1))
