from pathlib import Path

import pytest
import torch
from torch import nn

from models.interest.adapters import projections
from models.interest.config import InterestConfig
from models.interest.encoder import TextEncoder
from models.interest.version import InterestModel


def _fit(encoder: TextEncoder, texts: list[str], steps: range, of: int) -> None:
    rows = encoder.prepare(texts)
    target = nn.functional.normalize(torch.linspace(-1, 1, encoder.width), dim=0).to(encoder.device)
    optimiser = torch.optim.SGD(encoder.tuned_parameters().values(), lr=10.0)
    for step in steps:
        optimiser.zero_grad()
        (encoder.penalty() - (encoder(rows) @ target).mean()).backward()
        optimiser.step()
        encoder.stepped(step, of)


def _ranks(encoder: TextEncoder) -> list[int]:
    """Ranks in use, one number a projection."""
    return [int((w != 0).sum()) for name, w in encoder.tuned_parameters().items() if ".lora_E." in name]


def test_adapters_go_where_queries_keys_and_values_are_made(tiny_encoder: str) -> None:
    trained = TextEncoder(tiny_encoder, "lora", 16, rank=4).tuned_parameters()

    assert len(trained) == 3 * 3 * 2
    assert {name.split(".")[5] for name in trained} == {"query", "key", "value"}
    assert {min(weight.shape) for weight in trained.values()} == {4}


def test_an_encoder_with_no_known_projection_gets_adapters_everywhere() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))

    assert projections(model) == ["0", "2"]


@pytest.mark.parametrize("tune", ["lora", "adalora"])
def test_the_seed_alone_decides_how_adapters_begin(tiny_encoder: str, tune: str) -> None:
    first, again, other = (TextEncoder(tiny_encoder, tune, 16, seed=seed) for seed in (1, 1, 2))

    name = next(name for name in first.tuned_parameters() if ".lora_A." in name)
    assert torch.equal(first.tuned_parameters()[name], again.tuned_parameters()[name])
    assert not torch.equal(first.tuned_parameters()[name], other.tuned_parameters()[name])


@pytest.mark.parametrize("tune", ["lora", "adalora"])
def test_a_saved_version_has_the_adapters_and_encodes_alike(
    tiny_encoder: str, random_texts, tmp_path: Path, tune: str
) -> None:
    config = InterestConfig(encoder=tiny_encoder, tune=tune, max_tokens=16, width=16, device="cpu")
    model = InterestModel(config)
    texts = random_texts(8)
    before = model.encoder.vectors(model.encoder.prepare(texts))
    _fit(model.encoder, texts, range(1, 4), 3)

    model.save(tmp_path)
    loaded = InterestModel.load(tmp_path)

    found = loaded.encoder.vectors(loaded.encoder.prepare(texts))
    assert torch.equal(found, model.encoder.vectors(model.encoder.prepare(texts)))
    assert not torch.equal(found, before)


def test_adalora_ends_with_the_configured_rank_on_average(tiny_encoder: str, random_texts) -> None:
    encoder = TextEncoder(tiny_encoder, "adalora", 16, rank=4, device="cpu")

    _fit(encoder, random_texts(12), range(1, 21), 20)

    ranks = _ranks(encoder)
    assert sum(ranks) == 4 * len(ranks)
    assert min(ranks) < max(ranks)


def test_adalora_goes_on_after_an_interruption_as_if_there_had_been_none(
    tiny_encoder: str, random_texts
) -> None:
    texts = random_texts(12)
    whole, first, second = (TextEncoder(tiny_encoder, "adalora", 16, rank=4, device="cpu") for _ in range(3))

    _fit(whole, texts, range(1, 21), 20)
    _fit(first, texts, range(1, 12), 20)
    for name, weight in second.tuned_parameters().items():
        weight.data.copy_(first.tuned_parameters()[name])
    second.resume(first.allocation())
    _fit(second, texts, range(12, 21), 20)

    expected = whole.tuned_parameters()
    assert all(torch.equal(weight, expected[name]) for name, weight in second.tuned_parameters().items())


def test_a_fit_of_few_steps_keeps_every_rank(tiny_encoder: str, random_texts) -> None:
    encoder = TextEncoder(tiny_encoder, "adalora", 16, rank=4, device="cpu")

    _fit(encoder, random_texts(4), range(1, 5), 4)

    assert set(_ranks(encoder)) == {6}
