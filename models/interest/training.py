"""The fine-tuning loop: which texts carry gradient, both losses, learning rates, resume, progress."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.interest.checkpoint import Checkpoint
from models.interest.config import InterestConfig, InterestModelError
from models.interest.moments import Batch, MomentArrays, Segment, by_length, collate, gaps, segments
from models.interest.network import list_loss
from models.interest.text import Row
from models.interest.version import InterestModel

Progress = Callable[[dict[str, float]], None]

_WARM_UP = 0.1
_LOWEST_RATE = 0.05
_WEIGHT_DECAY = 0.01
_GRADIENT_NORM = 1.0
_LOG_POINTS = 50
_TOKENS_PER_PASS = 2048
_SHAPE = ("tune", "max_tokens", "window", "width", "layers", "heads", "actions")


def fine_tune(
    texts: Sequence[str],
    moments: MomentArrays,
    config: InterestConfig,
    *,
    start_from: Path | None,
    checkpoint: Path,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> InterestModel:
    """Fit on every impression of `moments`, beginning from the version in `start_from` if there is one.

    `checkpoint` is a folder for this fit alone; if it holds an interrupted fit of the same data and
    configuration, that one is finished. `cache` keeps what never changes of each text, across slices.
    `progress` receives epoch, step, steps, loss, texts_per_second and impressions_per_second.

    Raises InterestModelError if the arrays contradict each other, or the version to start from has another
    shape.
    """
    moments.check(len(texts), len(config.actions))
    model = _begin(config, start_from)
    batches = _batches(moments, config)
    if not batches:
        return model
    texts, moments = used_texts(texts, moments, config)
    rows = model.encoder.prepare(texts, cache)
    with _deterministic(config.seed):
        Fit(model, rows, moments, Checkpoint(checkpoint, _identity(model, texts, moments, config))).run(
            batches, progress
        )
    return model


class Fit:
    """One fit's moving parts: model, optimiser, vector cache, checkpoint."""

    def __init__(
        self, model: InterestModel, rows: Sequence[Row], moments: MomentArrays, checkpoint: Checkpoint
    ) -> None:
        config = model.config
        self._model, self._rows, self._moments, self._checkpoint = model, rows, moments, checkpoint
        self._config = config
        self._gap = gaps(moments)
        self._tuned = list(model.encoder.tuned_parameters().values())
        self._optimiser = torch.optim.AdamW(_groups(model), weight_decay=_WEIGHT_DECAY)
        self._vectors = torch.empty(0)
        self._is_candidate = np.zeros(len(rows), dtype=bool)
        self._is_candidate[moments.candidate_item] = True

    def run(self, batches: list[list[list[Segment]]], progress: Progress | None) -> None:
        """All epochs; `batches[epoch][step]` are the step's segments."""
        steps = sum(len(epoch) for epoch in batches)
        interval = max(1, steps // _LOG_POINTS)
        restored = self._checkpoint.restore(self._model, self._optimiser)
        done, history, self._vectors = restored or (0, [], self._vectors)
        losses: list[float] = []
        step = 0
        for epoch, chunks in enumerate(batches):
            for number, chunk in enumerate(chunks):
                step += 1
                if step <= done:
                    continue
                began = time.perf_counter()
                if number == 0:
                    self._refresh()
                facts = self._step(chunk, step, steps)
                seconds = time.perf_counter() - began
                losses.append(facts["loss"])
                facts = {"epoch": epoch + 1, "step": step, "steps": steps} | facts
                facts["texts_per_second"] = facts.pop("texts") / seconds
                facts["impressions_per_second"] = facts.pop("impressions") / seconds
                if step % interval == 0 or step == steps:
                    history.append(facts | {"loss": float(np.mean(losses))})
                    losses = []
                if self._checkpoint.due or (number == len(chunks) - 1 and step < steps):
                    self._checkpoint.save(self._model, self._optimiser, self._vectors, step, history)
                if progress is not None:
                    progress(facts)
        self._model.decoder.eval()
        self._model.history = history
        self._checkpoint.remove()

    def _refresh(self) -> None:
        """Bring the cached text vectors up to the encoder's present weights."""
        if self._tuned or not len(self._vectors):
            self._vectors = self._model.encoder.vectors(self._rows)
        self._model.decoder.standardise(self._vectors)

    def _step(self, chunk: list[Segment], step: int, steps: int) -> dict[str, float]:
        # Dropout depends on the step alone, so that a resumed fit takes the same path.
        torch.manual_seed(self._config.seed * 1_000_003 + step)
        self._model.decoder.train()
        rate = _rate(step, steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["peak"]
        # Segments of similar length pass together: padding all to the longest would double the work.
        parts = [
            collate(self._moments, part, self._gap, self._config)
            for part in by_length(chunk, _TOKENS_PER_PASS)
        ]
        parts, vectors, encoded = self._text_vectors(parts, step)
        logits = torch.cat([self._model.decoder(part, vectors) for part in parts])
        labels = torch.from_numpy(self._moments.label[np.concatenate([part.candidate for part in parts])])
        sizes = np.concatenate([part.sizes for part in parts])
        loss = list_loss(logits, labels, torch.from_numpy(sizes))
        self._optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        parameters = [p for group in self._optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM)
        if not bool(torch.isfinite(norm)):
            raise InterestModelError(
                f"the gradient is not finite at step {step} of {steps}: lower decoder_rate or encoder_rate"
            )
        self._optimiser.step()
        return {
            "loss": float(loss.detach()),
            "gradient_norm": float(norm),
            "learning_rate": rate * self._config.decoder_rate,
            "texts": encoded,
            "impressions": len(sizes),
        }

    def _text_vectors(self, parts: list[Batch], step: int) -> tuple[list[Batch], Tensor, int]:
        """The parts over their own distinct texts, those vectors [n, d], and how many carry gradient."""
        present, place = torch.unique(torch.cat([part.item.flatten() for part in parts]), return_inverse=True)
        places = place.split([part.item.numel() for part in parts])
        local = [replace(part, item=own.view_as(part.item)) for part, own in zip(parts, places, strict=True)]
        vectors = self._vectors[present]
        if not self._tuned:
            return local, vectors, len(present)
        candidates = np.flatnonzero(self._is_candidate[present.numpy()])
        cap = self._config.texts_per_step or len(candidates)
        random = np.random.default_rng([self._config.seed, step])
        chosen = np.sort(random.permutation(candidates)[:cap])
        fresh = self._model.encoder([self._rows[i] for i in present.numpy()[chosen]])
        index = torch.from_numpy(chosen)
        self._vectors[present[index]] = fresh.detach()
        return local, vectors.index_copy(0, index, fresh), len(chosen)


def used_texts(
    texts: Sequence[str], moments: MomentArrays, config: InterestConfig
) -> tuple[list[str], MomentArrays]:
    """Distinct texts that can influence a score, and the arrays pointing at them."""
    reached = np.zeros(len(moments.history_item), dtype=bool)
    for segment in segments(moments, config):
        reached[segment.start : segment.stop] = True
    used = np.unique(np.concatenate([moments.history_item[reached], moments.candidate_item]))
    place: dict[str, int] = {}
    index = np.zeros(len(texts), dtype=np.int64)
    for number in used.tolist():
        index[number] = place.setdefault(texts[number], len(place))
    return list(place), replace(
        moments, history_item=index[moments.history_item], candidate_item=index[moments.candidate_item]
    )


def _begin(config: InterestConfig, start_from: Path | None) -> InterestModel:
    if start_from is None:
        return InterestModel(config)
    model = InterestModel.load(start_from, encoder=config.encoder)
    for name in _SHAPE:
        found, wanted = getattr(model.config, name), getattr(config, name)
        if found != wanted:
            raise InterestModelError(
                f"the version in {start_from} has {name} {found!r}, the configuration asks for {wanted!r}: "
                "set it back, or fit without a version to start from"
            )
    model.config = config
    model.history = []
    return model


def _batches(moments: MomentArrays, config: InterestConfig) -> list[list[list[Segment]]]:
    """Steps of each epoch: segments in a seeded order, about `impressions_per_step` impressions together."""
    pieces = [s for s in segments(moments, config) if s.candidates]
    if not pieces:
        return []
    epochs = []
    for epoch in range(config.epochs):
        order = np.random.default_rng([config.seed, epoch]).permutation(len(pieces))
        total = np.cumsum([len(pieces[n].impressions) for n in order])
        step: npt.NDArray[np.int64] = (total - 1) // config.impressions_per_step
        ends = np.flatnonzero(np.diff(step, append=step[-1] + 1)) + 1
        starts = np.concatenate([[0], ends[:-1]])
        epochs.append([[pieces[n] for n in order[a:b]] for a, b in zip(starts, ends, strict=True)])
    return epochs


def _groups(model: InterestModel) -> list[dict[str, object]]:
    config = model.config
    encoder = list(model.encoder.tuned_parameters().values())
    groups: list[dict[str, object]] = [
        {"params": list(model.decoder.parameters()), "lr": config.decoder_rate, "peak": config.decoder_rate}
    ]
    if encoder:
        groups.append({"params": encoder, "lr": config.encoder_rate, "peak": config.encoder_rate})
    return groups


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine down to a small rest."""
    warm = max(1, round(_WARM_UP * steps))
    if step <= warm:
        return step / warm
    share = (step - warm) / max(1, steps - warm)
    return _LOWEST_RATE + (1 - _LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * share))


def _identity(
    model: InterestModel, texts: Sequence[str], moments: MomentArrays, config: InterestConfig
) -> str:
    content = hashlib.sha256(json.dumps(config.as_dict(), sort_keys=True).encode())
    content.update(model.encoder.hash.encode())
    content.update(moments.digest().encode())
    for text in texts:
        content.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    for _, value in sorted(model.trained().items()):
        content.update(value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Same seed, same result; the caller's random state and settings are put back."""
    before, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn)
