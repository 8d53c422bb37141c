"""The fine-tuning loop: which texts carry gradient, both losses, held-out loss, resume, progress."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.interest.checkpoint import Checkpoint, Standing
from models.interest.config import InterestConfig, InterestModelError
from models.interest.holdout import Watch, split
from models.interest.items import Embedded, ItemArrays
from models.interest.moments import Batch, MomentArrays, Segment, by_length, collate, gaps, used_items
from models.interest.network import list_loss
from models.interest.schedule import Step, parameter_groups, plan, share_of_peak
from models.interest.text import Row
from models.interest.version import InterestModel

Progress = Callable[[dict[str, float]], None]

_GRADIENT_NORM = 1.0
_LOG_POINTS = 50
_TOKENS_PER_PASS = 2048
_SHAPE = (
    "tune", "rank", "max_tokens", "window", "width", "layers", "heads", "actions", "attributes", "numbers", "ids"
)  # fmt: skip


def fine_tune(
    items: ItemArrays,
    moments: MomentArrays,
    config: InterestConfig,
    *,
    start_from: Path | None,
    checkpoint: Path,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> InterestModel:
    """Fit on the impressions of `moments`, beginning from the version in `start_from` if there is one.

    `checkpoint` is a folder for this fit alone; if it holds an interrupted fit of the same data and
    configuration, that one is finished. `cache` keeps what never changes of each text, across slices.
    `progress` receives epoch, step, steps, loss, texts_per_second and impressions_per_second.

    Raises InterestModelError if the arrays contradict each other, or the version to start from has another
    shape.
    """
    items.check(config)
    moments.check(len(items), len(config.actions))
    model = _begin(config, start_from)
    items, moments = used_items(items, moments, config)
    fitted, watched = split(moments, config.holdout)
    epochs = plan(fitted, config)
    if not epochs:
        return model
    before = {name: value.clone() for name, value in model.trained().items()} if start_from else {}
    rows = model.encoder.prepare(items.texts, cache)
    with _deterministic(config.seed):
        kept = Checkpoint(checkpoint, _identity(model, items, moments, config))
        Fit(model, rows, items, fitted, Watch(model, watched), kept).run(epochs, progress)
    if before:
        # An average over successive fits (cf. Wortsman et al. 2022): each alone has learnt its slice too well.
        own = model.trained()
        model.restore({name: old.lerp(own[name], config.blend) for name, old in before.items()})
    return model


class Fit:
    """One fit's moving parts: model, optimiser, vector cache, held-out impressions, checkpoint."""

    def __init__(
        self,
        model: InterestModel,
        rows: Sequence[Row],
        items: ItemArrays,
        moments: MomentArrays,
        watch: Watch,
        checkpoint: Checkpoint,
    ) -> None:
        self._model, self._rows, self._moments, self._checkpoint = model, rows, moments, checkpoint
        self._config = model.config
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
                if self._checkpoint.due or (last and step < steps):
                    standing = Standing(step, history, self._vectors, self._watch.best)
                    self._checkpoint.save(self._model, self._optimiser, standing)
                if progress is not None:
                    progress(facts)
        if self._watch.best:
            self._model.restore(self._watch.best)
        self._model.decoder.eval()
        self._model.history = history
        self._checkpoint.remove()

    def _resume(self) -> tuple[int, list[dict[str, float]]]:
        """Steps done and the loss curve so far."""
        standing = self._checkpoint.restore(self._model, self._optimiser)
        if standing is None:
            self._refresh()
            self._model.decoder.items.standardise(self._embedded())
            return 0, []
        self._vectors = standing.vectors
        self._watch.best = standing.best
        self._watch.losses = [e["held_out_loss"] for e in standing.history if "held_out_loss" in e]
        return standing.step, standing.history

    def _refresh(self) -> None:
        """Bring the cached text vectors up to the encoder's present weights."""
        if self._tuned or not len(self._vectors):
            self._vectors = self._model.encoder.vectors(self._rows)

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
        # Dropout depends on the step alone, so that a resumed fit takes the same path.
        torch.manual_seed(self._config.seed * 1_000_003 + step)
        self._model.decoder.train()
        share = share_of_peak(step, steps)
        for group in self._optimiser.param_groups:
            group["lr"] = share * group["peak"]
        self._optimiser.zero_grad(set_to_none=True)
        facts = {"loss": 0.0, "texts": 0, "impressions": 0}
        for number, chunk in enumerate(passes):
            loss, texts, impressions = self._pass(chunk, [self._config.seed, step, number])
            torch.autograd.backward(loss / len(passes))
            facts["loss"] += float(loss.detach()) / len(passes)
            facts["texts"] += texts
            facts["impressions"] += impressions
        encoder = self._model.encoder
        if self._tuned and (penalty := encoder.penalty()).requires_grad:
            torch.autograd.backward(penalty)
        parameters = [p for group in self._optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM)
        if not bool(torch.isfinite(norm)):
            raise InterestModelError(
                f"the gradient is not finite at step {step} of {steps}: lower decoder_rate or encoder_rate"
            )
        self._optimiser.step()
        encoder.stepped(step, steps)
        facts |= {"gradient_norm": float(norm), "learning_rate": share * self._config.decoder_rate}
        return facts | ({"encoder_learning_rate": share * self._config.encoder_rate} if self._tuned else {})

    def _pass(self, chunk: list[Segment], seed: list[int]) -> tuple[Tensor, int, int]:
        """Loss of some segments, how many texts carry gradient in it, and how many impressions it has."""
        # Segments of similar length pass together: padding all to the longest would double the work.
        batches = [
            collate(self._moments, part, self._gap, self._config)
            for part in by_length(chunk, _TOKENS_PER_PASS)
        ]
        batches, items, encoded = self._present(batches, seed)
        read = self._model.decoder.items(items)
        logits = torch.cat([self._model.decoder(batch.to(self._model.device), read) for batch in batches])
        labels = torch.from_numpy(self._moments.label[np.concatenate([b.candidate for b in batches])])
        sizes = torch.from_numpy(np.concatenate([batch.sizes for batch in batches]))
        loss = list_loss(logits, labels.to(logits.device), sizes.to(logits.device))
        return loss, encoded, len(sizes)

    def _present(self, batches: list[Batch], seed: list[int]) -> tuple[list[Batch], Embedded, int]:
        """The batches over their own distinct items, those items, and how many of their texts carry gradient."""
        present, place = torch.unique(
            torch.cat([batch.item.flatten() for batch in batches]), return_inverse=True
        )
        places = place.split([batch.item.numel() for batch in batches])
        local = [replace(b, item=own.view_as(b.item)) for b, own in zip(batches, places, strict=True)]
        present = present.to(self._model.device)
        used, text = torch.unique(self._text[present], return_inverse=True)
        vectors, encoded = self._text_vectors(used, seed)
        return local, self._items[present].with_text(vectors[text]), encoded

    def _text_vectors(self, used: Tensor, seed: list[int]) -> tuple[Tensor, int]:
        """Vectors [n, d] of texts [n], and how many of them carry gradient."""
        vectors = self._vectors[used]
        if not self._tuned:
            return vectors, len(used)
        names = used.cpu().numpy()
        candidates = np.flatnonzero(self._is_candidate[names])
        cap = self._config.texts_per_step or len(candidates)
        chosen = np.sort(np.random.default_rng(seed).permutation(candidates)[:cap])
        fresh = self._model.encoder([self._rows[name] for name in names[chosen]])
        index = torch.from_numpy(chosen).to(vectors.device)
        self._vectors[used[index]] = fresh.detach()
        return vectors.index_copy(0, index, fresh), len(chosen)


def _begin(config: InterestConfig, start_from: Path | None) -> InterestModel:
    if start_from is None:
        return InterestModel(config)
    model = InterestModel.load(start_from, encoder=config.encoder, device=config.device)
    for name in _SHAPE:
        found, wanted = getattr(model.config, name), getattr(config, name)
        if found != wanted:
            raise InterestModelError(
                f"the version in {start_from} has {name} {found!r}, the configuration asks for {wanted!r}: "
                "set it back, or fit without a version to start from"
            )
    model.go_on(config)
    return model


def _identity(model: InterestModel, items: ItemArrays, moments: MomentArrays, config: InterestConfig) -> str:
    content = hashlib.sha256(json.dumps(config.as_dict(), sort_keys=True).encode())
    content.update(model.encoder.hash.encode())
    content.update(items.digest().encode())
    content.update(moments.digest().encode())
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
