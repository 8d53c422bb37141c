from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.interest.config import InterestConfig, InterestModelError
from models.interest.scoring import score
from models.interest.training import fine_tune


@pytest.fixture
def config(tiny_encoder: str) -> InterestConfig:
    return InterestConfig(
        encoder=tiny_encoder,
        tune="top:1",
        max_tokens=12,
        width=16,
        heads=2,
        window=8,
        epochs=3,
        impressions_per_step=6,
        texts_per_step=5,
        encoder_rate=1e-3,
    )


class Killed(Exception):
    pass


def test_a_checkerboard_of_tastes_is_learnt(checkerboard, area_under_curve, tmp_path: Path) -> None:
    texts, moments = checkerboard(seed=1)
    _, unseen = checkerboard(seed=2, users=20, first_user=1)
    config = InterestConfig(
        tune="frozen",
        max_tokens=16,
        width=32,
        window=24,
        epochs=20,
        impressions_per_step=32,
        decoder_rate=3e-3,
    )

    model = fine_tune(texts, moments, config, start_from=None, checkpoint=tmp_path)
    probability = score(model, texts, unseen)

    known = np.repeat(unseen.impression_prefix > 0, 8)
    assert area_under_curve(unseen.label[known], probability[known]) > 0.95
    assert area_under_curve(unseen.label[~known], probability[~known]) < 0.65
    assert model.history[-1]["loss"] < model.history[0]["loss"]


def test_tuning_the_encoder_lowers_the_loss_on_what_text_alone_tells(
    config: InterestConfig, random_texts, random_moments, tmp_path: Path
) -> None:
    texts = random_texts(20)
    moments = random_moments(1, users=12)
    moments = replace(moments, label=(moments.candidate_item % 2).astype(np.float32))
    config = replace(config, epochs=10, decoder_rate=1e-4, encoder_rate=5e-3, texts_per_step=0)

    tuned = fine_tune(texts, moments, config, start_from=None, checkpoint=tmp_path)
    still = fine_tune(texts, moments, replace(config, tune="frozen"), start_from=None, checkpoint=tmp_path)

    assert tuned.history[-1]["loss"] < still.history[-1]["loss"] - 0.05


@pytest.mark.parametrize("tune", ["frozen", "top:1", "full"])
def test_an_interrupted_fit_ends_as_the_uninterrupted(
    config: InterestConfig, random_texts, random_moments, tmp_path: Path, tune: str
) -> None:
    config = replace(config, tune=tune)
    texts, moments = random_texts(20), random_moments(2)
    whole = fine_tune(texts, moments, config, start_from=None, checkpoint=tmp_path / "a")
    steps: list[float] = []

    def die(facts: dict[str, float]) -> None:
        if facts["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        fine_tune(texts, moments, config, start_from=None, checkpoint=tmp_path / "b", progress=die)
    assert list((tmp_path / "b").glob("*.safetensors"))
    resumed = fine_tune(
        texts,
        moments,
        config,
        start_from=None,
        checkpoint=tmp_path / "b",
        progress=lambda facts: steps.append(facts["epoch"]),
    )

    assert min(steps) == 2
    assert np.allclose(score(resumed, texts, moments), score(whole, texts, moments), atol=1e-5)
    assert [h["loss"] for h in resumed.history] == pytest.approx([h["loss"] for h in whole.history], abs=1e-4)
    assert not (tmp_path / "b").exists()


def test_a_checkpoint_of_another_fit_is_not_taken_up(
    config: InterestConfig, random_texts, random_moments, tmp_path: Path
) -> None:
    texts = random_texts(20)

    def die(facts: dict[str, float]) -> None:
        if facts["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        fine_tune(texts, random_moments(3), config, start_from=None, checkpoint=tmp_path, progress=die)
    steps: list[float] = []
    fine_tune(
        texts,
        random_moments(4),
        config,
        start_from=None,
        checkpoint=tmp_path,
        progress=lambda facts: steps.append(facts["step"]),
    )

    assert steps[0] == 1


def test_one_seed_gives_one_result_and_leaves_the_callers_random_state(
    config: InterestConfig, random_texts, random_moments, tmp_path: Path
) -> None:
    texts, moments = random_texts(20), random_moments(5)
    torch.manual_seed(9)
    before = torch.random.get_rng_state()

    first, second = (
        score(fine_tune(texts, moments, config, start_from=None, checkpoint=tmp_path), texts, moments)
        for _ in range(2)
    )
    other = fine_tune(texts, moments, replace(config, seed=2), start_from=None, checkpoint=tmp_path)

    assert np.array_equal(first, second)
    assert not np.allclose(first, score(other, texts, moments))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_fit_goes_on_from_a_saved_version(
    config: InterestConfig, random_texts, random_moments, tmp_path: Path
) -> None:
    texts, moments = random_texts(20), random_moments(6)
    first = fine_tune(texts, moments, replace(config, epochs=8), start_from=None, checkpoint=tmp_path / "c")
    first.save(tmp_path / "v1")

    second = fine_tune(texts, moments, config, start_from=tmp_path / "v1", checkpoint=tmp_path / "c")

    assert second.history[0]["loss"] < first.history[0]["loss"] - 0.05
    with pytest.raises(InterestModelError, match="has width 16"):
        fine_tune(
            texts, moments, replace(config, width=32), start_from=tmp_path / "v1", checkpoint=tmp_path / "c"
        )


def test_progress_tells_where_the_fit_stands(
    config: InterestConfig, random_texts, random_moments, tmp_path: Path
) -> None:
    seen: list[dict[str, float]] = []

    fine_tune(
        random_texts(20),
        random_moments(7),
        config,
        start_from=None,
        checkpoint=tmp_path,
        progress=seen.append,
    )

    assert [facts["step"] for facts in seen] == list(range(1, int(seen[0]["steps"]) + 1))
    assert {"epoch", "loss", "texts_per_second", "impressions_per_second"} <= seen[0].keys()


def test_nothing_to_learn_from_leaves_the_model_as_it_began(
    config: InterestConfig, random_texts, random_moments, tmp_path: Path
) -> None:
    moments = random_moments(8)
    nothing = replace(
        moments,
        impression_user=moments.impression_user[:0],
        impression_prefix=moments.impression_prefix[:0],
        impression_at=moments.impression_at[:0],
        impression_start=moments.impression_start[:1],
        candidate_item=moments.candidate_item[:0],
        label=moments.label[:0],
    )

    model = fine_tune(random_texts(20), nothing, config, start_from=None, checkpoint=tmp_path)

    assert np.isfinite(score(model, random_texts(20), moments)).all()
    assert len(score(model, random_texts(20), nothing)) == 0
