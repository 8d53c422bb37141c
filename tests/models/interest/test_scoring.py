from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.interest.config import InterestConfig, InterestModelError
from models.interest.fit import fine_tune
from models.interest.item_arrays import ItemArrays
from models.interest.live_scorer import LiveHistory, LiveScorer
from models.interest.scoring import advance, embed, extend, score, score_live, start
from models.interest.version import InterestModel


@pytest.fixture(scope="module")
def model(narrow_config: InterestConfig, random_items) -> InterestModel:
    """Random weights everywhere, so that no term is silent."""
    model = InterestModel(replace(narrow_config, layers=3))
    torch.manual_seed(4)
    for parameter in model.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    items = random_items(20)
    model.decoder.items.standardise(items.tensors(torch.randn(20, 32)))
    return model


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_live_equals_batch_for_any_split(
    model: InterestModel, random_items, random_moments, seed: int
) -> None:
    items = random_items(20)
    moments = random_moments(seed, users=4, longest=70, impressions=6)
    embedded = embed(model, items)
    live = np.full(len(moments.candidate_item), np.nan)

    for user in range(len(moments.user_start) - 1):
        state, done = start(model), 0
        own = np.flatnonzero(moments.impression_user == user)
        for impression in own[np.argsort(moments.impression_prefix[own], kind="stable")]:
            while done < moments.impression_prefix[impression]:
                token = moments.user_start[user] + done
                state = advance(
                    model,
                    state,
                    embedded[int(moments.history_item[token])],
                    model.config.actions[moments.history_action[token]],
                    float(moments.history_at[token]),
                )
                done += 1
            low, high = moments.impression_start[impression : impression + 2]
            live[low:high] = score_live(
                model,
                state,
                embedded[moments.candidate_item[low:high]],
                float(moments.impression_at[impression]),
            )

    assert np.abs(live - score(model, items, moments)).max() < 1e-4
    assert np.ptp(live) > 0.1


