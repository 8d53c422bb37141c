"""Measure how fast the interest model learns and scores, beside a peer and a plain loop.

`python tests/benchmarks/interest.py [--peer 128] [--ours 256,512,1024,3072]` takes some minutes on two cores and prints
Markdown tables. Lists are RankLens's where `../shared/data` or `MOMENTRANK_DATA` holds it, else the newsroom's; every
way reads the same lists, texts only, and starts from the same encoder.

- *peer*: sentence-transformers, a bi-encoder fitted on (what the user took, candidate, label) pairs, bf16.
- *plain loop*: our decoder and loss, but every occurrence of a text is encoded anew, padded, without a cached prefix.

The loss is the softmax cross-entropy over each held-out list. The peer's similarities have no scale: they
get the scale that fits the held-out lists best.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.config.project import load
from features.errors import ProjectError
from features.events.labels import attribute
from features.state import SliceEvents, start
from models.interest import scoring
from models.interest.config import InterestConfig
from models.interest.encoder import TextEncoder
from models.interest.fit import fine_tune
from models.interest.item_arrays import ItemArrays
from models.interest.moment_arrays import MomentArrays, collate, gaps, segments
from models.interest.network import list_loss
from models.interest.pretrained import find_encoder
from models.interest.version import InterestModel
from models.interest_input import interest_config, interest_input
from pipelines.deployment import Deployment
from pipelines.settings import settings

import torch  # isort: skip  # after models.interest, which sets up its threads

PROJECTS = Path(__file__).resolve().parents[2] / "projects"
HELD_OUT, CALLS, LIVE_CANDIDATES = 256, 400, 100
PAST_CLICKS = 8
"""Clicked items in a peer's history text."""
LISTS_PER_STEP = 8
"""For the plain loop, which needs a hundred times the memory."""

Lists = tuple[ItemArrays, MomentArrays, MomentArrays, InterestConfig]


class Fit(NamedTuple):
    """A fit: number of lists, seconds, and loss on the held-out lists."""

    name: str
    lists: int
    seconds: float
    loss: float


def main(peer: int, ours: list[int]) -> None:
    """Run all fits and print both tables."""
    with tempfile.TemporaryDirectory() as name:
        items, past, held_out, config = read_lists(Path(name))
        print(f"\n{len(past.impression_user):,} lists to fit on, {len(held_out.impression_user)} held out\n")
        fits: list[Fit] = []
        for count in ours:
            model, row = fit_ours(
                items, past.only(np.arange(count)), held_out, config, Path(name) / str(count)
            )
            fits.append(row)
        few = past.only(np.arange(peer))
        others = [fit_peer(items, few, held_out, config), fit_plainly(items, few, held_out, config)]
        print_fits(fits, others)
        print_live(model, items)


def read_lists(home: Path) -> Lists:
    """Return items, lists to fit on in random order, later held-out lists, and the configuration."""
    for name in ("ranklens", "newsroom"):
        home_settings = settings.load().model_copy(update={"home": home})
        deployment = Deployment(load(PROJECTS / f"{name}.toml"), home_settings)
        try:
            ingested = deployment.ingest()
            break
        except ProjectError as error:
            print(f"{name} is not available: {error}")
    project = deployment.project
    events = SliceEvents(
        *(t.drop("slice") for t in (ingested.items, ingested.impressions, ingested.interactions))
    )
    labels = attribute(events.impressions, events.interactions, project.labels)
    inputs = interest_input(start(project.slices.start, project.behaviour), events, labels)
    # Texts only, so that all fits read the same.
    items = ItemArrays.of_texts([inputs.items.texts[number] for number in inputs.items.text])
    config = replace(
        interest_config(project.interest, project.behaviour, project.seed),
        numbers=(),
        attributes=False,
        ids=False,
        epochs=1,
    )
    moments = inputs.moments
    clicks = np.add.reduceat(moments.label > 0, moments.impression_start[:-1])
    usable = np.flatnonzero((clicks > 0) & (moments.impression_prefix > 0))
    usable = usable[np.argsort(moments.impression_at[usable], kind="stable")]
    cut = len(usable) * 4 // 5
    rng = np.random.default_rng(1)
    past, held_out = rng.permutation(usable[:cut]), rng.permutation(usable[cut:])[:HELD_OUT]
    return items, moments.only(past), moments.only(held_out), config


