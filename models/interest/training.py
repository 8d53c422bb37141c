"""The fine-tuning loop: which texts carry gradient, both losses, held-out loss, resume, progress."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .beginning import begin, deterministic, identity, prepare
from .checkpoint import Checkpoint, TrainingState
from .config import InterestConfig, InterestModelError
from .gradients import GradientSum
from .holdout import Watch, split
from .items import Embedded, ItemArrays
from .moments import Batch, MomentArrays, Segment, by_length, collate, gaps, used_items
from .network import list_loss
from .schedule import Step, parameter_groups, plan, share_of_peak
from .text import Row
from .version import InterestModel
from .workers import Workers

Progress = Callable[[dict[str, float]], None]

_GRADIENT_NORM = 1.0
_LOG_POINTS = 50
_TOKENS_PER_PASS = 2048
_SEEDS_APART = 7_919_000_003


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
    """Fit on the impressions of `moments`, beginning from the version in `start_from` if there is one.

    `checkpoint` is a folder for this fit alone; if it holds an interrupted fit of the same data and
    configuration, that one is finished. `cache` keeps what never changes of each text, across slices.
    `progress` receives epoch, step, steps, loss, texts_per_second and impressions_per_second.

    Several `workers` share out the passes of each step and each end with the same model, which does not
    depend on how many they are. All call this with the same arguments; the first one writes the checkpoint.

    Raises InterestModelError if the arrays contradict each other, the version to start from has another
    shape, or a step has fewer passes than there are workers.
    """
    if workers.size > config.accumulate:
        raise InterestModelError(
            f"{workers.size} workers have {config.accumulate} passes a step to share: set accumulate to a multiple "
            f"of {workers.size} (and impressions_per_step lower, for steps of the same size), or take fewer workers"
        )
    items.check(config)
    moments.check(len(items), len(config.actions))
    model = begin(config, start_from)
    items, moments = used_items(items, moments, config)
    fitted, watched = split(moments, config.holdout)
    fitted = fitted.with_history_dropout(config.history_dropout, config.seed)
    epochs = plan(fitted, config)
    if not epochs:
        return model
    before = {name: value.clone() for name, value in model.trained().items()} if start_from else {}
    rows = prepare(model, items.texts, cache, workers)
    with deterministic(config.seed):
        kept = Checkpoint(checkpoint, identity(model, items, moments, config))
        watch = Watch(model, watched, workers)
        Fit(model, rows, items, fitted, watch, kept, workers).run(epochs, progress)
    if before:
        # An average over successive fits (cf. Wortsman et al. 2022): each alone has learnt its slice too well.
        own = model.trained()
        model.restore({name: old.lerp(own[name], config.weight_averaging) for name, old in before.items()})
    return model


@dataclass(frozen=True)
class Encoded:
    """What was read of the texts of one pass."""

    count: int
    """Texts that carry gradient, or all where none can."""
    text: Tensor
    """[n] those with a new vector."""
    vector: Tensor
    """[n, d]"""


class Fit:
    """One fit's moving parts: model, optimiser, vector cache, held-out impressions, checkpoint, workers."""

    def __init__(
        self,
        model: InterestModel,
        rows: Sequence[Row],
        items: ItemArrays,
        moments: MomentArrays,
        watch: Watch,
        checkpoint: Checkpoint,
        workers: Workers,
    ) -> None:
        self._model, self._rows, self._moments, self._checkpoint = model, rows, moments, checkpoint
        self._config, self._workers = model.config, workers
        self._watch = watch
        self._gap = gaps(moments)
        self._tuned = bool(model.encoder.tuned_parameters())
        self._optimiser = torch.optim.AdamW(parameter_groups(model), fused=True)
        self._vectors = torch.empty(0)
        # Text vectors change from step to step and come to the items then.
        self._items = items.tensors(torch.empty(len(rows), 0, device=model.device))
        self._text = torch.from_numpy(items.text).to(model.device)
        self._is_candidate = np.zeros(len(rows), dtype=bool)
        self._is_candidate[items.text[moments.candidate_item]] = True

    def run(self, epochs: list[list[Step]], progress: Progress | None) -> None:
        """All epochs, or as many as lower the held-out loss; `epochs[epoch][step]` are the step's passes."""
        steps = sum(len(epoch) for epoch in epochs)
        interval = max(1, steps // _LOG_POINTS)
        done, history = self._resume()
        losses: list[float] = []
        step = 0
        for epoch, chunks in enumerate(epochs):
            if self._watch.over:
                break
            for number, passes in enumerate(chunks):
                step += 1
                if step <= done:
                    continue
                facts = {"epoch": epoch + 1, "step": step, "steps": steps} | self._timed(passes, step, steps)
                losses.append(facts["loss"])
                last = number == len(chunks) - 1
                if last and (step < steps or self._watch.needed):
                    self._refresh()
                    facts |= self._watch.look(self._embedded())
                if last or step % interval == 0:
                    history.append(facts | {"loss": float(np.mean(losses))})
                    losses = []
                if self._workers.rank == 0 and (self._checkpoint.due or (last and step < steps)):
                    state = TrainingState(step, history, self._vectors, self._watch.best)
                    self._checkpoint.save(self._model, self._optimiser, state)
                if progress is not None:
                    progress(facts)
        if self._watch.best:
            self._model.restore(self._watch.best)
        self._model.decoder.eval()
        self._model.history = history
        if self._workers.rank == 0:
            self._checkpoint.remove()

    def _resume(self) -> tuple[int, list[dict[str, float]]]:
        """Steps done and the loss curve so far."""
        state = self._checkpoint.restore(self._model, self._optimiser)
        if len(found := set(self._workers.gather(state.step if state else 0))) > 1:
            raise InterestModelError(
                f"the workers find checkpoints of steps {sorted(found)}: put it into a folder that all of them share"
            )
        if state is None:
            self._refresh()
            self._model.decoder.setup(self._embedded(), float((self._moments.label > 0).mean()))
            return 0, []
        self._vectors = state.vectors
        self._watch.best = state.best
        self._watch.losses = [e["held_out_loss"] for e in state.history if "held_out_loss" in e]
        return state.step, state.history

    def _refresh(self) -> None:
        """Bring the cached text vectors up to the encoder's present weights."""
        if self._tuned or not len(self._vectors):
            vectors = torch.zeros(len(self._rows), self._model.encoder.width, device=self._model.device)
            vectors[self._workers.rank :: self._workers.size] = self._model.encoder.vectors(
                self._workers.share(self._rows)
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
            # Only now, so that every pass of a step has met the same cache, wherever it was made.
            self._vectors[encoded.text] = encoded.vector.to(self._vectors.device)
        encoder = self._model.encoder
        if self._tuned and (penalty := encoder.penalty()).requires_grad:
            torch.autograd.backward(penalty)
        norm = torch.nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM)
        if not bool(torch.isfinite(norm)):
            raise InterestModelError(
                f"the gradient is not finite at step {step} of {steps}: lower decoder_rate or encoder_rate"
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
        """Loss of some segments, what was read of their texts, and how many impressions they have."""
        # Chance depends on the pass alone, so that a resumed fit and any worker take the same path.
        torch.manual_seed(self._config.seed * 1_000_003 + step + number * _SEEDS_APART)
        # Segments of similar length pass together: padding all to the longest would double the work.
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
        """The batches over their own distinct items, those items, and what was read of their texts."""
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
        """Vectors [n, d] of texts [n], some of them fresh and with gradient."""
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
