"""Speed and accuracy of the interest model on this machine.

`python -m models.interest.benchmark FOLDER` reads the arrays of `saved_fit.save_arrays`; `--synthetic` generates some.
Needs torch, transformers and numpy only, and no GPU. Throughput counts real tokens: packs have no padding. The share
of the card's peak counts the encoder's matrix products only. `--workers N` compares N processes, one per GPU if there
are as many, with one.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from .config import InterestConfig, find_device
from .encoder import TextEncoder
from .fit import fine_tune
from .item_arrays import ItemArrays
from .moment_arrays import MomentArrays
from .saved_fit import SavedFit, fit_saved, load_arrays, save_arrays, saved_history
from .scoring import score
from .version import InterestModel
from .workers import launch

RANDOM = "bert-base"
"""An encoder of BERT's base size with random weights, for throughput."""
PEAK = {
    "B200": 2250, "GH200": 989, "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989,
    "A100": 312, "L40S": 362, "L4": 121, "RTX 4090": 165,
}  # fmt: skip
"""Dense bf16 TFLOP/s from the data sheets, by part of the card's name; the first match counts."""
_WORDS = 8_000
_TOLERANCE = 0.02
"""Allowed difference of probabilities on CPU and CUDA, which round bf16 differently."""
_TIMED = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; 1 if CPU and CUDA disagree."""
    options = _parse(arguments)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        items, moments, config = (
            synthetic(options.lists) if options.synthetic else load_arrays(options.folder)
        )
        device = find_device(options.device)
        encoder = options.encoder or (RANDOM if device.type == "cuda" else config.encoder)
        config = replace(
            config,
            encoder=str(random_encoder(work / "encoder")) if encoder == RANDOM else encoder,
            tune=options.tune or ("full" if device.type == "cuda" else config.tune),
            texts_per_step=options.texts,
            device=device.type,
            epochs=1,
            holdout=0.0,
        )
        card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        print(
            f"{card}, torch {torch.__version__}, {torch.get_num_threads()} threads; {encoder}, {config.tune}"
        )
        print(f"{len(items.texts):,} texts, {len(moments.impression_user):,} lists\n")
        model = _time_fit(items, moments, config, work)
        if options.workers > 1:
            _time_workers(items, moments, config, work, options.workers)
        _time_encoder(model, items.texts, options.texts, _peak(card))
        return _compare(model, items, moments, work)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="arrays of saved_fit.save_arrays")
    parser.add_argument("--synthetic", action="store_true", help="seeded arrays instead of a folder")
    parser.add_argument("--lists", type=int, default=512, help="synthetic lists")
    parser.add_argument("--encoder", help=f"as in the configuration, or {RANDOM} (the default on CUDA)")
    parser.add_argument("--tune", help="as in the configuration; full by default on CUDA")
    parser.add_argument(
        "--texts", type=int, default=64, help="texts with gradients per pass; try 1024 on a GPU"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--workers", type=int, default=1, help="also fit with this many processes")
    options = parser.parse_args(arguments)
    if (options.folder is None) != options.synthetic:
        parser.error("name a folder or give --synthetic, but not both")
    return options


def synthetic(lists: int, seed: int = 1) -> tuple[ItemArrays, MomentArrays, InterestConfig]:
    """Seeded arrays: texts of 4 to 40 words, lists of 24 candidates, one user per 4 lists with 0 to 100 moments."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.normal(16, 8, 2_000).astype(int), 4, 40)
    texts = [" ".join(f"w{word}" for word in rng.integers(_WORDS, size=length)) for length in lengths]
    past = rng.integers(0, 101, size=max(1, lists // 4))
    start = np.concatenate([[0], np.cumsum(past)])
    user = rng.integers(len(past), size=lists)
    return (
        ItemArrays.of_texts(texts),
        MomentArrays(
            history_item=rng.integers(len(texts), size=start[-1]),
            history_action=rng.integers(2, size=start[-1]),
            history_at=1.7e9 + np.concatenate([60.0 * np.arange(n) for n in past]),
            user_start=start,
            impression_user=user,
            impression_prefix=past[user],
            impression_at=np.full(lists, 1.7e9 + 86_400),
            impression_start=24 * np.arange(lists + 1),
            candidate_item=rng.integers(len(texts), size=24 * lists),
            label=(rng.random(24 * lists) < 0.15).astype(np.float32),
        ),
        InterestConfig(),
    )


def random_encoder(folder: Path, **shape: int) -> Path:
    """A BERT of base size (or another `shape`) with random weights, whose tokens are whole words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(_WORDS))]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        BertModel(BertConfig(**shape)).save_pretrained(folder)
    BertTokenizer(vocab={word: place for place, word in enumerate(words)}).save_pretrained(folder)
    return folder


def _time_fit(items: ItemArrays, moments: MomentArrays, config: InterestConfig, work: Path) -> InterestModel:
    """Fit one epoch; print its throughput and a profile of its slowest operations."""
    steps: list[dict[str, float]] = []
    began = time.perf_counter()
    model = fine_tune(
        items,
        moments,
        config,
        start_from=None,
        checkpoint=work / "fit",
        progress=steps.append,
        cache=work / "cache",
    )
    seconds = time.perf_counter() - began
    warm = steps[len(steps) // 2 :]
    print("| fit | |\n|---|---:|")
    print(f"| all, with loading and preparing | {seconds:.1f} s |")
    for name in ("impressions_per_second", "texts_per_second"):
        print(f"| {name.replace('_', ' ')} (median step) | {np.median([s[name] for s in warm]):,.1f} |")
    few = moments.only(np.arange(min(len(moments.impression_user), 4 * config.impressions_per_step)))
    _print_profile(
        lambda: fine_tune(
            items, few, config, start_from=None, checkpoint=work / "profile", cache=work / "cache"
        )
    )
    return model


def _time_workers(
    items: ItemArrays, moments: MomentArrays, config: InterestConfig, work: Path, most: int
) -> None:
    """Fit one epoch with one process and with `most`, on the same schedule; print the throughputs."""
    config = replace(config, accumulate=most * -(-config.accumulate // most))
    save_arrays(work / "arrays", items, moments, config)
    print(f"\n| workers (steps of {config.accumulate} passes) | impressions/s | efficiency |")
    print("|---:|---:|---:|")
    speeds: dict[int, float] = {}
    for count in (1, most):
        place = work / f"by-{count}"
        fit = SavedFit(work / "arrays", place / "version", place / "fit", cache=work / "cache")
        launch(fit_saved, fit, count)
        rates = [facts["impressions_per_second"] for facts in saved_history(fit.out)]
        speeds[count] = float(np.median(rates[len(rates) // 2 :]))
        print(f"| {count} | {speeds[count]:,.1f} | {speeds[count] / (count * speeds[1]):.0%} |")


def _print_profile(call: Callable[[], object]) -> None:
    """Print the operations of a call with the largest own time."""
    with torch.profiler.profile() as profile:
        call()
    cuda = torch.cuda.is_available()
    own = {
        event.key: event.self_device_time_total if cuda else event.self_cpu_time_total
        for event in profile.key_averages()
    }
    total = max(sum(own.values()), 1e-9)
    print(f"\n| operation (of a short fit, on the {'GPU' if cuda else 'CPU'}) | share |\n|---|---:|")
    for name, spent in sorted(own.items(), key=lambda pair: -pair[1])[:10]:
        print(f"| {name[:60]} | {spent / total:.0%} |")


def _time_encoder(model: InterestModel, texts: list[str], many: int, peak: float | None) -> None:
    """Print the encoder's texts and tokens per second and its share of the card's peak."""
    encoder = model.encoder
    rows = encoder.prepare(texts)
    lengths = [len(ids) for ids in encoder.tokenise(texts)]
    weights = {
        name: module.weight
        for name, module in encoder.base.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.startswith("pooler")
    }
    every = sum(weight.numel() for weight in weights.values())
    trained = sum(weight.numel() for weight in weights.values() if weight.requires_grad)
    passed = trained if encoder.tune.startswith("top:") else every
    chosen = list(range(min(many or len(rows), len(rows))))

    def learn() -> None:
        encoder(rows[: len(chosen)]).sum().backward()

    # Operations per token and weight: 2 forward, 2 for the gradient of the input, 2 for that of the weight.
    ways: list[tuple[str, Callable[[], object], list[int], int]] = [
        ("texts → vectors, all layers", lambda: encoder.vectors(encoder.prepare(texts)), lengths, 2 * every)
    ]
    if trained:
        ways.append(("forward and backward", learn, lengths[: len(chosen)], 4 * passed + 2 * trained))
    print("\n| encoder | texts/s | tokens/s | TFLOP/s | of peak |\n|---|---:|---:|---:|---:|")
    for name, call, tokens, operations in ways:
        seconds = _seconds(call, encoder.device)
        speed = sum(tokens) * operations / seconds / 1e12
        share = f"{speed / peak:.0%}" if peak else "peak unknown"
        print(
            f"| {name} | {len(tokens) / seconds:,.0f} | {sum(tokens) / seconds:,.0f} | {speed:.2f} | {share} |"
        )


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Median seconds of some calls, after two warm-up calls."""
    spent = []
    for _ in range(2 + _TIMED):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - began)
    return float(np.median(spent[2:]))


def _compare(model: InterestModel, items: ItemArrays, moments: MomentArrays, work: Path) -> int:
    """Print the differences of bf16 from float32 and of CUDA from the CPU; 1 if the latter is too large."""
    texts = items.texts[:256]
    exact, fast = (
        encoder.vectors(encoder.prepare(texts))
        for encoder in (
            TextEncoder(model.config.encoder, device=model.device, bf16=bf16) for bf16 in (False, True)
        )
    )
    print(
        f"\n| correctness | |\n|---|---:|\n| least cosine, bf16 to float32 | {(exact * fast).sum(1).min():.5f} |"
    )
    if model.device.type == "cpu":
        print("| CPU and CUDA | no CUDA used |")
        return 0
    few = moments.only(np.arange(min(64, len(moments.impression_user))))
    model.save(work / "version")
    scores = [
        score(InterestModel.load(work / "version", device=name), items, few) for name in ("cpu", "cuda")
    ]
    apart = float(np.abs(scores[0] - scores[1]).max())
    print(f"| largest difference of a score, CPU and CUDA (allowed: {_TOLERANCE}) | {apart:.5f} |")
    return int(apart > _TOLERANCE)


def _peak(card: str) -> float | None:
    """TFLOP/s."""
    return next((float(peak) for name, peak in PEAK.items() if name in card), None)


if __name__ == "__main__":
    sys.exit(main())