def fit_ours(
    items: ItemArrays, lists: MomentArrays, held_out: MomentArrays, config: InterestConfig, folder: Path
) -> tuple[InterestModel, Fit]:
    """Fit one epoch with an empty cache. Includes loading the encoder, unlike the peers."""
    began = time.perf_counter()
    model = fine_tune(
        items, lists, config, start_from=None, checkpoint=folder / "fit", cache=folder / "cache"
    )
    seconds = time.perf_counter() - began
    probability = scoring.score(model, items, held_out, folder / "cache")
    loss = held_out_loss(np.log(probability / (1 - probability)), held_out)
    return model, Fit(f"ours, {config.tune}", len(lists.impression_user), seconds, loss)


def fit_peer(items: ItemArrays, lists: MomentArrays, held_out: MomentArrays, config: InterestConfig) -> Fit:
    """Fit with sentence-transformers' own loop over pairs from the same lists."""
    from sentence_transformers import InputExample, SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    peer = SentenceTransformer(str(find_encoder(config.encoder)), device="cpu")
    peer.max_seq_length = config.max_tokens
    pairs = [
        InputExample(texts=[history, items.texts[items.text[item]]], label=float(label > 0))
        for history, shown in zip(_history_texts(items, lists), _shown(lists), strict=True)
        for item, label in zip(lists.candidate_item[shown], lists.label[shown], strict=True)
    ]
    loader: Any = torch.utils.data.DataLoader(pairs, shuffle=True, batch_size=64)  # type: ignore[arg-type]
    began = time.perf_counter()
    peer.old_fit(
        [(loader, CosineSimilarityLoss(peer))],
        warmup_steps=len(loader) // 10,
        optimizer_params={"lr": config.encoder_rate},
        use_amp=True,
        show_progress_bar=False,
    )
    seconds = time.perf_counter() - began
    with torch.autocast("cpu", torch.bfloat16):
        users = peer.encode(_history_texts(items, held_out), normalize_embeddings=True)
        shown = peer.encode([items.texts[n] for n in items.text], normalize_embeddings=True)
    near = np.repeat(users, np.diff(held_out.impression_start), axis=0) * shown[held_out.candidate_item]
    loss = min(held_out_loss(scale * near.sum(1), held_out) for scale in np.geomspace(0.5, 50, 25))
    return Fit("sentence-transformers", len(lists.impression_user), seconds, loss)


def _history_texts(items: ItemArrays, lists: MomentArrays) -> list[str]:
    """Return, for each list, the titles of the user's last clicks, newest first."""
    texts = []
    for user, prefix in zip(lists.impression_user, lists.impression_prefix, strict=True):
        past = slice(lists.user_start[user], lists.user_start[user] + prefix)
        clicked = lists.history_item[past][lists.history_action[past] != lists.history_action.max()]
        texts.append(
            ". ".join(items.texts[items.text[n]].split(". ")[0] for n in clicked[::-1][:PAST_CLICKS])
        )
    return texts


def _shown(lists: MomentArrays) -> list[slice]:
    return [slice(a, b) for a, b in zip(lists.impression_start[:-1], lists.impression_start[1:], strict=True)]


def fit_plainly(
    items: ItemArrays, lists: MomentArrays, held_out: MomentArrays, config: InterestConfig
) -> Fit:
    """Fit our decoder, loss and tuned layers over the same lists, encoding each text wherever it occurs."""
    from transformers import AutoModel

    model = InterestModel(config)
    plain = AutoModel.from_pretrained(find_encoder(config.encoder)).eval().requires_grad_(False)
    names = model.encoder.tuned_parameters().keys()
    tuned = {name: p.requires_grad_(True) for name, p in plain.named_parameters() if name in names}
    optimiser = torch.optim.AdamW(
        [
            {"params": list(model.decoder.parameters()), "lr": config.decoder_rate},
            {"params": list(tuned.values()), "lr": config.encoder_rate},
        ]
    )
    model.decoder.items.standardise(scoring.embed(model, items))
    model.decoder.train()
    began = time.perf_counter()
    for first in range(0, len(lists.impression_user), LISTS_PER_STEP):
        spelled, moments = _spelled_out(items, lists.only(np.arange(first, first + LISTS_PER_STEP)), config)
        read = model.decoder.items(spelled.tensors(_padded(plain, model.encoder, spelled.texts)))
        batch = collate(moments, segments(moments, config), gaps(moments), config)
        labels = torch.from_numpy(moments.label[batch.candidate])
        optimiser.zero_grad()
        list_loss(model.decoder(batch, read), labels, torch.from_numpy(batch.sizes)).backward()
        optimiser.step()
    seconds = time.perf_counter() - began
    with torch.no_grad():
        for name, weight in model.encoder.tuned_parameters().items():
            weight.copy_(tuned[name])
    probability = scoring.score(model, items, held_out)
    loss = held_out_loss(np.log(probability / (1 - probability)), held_out)
    return Fit("plain loop: padded, each occurrence encoded", len(lists.impression_user), seconds, loss)


