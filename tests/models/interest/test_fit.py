import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.interest.config import InterestConfig, InterestModelError
from models.interest.fit import fine_tune
from models.interest.item_arrays import ItemArrays
from models.interest.scoring import score


@pytest.fixture
def config(narrow_config: InterestConfig) -> InterestConfig:
    return replace(narrow_config, epochs=3, impressions_per_step=6, texts_per_step=5, encoder_rate=1e-3)


class Killed(Exception):
    pass


def test_a_checkerboard_of_tastes_is_learnt(checkerboard, area_under_curve, tmp_path: Path) -> None:
    items, moments = checkerboard(seed=1)
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

    model = fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path)
    probability = score(model, items, unseen)

    known = np.repeat(unseen.impression_prefix > 0, 8)
    assert area_under_curve(unseen.label[known], probability[known]) > 0.95
    assert area_under_curve(unseen.label[~known], probability[~known]) < 0.65
    assert model.history[-1]["loss"] < model.history[0]["loss"]


def test_tuning_the_encoder_lowers_the_loss_on_what_text_alone_tells(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    items = random_items(20)
    moments = random_moments(1, users=12)
    moments = replace(moments, label=(moments.candidate_item % 2).astype(np.float32))
    config = replace(config, epochs=16, decoder_rate=1e-4, encoder_rate=5e-3, texts_per_step=0)

    tuned = fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path)
    still = fine_tune(items, moments, replace(config, tune="frozen"), start_from=None, checkpoint=tmp_path)

    assert tuned.history[-1]["loss"] < still.history[-1]["loss"] - 0.05


