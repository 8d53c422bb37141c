"""A tiny encoder and seeded moment arrays. Fixtures hand out functions: test folders are no packages."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.interest.config import InterestConfig
from models.interest.item_arrays import ItemArrays
from models.interest.moment_arrays import MomentArrays
from models.interest.pretrained import find_encoder

WORDS = ("river", "stone", "cloud", "engine", "market", "garden", "violin", "rocket", "harbour", "winter")


def _random_texts(count: int) -> list[str]:
    rng = np.random.default_rng(5)
    return [" ".join(rng.choice(WORDS, size=rng.integers(3, 9))) + f" {n}" for n in range(count)]


def _random_items(count: int) -> ItemArrays:
    """Items with some of: attribute values, numbers, an id, a text of their own."""
    rng = np.random.default_rng(6)
    sizes = rng.integers(0, 4, size=count)
    items = ItemArrays.of_texts(_random_texts(count))
    return replace(
        items,
        attribute_start=np.concatenate([[0], np.cumsum(sizes)]),
        attribute=rng.integers(1, 9, size=int(sizes.sum())),
        number=np.where(rng.random((count, 2)) < 0.3, np.nan, rng.normal(size=(count, 2))).astype(np.float32),
        id=np.where(rng.random(count) < 0.2, 0, np.arange(1, count + 1)),
    )


def _random_moments(
    seed: int, users: int = 6, items: int = 20, longest: int = 40, impressions: int = 4, actions: int = 2
) -> MomentArrays:
    """Users with histories of 0…longest tokens and impressions of 1…6 candidates anywhere in them."""
    rng = np.random.default_rng(seed)
    lengths = np.concatenate([[0, longest], rng.integers(0, longest, size=max(users - 2, 0))])[:users]
    start = np.concatenate([[0], np.cumsum(lengths)])
    at = [np.sort(rng.uniform(0, 1e5, size=n)) for n in lengths]
    user = np.repeat(np.arange(users), impressions)
    prefix = np.array([rng.integers(0, lengths[u] + 1) for u in user])
    seen = [at[u][p - 1] if p else 0.0 for u, p in zip(user, prefix, strict=True)]
    sizes = rng.integers(1, 7, size=len(user))
    total = int(start[-1])
    return MomentArrays(
        history_item=rng.integers(0, items, size=total),
        history_action=rng.integers(0, actions, size=total),
        history_at=np.concatenate(at) + 1.7e9,
        user_start=start,
        impression_user=user,
        impression_prefix=prefix,
        impression_at=np.array(seen) + rng.uniform(0, 100, size=len(user)) + 1.7e9,
        impression_start=np.concatenate([[0], np.cumsum(sizes)]),
        candidate_item=rng.integers(0, items, size=int(sizes.sum())),
        label=rng.integers(0, 2, size=int(sizes.sum())).astype(np.float32),
    )


def _only_impression(moments: MomentArrays, number: int, candidates: list[int]) -> MomentArrays:
    """One impression with some of its candidates, by their place in the list."""
    low = moments.impression_start[number]
    chosen = low + np.array(candidates)
    return replace(
        moments,
        impression_user=moments.impression_user[[number]],
        impression_prefix=moments.impression_prefix[[number]],
        impression_at=moments.impression_at[[number]],
        impression_start=np.array([0, len(candidates)]),
        candidate_item=moments.candidate_item[chosen],
        label=moments.label[chosen],
    )


def _checkerboard(
    seed: int, users: int = 60, lists: int = 4, first_user: int = 0
) -> tuple[ItemArrays, MomentArrays]:
    """Two groups of people and two kinds of text: each group takes one kind and passes over the other.

    Groups are equally large, so that nothing but a person's own past tells what they take.
    """
    rng = np.random.default_rng(seed)
    sport = ["goal", "striker", "league", "match", "penalty", "stadium", "coach", "cup final"]
    food = ["soup", "pasta", "oven", "spices", "recipe", "garlic", "dessert", "roast chicken"]
    texts = [f"{a} and {b}" for kind in (sport, food) for a in kind for b in kind if a != b]
    half = len(texts) // 2
    item: list[int] = []
    action: list[int] = []
    at: list[float] = []
    shown: list[np.ndarray] = []
    label: list[np.ndarray] = []
    prefix, shown_at, user = [], [], []
    start = [0]
    for number in range(users):
        group = (first_user + number) % 2
        for turn in range(lists):
            when = 1.7e9 + turn * 600.0
            chosen = np.concatenate([rng.integers(0, half, 4), rng.integers(half, 2 * half, 4)])
            rng.shuffle(chosen)
            clicked = (chosen >= half) == bool(group)
            user.append(number)
            prefix.append(len(item) - start[-1])
            shown_at.append(when)
            shown.append(chosen)
            label.append(clicked.astype(np.float32))
            item += chosen.tolist()
            action += clicked.astype(int).tolist()
            at += [when + 30.0] * len(chosen)
        start.append(len(item))
    return ItemArrays.of_texts(texts), MomentArrays(
        history_item=np.array(item),
        history_action=np.array(action),
        history_at=np.array(at),
        user_start=np.array(start),
        impression_user=np.array(user),
        impression_prefix=np.array(prefix),
        impression_at=np.array(shown_at),
        impression_start=np.arange(len(user) + 1) * 8,
        candidate_item=np.concatenate(shown),
        label=np.concatenate(label),
    )


def _area_under_curve(label: np.ndarray, score: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order; ties count half."""
    positive, negative = score[label > 0], score[label == 0]
    difference = positive[:, None] - negative[None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def save_tiny_encoder(folder: Path, seed: int) -> Path:
    """A random BERT of three narrow layers with the packaged tokenizer: the machinery without the weight."""
    # Not at the top: `models.interest` sets up OpenMP and must come before torch.
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shape = BertConfig(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, vocab_size=30522
        )
        BertModel(shape).save_pretrained(folder)
    AutoTokenizer.from_pretrained(find_encoder("all-MiniLM-L6-v2")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_encoder(tmp_path_factory.mktemp("tiny"), seed=1))


@pytest.fixture(scope="session")
def other_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_encoder(tmp_path_factory.mktemp("other"), seed=2))


@pytest.fixture(scope="session")
def narrow_config(tiny_encoder: str) -> InterestConfig:
    """A narrow decoder with a short window over the tiny encoder."""
    return InterestConfig(
        encoder=tiny_encoder, tune="top:1", max_tokens=12, width=16, heads=2, window=8, numbers=("price", "length")
    )  # fmt: skip


@pytest.fixture(scope="session")
def random_texts() -> Callable[..., list[str]]:
    return _random_texts


@pytest.fixture(scope="session")
def random_items() -> Callable[..., ItemArrays]:
    return _random_items


@pytest.fixture(scope="session")
def random_moments() -> Callable[..., MomentArrays]:
    return _random_moments


@pytest.fixture(scope="session")
def only_impression() -> Callable[..., MomentArrays]:
    return _only_impression


@pytest.fixture(scope="session")
def checkerboard() -> Callable[..., tuple[ItemArrays, MomentArrays]]:
    return _checkerboard


@pytest.fixture(scope="session")
def area_under_curve() -> Callable[..., float]:
    return _area_under_curve