def _spelled_out(
    items: ItemArrays, lists: MomentArrays, config: InterestConfig
) -> tuple[ItemArrays, MomentArrays]:
    """Rewrite the lists with a separate user each, and a separate item for every moment and candidate."""
    ends = lists.user_start[lists.impression_user] + lists.impression_prefix
    starts = np.maximum(lists.user_start[lists.impression_user], ends - config.reach)
    past = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
    occurrences = np.concatenate([lists.history_item[past], lists.candidate_item])
    texts = [items.texts[n] for n in items.text[occurrences]]
    spelled = replace(ItemArrays.of_texts([str(n) for n in range(len(texts))]), texts=texts)
    return spelled, replace(
        lists,
        history_item=np.arange(len(past)),
        history_action=lists.history_action[past],
        history_at=lists.history_at[past],
        user_start=np.concatenate([[0], np.cumsum(ends - starts)]),
        impression_user=np.arange(len(ends)),
        impression_prefix=ends - starts,
        candidate_item=np.arange(len(past), len(texts)),
    )


def _padded(plain: Any, encoder: TextEncoder, texts: list[str]) -> torch.Tensor:
    tokens = encoder.tokenizer(
        texts, truncation=True, max_length=encoder.max_tokens, padding=True, return_tensors="pt"
    )
    with torch.autocast("cpu", torch.bfloat16):
        hidden = plain(**tokens).last_hidden_state.float()
    weight = tokens["attention_mask"][..., None]
    return torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)


def held_out_loss(logits: NDArray[Any], lists: MomentArrays) -> float:
    """Return the mean softmax cross-entropy of the clicked items, over lists."""
    losses = []
    for shown in _shown(lists):
        logit, label = logits[shown], lists.label[shown]
        share = logit - logit.max() - np.log(np.exp(logit - logit.max()).sum())
        losses.append(-(label * share).sum() / label.sum())
    return float(np.mean(losses))


def print_fits(ours: list[Fit], others: list[Fit]) -> None:
    """Print each fit, and how much sooner ours reached the loss of the others."""
    print("| fit, one epoch | lists | seconds | lists/s | held-out loss | ours to that loss |")
    print("|---|---:|---:|---:|---:|---|")
    fastest = max(fit.lists / fit.seconds for fit in ours)
    for fit in [*ours, *others]:
        beside = ""
        if fit in others:
            as_low = min((own.seconds for own in ours if own.loss <= fit.loss), default=np.inf)
            more = fastest * fit.seconds / fit.lists
            sooner = (
                f"{as_low:.1f} s, {fit.seconds / as_low:.1f} × sooner" if as_low < np.inf else "not reached"
            )
            beside = f"{sooner}; {more:.0f} × its lists/s"
        rate = f"{fit.lists / fit.seconds:.1f}"
        print(f"| {fit.name} | {fit.lists:,} | {fit.seconds:.1f} | {rate} | {fit.loss:.4f} | {beside} |")


def print_live(model: InterestModel, items: ItemArrays) -> None:
    """Print the time to score one user's candidates, and to add an event, with short and long histories."""
    # A request is too small to split: waiting for a second core costs milliseconds.
    torch.set_num_threads(1)
    rng = np.random.default_rng(2)
    known = scoring.embed(model, items)
    action = model.config.actions[0]
    print("\n| live, one thread | p50 | p99 |\n|---|---:|---:|")
    for length in (10, 1000):
        state, now = scoring.start(model), 1.7e9
        for item in rng.integers(len(items), size=length).tolist():
            now += 60.0
            state = scoring.advance(model, state, known[item], action, now)
        shown = known[rng.integers(len(items), size=LIVE_CANDIDATES)]
        one = known[int(rng.integers(len(items)))]
        calls: dict[str, Callable[[], object]] = {
            f"score {LIVE_CANDIDATES} candidates": partial(scoring.score_live, model, state, shown, now),
            "one event": partial(scoring.advance, model, state, one, action, now),
        }
        for name, call in calls.items():
            p50, p99 = 1e3 * np.percentile([_seconds(call) for _ in range(CALLS)][20:], [50, 99])
            print(f"| {name}, history {length:,} | {p50:.2f} ms | {p99:.2f} ms |")


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=int, default=128, help="number of lists for the peers")
    parser.add_argument("--ours", default="256,512,1024,3072", help="numbers of lists for ours")
    arguments = parser.parse_args()
    main(arguments.peer, [int(count) for count in arguments.ours.split(",")])