def test_a_share_of_the_impressions_is_fitted_once_more_without_history(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    items, moments = random_items(20), random_moments(1, users=12)
    twice = moments.with_history_dropout(0.5, config.seed)
    count, past = len(moments.impression_prefix), moments.impression_prefix > 0
    added = len(twice.impression_prefix) - count

    assert 0.3 * past.sum() < added < 0.7 * past.sum()
    assert (twice.impression_prefix[count:] == 0).all()
    np.testing.assert_array_equal(twice.impression_prefix[:count], moments.impression_prefix)
    sizes = np.diff(twice.impression_start)
    assert sizes.sum() == len(twice.candidate_item) == len(twice.label)
    assert set(twice.impression_at[count:]) <= set(moments.impression_at[past])
    scores = [
        score(
            fine_tune(
                items, given, replace(config, history_dropout=share), start_from=None, checkpoint=tmp_path
            ),
            items,
            moments,
        )
        for given, share in ((moments, 0.5), (twice, 0.0), (moments, 0.0))
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.abs(scores[0] - scores[2]).max() > 1e-4


def said_by(items: ItemArrays, source: str) -> np.ndarray:
    """Whether each item is of the clicked kind, which one source alone shows."""
    kind = np.arange(len(items)) % 2 == 0
    if source == "ids":
        return kind
    if source == "attributes":
        return items.attribute[items.attribute_start[:-1]] == 1
    return items.number[:, 0] > 0


@pytest.mark.parametrize("source", ["attributes", "numbers", "ids"])
def test_what_stands_beside_the_text_is_learnt(
    config: InterestConfig, random_moments, area_under_curve, tmp_path: Path, source: str
) -> None:
    rng = np.random.default_rng(4)
    items = replace(
        ItemArrays.of_texts(["the same"] * 60),
        attribute_start=np.arange(61),
        attribute=rng.integers(1, 3, size=60),
        number=(rng.normal(size=(60, 2)) * (source == "numbers")).astype(np.float32),
        id=np.arange(1, 61),
    )
    moments = random_moments(1, users=40, items=60, impressions=6)
    moments = replace(moments, label=said_by(items, source)[moments.candidate_item].astype(np.float32))
    config = replace(config, tune="frozen", epochs=8, decoder_rate=1e-2, impressions_per_step=16)

    model = fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path)
    renamed = replace(items, id=items.id + 1000)

    assert area_under_curve(moments.label, score(model, items, moments)) > 0.95
    anew = area_under_curve(moments.label, score(model, renamed, moments))
    # A new item of a known kind is recognised by it; an id never met says nothing.
    assert anew < 0.65 if source == "ids" else anew > 0.9


def test_accumulated_passes_make_fewer_steps_of_the_same_data(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    seen: dict[int, list[dict[str, float]]] = {1: [], 3: []}
    for passes, facts in seen.items():
        fine_tune(
            random_items(20), random_moments(1), replace(config, accumulate=passes), start_from=None,
            checkpoint=tmp_path, progress=facts.append,
        )  # fmt: skip

    assert len(seen[3]) == config.epochs * -(-len(seen[1]) // config.epochs // 3)
    assert seen[3][0]["gradient_norm"] < 1.2 * max(f["gradient_norm"] for f in seen[1])
    assert seen[3][-1]["loss"] < seen[3][0]["loss"]


@pytest.mark.parametrize("tune", ["frozen", "top:1", "adalora", "full"])
def test_an_interrupted_fit_ends_as_the_uninterrupted(
    config: InterestConfig, random_items, random_moments, tmp_path: Path, tune: str
) -> None:
    config = replace(config, tune=tune)
    items, moments = random_items(20), random_moments(2)
    whole = fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path / "a")
    steps: list[float] = []

    def die(facts: dict[str, float]) -> None:
        if facts["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path / "b", progress=die)
    assert list((tmp_path / "b").glob("*.safetensors"))
    resumed = fine_tune(
        items,
        moments,
        config,
        start_from=None,
        checkpoint=tmp_path / "b",
        progress=lambda facts: steps.append(facts["epoch"]),
    )

    assert min(steps) == 2
    assert list((tmp_path / "b").glob("*.safetensors")), (
        "a kill before the version is saved must not lose the fit"
    )
    assert np.allclose(score(resumed, items, moments), score(whole, items, moments), atol=1e-5)
    assert [h["loss"] for h in resumed.history] == pytest.approx([h["loss"] for h in whole.history], abs=1e-4)


_KILLED = """
import sys
from pathlib import Path
import numpy as np
from models.interest import checkpoint
from models.interest.config import InterestConfig
from models.interest.fit import fine_tune
sys.path.insert(0, sys.argv[1])
import conftest
checkpoint._EVERY_SECONDS = 0.0
config = InterestConfig.from_dict(eval(sys.argv[2]))
def tell(facts):
    if facts["epoch"] == 2 and facts["step"] % 2:
        print("mid-epoch", flush=True)
        sys.stdin.read()
fine_tune(conftest._random_items(20), conftest._random_moments(2), config, start_from=None,
          checkpoint=Path(sys.argv[3]), progress=tell)
"""


def test_a_fit_killed_in_the_middle_of_an_epoch_ends_as_the_uninterrupted(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    items, moments = random_items(20), random_moments(2)
    whole = fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path / "a")
    arguments = [str(Path(__file__).parent), repr(config.as_dict()), str(tmp_path / "b")]
    steps: list[float] = []

    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "mid-epoch\n"
        process.send_signal(signal.SIGKILL)
    resumed = fine_tune(
        items,
        moments,
        config,
        start_from=None,
        checkpoint=tmp_path / "b",
        progress=lambda facts: steps.append(facts["step"]),
    )

    per_epoch = steps[-1] / config.epochs
    assert per_epoch + 1 < steps[0] <= 2 * per_epoch
    assert np.allclose(score(resumed, items, moments), score(whole, items, moments), atol=1e-5)


def test_a_checkpoint_of_another_fit_is_not_used(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    items = random_items(20)

    def die(facts: dict[str, float]) -> None:
        if facts["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        fine_tune(items, random_moments(3), config, start_from=None, checkpoint=tmp_path, progress=die)
    steps: list[float] = []
    fine_tune(
        items,
        random_moments(4),
        config,
        start_from=None,
        checkpoint=tmp_path,
        progress=lambda facts: steps.append(facts["step"]),
    )

    assert steps[0] == 1


def test_one_seed_gives_one_result_and_leaves_the_callers_random_state(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    items, moments = random_items(20), random_moments(5)
    torch.manual_seed(9)
    before = torch.random.get_rng_state()

    first, second = (
        score(fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path / run), items, moments)
        for run in ("a", "b")
    )
    other = fine_tune(items, moments, replace(config, seed=2), start_from=None, checkpoint=tmp_path)

    assert np.array_equal(first, second)
    assert not np.allclose(first, score(other, items, moments))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_fit_goes_on_from_a_saved_version(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    items, moments = random_items(20), random_moments(6)
    first = fine_tune(items, moments, replace(config, epochs=8), start_from=None, checkpoint=tmp_path / "c")
    first.save(tmp_path / "v1")

    second = fine_tune(items, moments, config, start_from=tmp_path / "v1", checkpoint=tmp_path / "c")

    assert second.history[0]["loss"] < first.history[0]["loss"] - 0.05
    with pytest.raises(InterestModelError, match="has width 16"):
        fine_tune(
            items, moments, replace(config, width=32), start_from=tmp_path / "v1", checkpoint=tmp_path / "c"
        )


def test_a_fit_is_averaged_with_the_version_it_started_from(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    items, moments = random_items(20), random_moments(6)
    began = fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path / "c")
    began.save(tmp_path / "v1")

    ended, half = (
        fine_tune(
            items,
            moments,
            replace(config, weight_averaging=share),
            start_from=tmp_path / "v1",
            checkpoint=tmp_path / "c",
        ).trained()
        for share in (1.0, 0.5)
    )

    for name, weight in began.trained().items():
        assert torch.allclose(half[name], (weight + ended[name]) / 2, atol=1e-6)
    assert not torch.equal(ended["decoder.user.weight"], half["decoder.user.weight"])


def test_progress_tells_where_the_fit_stands(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    seen: list[dict[str, float]] = []

    fine_tune(
        random_items(20),
        random_moments(7),
        config,
        start_from=None,
        checkpoint=tmp_path,
        progress=seen.append,
    )

    assert [facts["step"] for facts in seen] == list(range(1, int(seen[0]["steps"]) + 1))
    assert {"epoch", "loss", "texts_per_second", "impressions_per_second"} <= seen[0].keys()


def test_nothing_to_learn_from_leaves_the_model_as_it_began(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
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

    model = fine_tune(random_items(20), nothing, config, start_from=None, checkpoint=tmp_path)

    assert np.isfinite(score(model, random_items(20), moments)).all()
    assert len(score(model, random_items(20), nothing)) == 0