def test_events_at_once_leave_the_state_that_they_leave_one_by_one(
    model: InterestModel, random_items
) -> None:
    items = embed(model, random_items(20))
    actions, at = ["click", "skipped"] * 6, 1.7e9 + np.cumsum(np.arange(12.0) ** 2)
    alone = start(model)
    for n, action in enumerate(actions):
        alone = advance(model, alone, items[n], action, float(at[n]))
    together = extend(model, start(model), items[np.arange(7)], actions[:7], at[:7])
    together = extend(model, together, items[np.arange(7, 12)], actions[7:], at[7:])
    shown = items[np.arange(12, 20)]
    one, other = (score_live(model, state, shown, at[-1] + 60) for state in (alone, together))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_cached_state_does_not_depend_on_unsettled_moments(model: InterestModel, random_items) -> None:
    items, count, shown = random_items(20), 60, np.array([3, 7, 11])
    rows, at = np.arange(count) % 20, 1.7e9 + np.arange(float(count))
    actions = ["click", "skipped"] * (count // 2)
    scorer, settled = LiveScorer(model, items), 40

    def live(length: int) -> np.ndarray:
        history = LiveHistory(
            rows[:length], items.id[rows[:length]], actions[:length], at[:length], settled, since=0.0
        )
        return scorer.score("u", history, shown, items.id[shown], 1.8e9)

    live(count)
    again = live(settled)

    embedded = embed(model, items)
    state = extend(model, start(model), embedded[rows[:settled]], actions[:settled], at[:settled])
    assert np.abs(again - score_live(model, state, embedded[shown], 1.8e9)).max() < 1e-4


def test_a_live_state_stays_as_small_as_the_window(model: InterestModel, random_items) -> None:
    item = embed(model, random_items(20))[0]
    state = start(model)

    for second in range(30):
        state = advance(model, state, item, "click", 1.7e9 + second)

    assert state.keys.shape == (3, 2, 8, 8)
    assert len(state.at) == 8


def test_an_unknown_action_is_refused(model: InterestModel, random_items) -> None:
    with pytest.raises(InterestModelError, match="expected one of skipped, click"):
        advance(model, start(model), embed(model, random_items(20))[0], "purchase", 1.7e9)


def test_scores_do_not_depend_on_the_order_of_impressions(
    model: InterestModel, random_items, random_moments
) -> None:
    moments = random_moments(4, users=8)
    order = np.random.default_rng(1).permutation(len(moments.impression_user))
    sizes = np.diff(moments.impression_start)
    source = np.concatenate(
        [np.arange(moments.impression_start[i], moments.impression_start[i + 1]) for i in order]
    )
    shuffled = replace(
        moments,
        impression_user=moments.impression_user[order],
        impression_prefix=moments.impression_prefix[order],
        impression_at=moments.impression_at[order],
        impression_start=np.concatenate([[0], np.cumsum(sizes[order])]),
        candidate_item=moments.candidate_item[source],
        label=moments.label[source],
    )

    scores = score(model, random_items(20), moments)

    assert np.allclose(score(model, random_items(20), shuffled), scores[source], atol=1e-6)


def test_labels_are_not_looked_at(model: InterestModel, random_items, random_moments) -> None:
    moments = random_moments(5)

    other = replace(moments, label=1 - moments.label)

    assert np.array_equal(score(model, random_items(20), other), score(model, random_items(20), moments))


def test_odd_texts_and_bare_users_are_scored(model: InterestModel, random_moments, tmp_path: Path) -> None:
    texts = ["", "😀🎉", "Привет, мир", "日本語", "word " * 3000, "\ud800", "\x00", "a"] * 3
    odd = replace(ItemArrays.of_texts(texts), number=np.full((len(texts), 2), np.nan, np.float32))
    moments = random_moments(6, users=2, longest=1)
    config = replace(model.config, epochs=1)

    trained = fine_tune(odd, moments, config, start_from=None, checkpoint=tmp_path)

    for fitted in (model, trained):
        scores = score(fitted, odd, moments)
        assert ((scores > 0) & (scores < 1)).all()


def test_a_list_of_one_is_scored_like_any(
    model: InterestModel, random_items, random_moments, only_impression
) -> None:
    moments = random_moments(7)

    scores = score(model, random_items(20), only_impression(moments, 3, [0]))

    assert scores == pytest.approx(
        score(model, random_items(20), moments)[moments.impression_start[[3]]], abs=1e-5
    )


def test_a_saved_version_scores_the_same(
    random_items, random_moments, model: InterestModel, tmp_path: Path
) -> None:
    items, moments = random_items(20), random_moments(8)
    trained = fine_tune(
        items,
        moments,
        replace(model.config, epochs=1, encoder_rate=1e-2),
        start_from=None,
        checkpoint=tmp_path / "c",
    )

    trained.save(tmp_path / "v")
    loaded = InterestModel.load(tmp_path / "v")

    assert np.array_equal(score(loaded, items, moments), score(trained, items, moments))
    assert loaded.config == trained.config
    assert loaded.history == trained.history
    untuned = InterestModel(trained.config).trained()
    assert any(
        not torch.equal(value, untuned[name])
        for name, value in loaded.trained().items()
        if "encoder." in name
    )
    assert (tmp_path / "v" / "tokenizer" / "tokenizer.json").exists()
    assert not list((tmp_path / "v").rglob("*.bin"))


def test_another_base_is_refused(model: InterestModel, other_encoder: str, tmp_path: Path) -> None:
    model.save(tmp_path)

    with pytest.raises(InterestModelError, match="name the same encoder, or fit anew"):
        InterestModel.load(tmp_path, encoder=other_encoder)


def test_a_folder_without_a_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InterestModelError, match="holds no interest model version"):
        InterestModel.load(tmp_path)


def test_a_version_of_another_format_is_refused(model: InterestModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"format": 5', '"format": 1'))

    with pytest.raises(InterestModelError, match="has format 1, this release reads 5: fit anew"):
        InterestModel.load(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is tested is the lack of CUDA")
def test_a_version_fitted_on_cuda_loads_without_it_but_none_is_fitted(
    model: InterestModel, tmp_path: Path
) -> None:
    model.save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"device": "auto"', '"device": "cuda"'))

    assert InterestModel.load(tmp_path).device.type == "cpu"
    with pytest.raises(InterestModelError, match="finds no CUDA device"):
        InterestModel(replace(model.config, device="cuda"))


def test_items_without_any_text_are_scored(model: InterestModel, random_items, random_moments) -> None:
    silent = replace(random_items(20), texts=[""], text=np.zeros(20, dtype=np.int64))

    scores = score(model, silent, random_moments(9))

    assert ((scores > 0) & (scores < 1)).all()
    assert np.ptp(scores) > 0.01
