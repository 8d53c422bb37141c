"""The training loop: gradients of texts, losses, validation, checkpoints, progress."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .checkpoint import Checkpoint, TrainingState
from .config import InterestConfig, InterestModelError
from .encoder import Row
from .fit_setup import deterministic, identity, prepare, setup
from .held_out import Validation, split
from .item_arrays import Embedded, ItemArrays
from .moment_arrays import Batch, MomentArrays, Segment, by_length, collate, gaps, used_items
from .network import list_loss
from .schedule import Step, parameter_groups, plan, share_of_peak
from .version import InterestModel
from .workers import GradientSum, Workers

Progress = Callable[[dict[str, float]], None]

_GRADIENT_NORM = 1.0
_LOG_POINTS = 50
_TOKENS_PER_PASS = 2048
_PASS_SEED = 7_919_000_003
_SHOWN = 20_000
"""Most candidates from which a first fit computes its scales."""


def fine_tune(
    items: ItemArrays,
    moments: MomentArrays,
    config: InterestConfig,
    *,
    start_from: Path | None,
    checkpoint: Path,
    progress: Progress | None = None,
    cache: Path | None = None,
    workers: Workers = Workers(),
) -> InterestModel:
    """Fit on the impressions of `moments`, starting from the version in `start_from` if given.

    `checkpoint`: a folder for this fit only; an interrupted fit of the same data and configuration in it is resumed.
    The caller deletes it once the version is safe.
    `cache`: folder for what is computed once per text, for all fits. `progress` receives epoch, step, steps, loss,
    texts_per_second and impressions_per_second.

    `workers` divide the passes of each step. All call this with the same arguments and get the same model, whatever
    their number; the first one writes the checkpoint.

    Raises InterestModelError if arrays contradict each other, the version to start from has another shape, or a step
    has fewer passes than there are workers.
    """
    if workers.size > config.accumulate:
        raise InterestModelError(
            f"{workers.size} workers cannot divide {config.accumulate} passes per step: set interest.accumulate to a "
            f"multiple of {workers.size} (and lower impressions_per_step to keep the step's size), or use fewer workers"
        )
    items.check(config)
    moments.check(len(items), len(config.actions))
    model = setup(config, start_from)
    items, moments = used_items(items, moments, config)
    fitted, held_out = split(moments, config.holdout)
    fitted = fitted.with_history_dropout(config.history_dropout, config.seed)
    epochs = plan(fitted, config)
    if not epochs:
        return model
    before = {name: value.clone() for name, value in model.trained().items()} if start_from else {}
    rows = prepare(model, items.texts, cache, workers)
    saved = Checkpoint(checkpoint, identity(model, items, moments, config))
    with deterministic(config.seed), model.decoder.items.narrowed(items) as narrow:
        validation = Validation(model, held_out, workers)
        Fit(model, rows, narrow, fitted, validation, saved, workers).run(epochs, progress)
    if before:
        # Averaging successive fits (cf. Wortsman et al. 2022) undoes part of each one's overfitting to its slice.
        own = model.trained()
        model.restore({name: old.lerp(own[name], config.weight_averaging) for name, old in before.items()})
    return model


@dataclass(frozen=True)
class Encoded:
    """Texts that one pass encoded."""

    count: int
    """Number of texts with gradients; of all texts if the encoder is frozen."""
    text: Tensor
    """[n] encoded texts."""
    vector: Tensor
    """[n, d] their new vectors."""


class Fit:
    """The state of one fit: model, optimiser, vector cache, validation, checkpoint, workers."""

    def __init__(
        self,
        model: InterestModel,
        rows: Sequence[Row],
        items: ItemArrays,
        moments: MomentArrays,
        validation: Validation,
        checkpoint: Checkpoint,
        workers: Workers,
    ) -> None:
        self._model, self._rows, self._moments, self._checkpoint = model, rows, moments, checkpoint
        self._config, self._workers = model.config, workers
        self._validation = validation
        self._gap = gaps(moments)
        self._tuned = bool(model.encoder.tuned_parameters())
        self._optimiser = torch.optim.AdamW(parameter_groups(model), fused=True)
        self._vectors = torch.empty(0)
        # Each step adds the current text vectors.
        self._items = items.tensors(torch.empty(len(rows), 0, device=model.device))
        self._text = torch.from_numpy(items.text).to(model.device)
        self._is_candidate = np.zeros(len(rows), dtype=bool)
        self._is_candidate[items.text[moments.candidate_item]] = True

    def run(self, epochs: list[list[Step]], progress: Progress | None) -> None:
        """Fit all epochs, or stop early; `epochs[epoch][step]` are the passes of a step."""
        steps = sum(len(epoch) for epoch in epochs)
        interval = max(1, steps // _LOG_POINTS)
        done, history = self._resume()
        losses: list[float] = []
        step = 0
        for epoch, chunks in enumerate(epochs):
            if self._validation.exhausted:
                break
            for number, passes in enumerate(chunks):
                step += 1
                if step <= done:
                    continue
                facts = {"epoch": epoch + 1, "step": step, "steps": steps} | self._timed(passes, step, steps)
                losses.append(facts["loss"])
                last = number == len(chunks) - 1
                if last and (step < steps or self._validation.enabled):
                    self._refresh()
                    facts |= self._validation.measure(self._embedded())
                if last or step % interval == 0:
                    history.append(facts | {"loss": float(np.mean(losses))})
                    losses = []
                if self._workers.rank == 0 and (self._checkpoint.due or (last and step < steps)):
                    state = TrainingState(step, history, self._vectors, self._validation.best)
                    self._checkpoint.save(self._model, self._optimiser, state)
                if progress is not None:
                    progress(facts)
        if self._validation.best:
            self._model.restore(self._validation.best)
        self._model.decoder.eval()
        self._model.history = history

    def _resume(self) -> tuple[int, list[dict[str, float]]]:
        """Number of steps done and the loss curve so far."""
        state = self._checkpoint.restore(self._model, self._optimiser)
        if len(steps := set(self._workers.gather(state.step if state else 0))) > 1:
            raise InterestModelError(
                f"the workers read checkpoints of steps {sorted(steps)}: give them one checkpoint folder that all reach"
            )
        if state is None:
            self._refresh()
            # Scales are those of the items as often as they were shown: users choose among these, not in the catalogue.
            shown = self._moments.candidate_item
            sample = shown[:: 1 + len(shown) // _SHOWN]
            self._model.decoder.setup(self._embedded()[sample], float((self._moments.label > 0).mean()))
            return 0, []
        self._vectors = state.vectors
        self._validation.best = state.best
        self._validation.losses = [e["held_out_loss"] for e in state.history if "held_out_loss" in e]
        return state.step, state.history

    def _refresh(self) -> None:
        """Encode all texts with the encoder's current weights."""
        if self._tuned or not len(self._vectors):
            vectors = torch.zeros(len(self._rows), self._model.encoder.width, device=self._model.device)
            vectors[self._workers.rank :: self._workers.size] = self._model.encoder.vectors(
                self._workers.shard(self._rows)
            )
            self._vectors = self._workers.sum(vectors)

    def _embedded(self) -> Embedded:
        return self._items.with_text(self._vectors[self._text])

    def _timed(self, passes: Step, step: int, steps: int) -> dict[str, float]:
        began = time.perf_counter()
        facts = self._step(passes, step, steps)
        seconds = time.perf_counter() - began
        for name in ("texts", "impressions"):
            facts[f"{name}_per_second"] = facts.pop(name) / seconds
        return facts

    def _step(self, passes: Step, step: int, steps: int) -> dict[str, float]:
        self._model.decoder.train()
        share = share_of_peak(step, steps)
        for group in self._optimiser.param_groups:
            group["lr"] = share * group["peak"]
        self._optimiser.zero_grad(set_to_none=True)
        parameters = [p for group in self._optimiser.param_groups for p in group["params"]]
        gradient, own = GradientSum(parameters, self._workers), []
        for first in range(0, len(passes), self._workers.size):
            number = first + self._workers.rank
            if number < len(passes):
                loss, encoded, impressions = self._pass(passes[number], step, number)
                torch.autograd.backward(loss / len(passes))
                own.append((float(loss.detach()), encoded, impressions))
            gradient.add(min(self._workers.size, len(passes) - first))
        gradient.finish()
        losses, read, sizes = zip(*self._workers.collect(own), strict=True)
        for encoded in read:
            # After all passes, so that each of them reads the same vectors on any worker.
            self._vectors[encoded.text] = encoded.vector.to(self._vectors.device)
        encoder = self._model.encoder
        if self._tuned and (penalty := encoder.penalty()).requires_grad:
            torch.autograd.backward(penalty)
        norm = torch.nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM)
        if not bool(torch.isfinite(norm)):
            raise InterestModelError(
                f"the gradient is not finite at step {step} of {steps}: lower interest.decoder_rate or encoder_rate"
            )
        self._optimiser.step()
        encoder.stepped(step, steps)
        facts = {
            "loss": sum(losses) / len(passes),
            "texts": sum(encoded.count for encoded in read),
            "impressions": sum(sizes),
            "gradient_norm": float(norm),
            "learning_rate": share * self._config.decoder_rate,
        }
        return facts | ({"encoder_learning_rate": share * self._config.encoder_rate} if self._tuned else {})

    def _pass(self, chunk: list[Segment], step: int, number: int) -> tuple[Tensor, Encoded, int]:
        """Loss of some segments, the texts encoded for them, and their number of impressions."""
        # A seed per pass, so that a resumed fit and any number of workers compute the same.
        torch.manual_seed(self._config.seed * 1_000_003 + step + number * _PASS_SEED)
        # Batches of segments of similar length: padding all to the longest would double the work.
        batches = [
            collate(self._moments, part, self._gap, self._config)
            for part in by_length(chunk, _TOKENS_PER_PASS)
        ]
        batches, items, encoded = self._present(batches, [self._config.seed, step, number])
        read = self._model.decoder.items(items)
        logits = torch.cat([self._model.decoder(batch.to(self._model.device), read) for batch in batches])
        labels = torch.from_numpy(self._moments.label[np.concatenate([b.candidate for b in batches])])
        sizes = torch.from_numpy(np.concatenate([batch.sizes for batch in batches]))
        loss = list_loss(logits, labels.to(logits.device), sizes.to(logits.device))
        return loss, encoded, len(sizes)

    def _present(self, batches: list[Batch], seed: list[int]) -> tuple[list[Batch], Embedded, Encoded]:
        """The batches with indices into their distinct items, these items, and the texts encoded for them."""
        present, place = torch.unique(
            torch.cat([batch.item.flatten() for batch in batches]), return_inverse=True
        )
        places = place.split([batch.item.numel() for batch in batches])
        local = [replace(b, item=own.view_as(b.item)) for b, own in zip(batches, places, strict=True)]
        present = present.to(self._model.device)
        used, text = torch.unique(self._text[present], return_inverse=True)
        vectors, encoded = self._text_vectors(used, seed)
        return local, self._items[present].with_text(vectors[text]), encoded

    def _text_vectors(self, used: Tensor, seed: list[int]) -> tuple[Tensor, Encoded]:
        """Vectors [n, d] of texts [n]: `texts_per_step` of them encoded with gradients, the others from the cache."""
        vectors = self._vectors[used]
        if not self._tuned:
            return vectors, Encoded(len(used), used[:0].cpu(), vectors[:0].cpu())
        names = used.cpu().numpy()
        candidates = np.flatnonzero(self._is_candidate[names])
        cap = self._config.texts_per_step or len(candidates)
        chosen = np.sort(np.random.default_rng(seed).permutation(candidates)[:cap])
        fresh = self._model.encoder([self._rows[name] for name in names[chosen]])
        index = torch.from_numpy(chosen).to(vectors.device)
        encoded = Encoded(len(chosen), torch.from_numpy(names[chosen]), fresh.detach().cpu())
        return vectors.index_copy(0, index, fresh), encoded
