"""The fast contributions against the truth: scoring anew without each moment of the past."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.interest.config import InterestConfig
from models.interest.explanation import contributions
from models.interest.item_arrays import ItemArrays
from models.interest.moment_arrays import MomentArrays
from models.interest.scoring import embed, score
from models.interest.version import InterestModel


def left_out(model: InterestModel, items: ItemArrays, moments: MomentArrays) -> np.ndarray:
    """[C, H] logit of each candidate minus its logit without the moment; NaN where it does not see it.

    One user, whose lists may each see another prefix.
    """

    def logit(of: MomentArrays) -> np.ndarray:
        probability = score(model, items, of).astype(np.float64)
        return np.log(probability / (1 - probability))

    whole = logit(moments)
    impression = np.repeat(np.arange(len(moments.impression_user)), np.diff(moments.impression_start))
    found = np.full((len(whole), len(moments.history_item)), np.nan)
    for n in range(len(moments.history_item)):
        sees = moments.impression_prefix > n
        without = replace(
            moments,
            history_item=np.delete(moments.history_item, n),
            history_action=np.delete(moments.history_action, n),
            history_at=np.delete(moments.history_at, n),
            user_start=moments.user_start - np.array([0, 1]),
            impression_prefix=moments.impression_prefix - sees,
        )
        found[:, n] = np.where(sees[impression], whole - logit(without), np.nan)
    return found


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    places = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(*places)[0, 1])


@pytest.fixture(scope="module")
def items(random_items) -> ItemArrays:
    return random_items(20)


@pytest.fixture(params=[1, 3], ids=["one layer", "three layers"])
def model(request, narrow_config: InterestConfig, items: ItemArrays) -> InterestModel:
    """Random weights everywhere, so that no term is silent."""
    model = InterestModel(replace(narrow_config, tune="frozen", window=20, layers=request.param))
    torch.manual_seed(4)
    for parameter in model.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    # As in a fresh model: drawn apart they nearly cancel out.
    taste = model.decoder.items.taste
    taste.against.data.copy_(taste.weight)
    model.decoder.items.standardise(embed(model, items))
    return model


def one_user(lists: list[tuple[int, list[int]]], longest: int = 18) -> MomentArrays:
    """Lists (moments seen, candidates) of a user who did something every minute."""
    rng = np.random.default_rng(3)
    at = 1.7e9 + 60.0 * np.arange(longest)
    shown = [candidate for _, candidates in lists for candidate in candidates]
    return MomentArrays(
        history_item=rng.integers(0, 20, size=longest),
        history_action=rng.integers(0, 2, size=longest),
        history_at=at,
        user_start=np.array([0, longest]),
        impression_user=np.zeros(len(lists), dtype=np.int64),
        impression_prefix=np.array([seen for seen, _ in lists]),
        impression_at=np.array([at[seen - 1] + 30.0 if seen else at[0] - 30.0 for seen, _ in lists]),
        impression_start=np.concatenate([[0], np.cumsum([len(candidates) for _, candidates in lists])]),
        candidate_item=np.array(shown),
        label=np.zeros(len(shown), dtype=np.float32),
    )


LISTS = [(18, [0, 1, 2, 3]), (6, [4, 5, 6]), (12, [7, 8]), (0, [9])]


def test_contributions_order_moments_as_leaving_each_out_does(
    model: InterestModel, items: ItemArrays
) -> None:
    moments = one_user(LISTS)
    truth = left_out(model, items, moments)

    found = contributions(model, items, moments, top=18)

    correlations, signs = [], []
    for candidate in range(9):
        seen = int((~np.isnan(truth[candidate])).sum())
        fast = np.zeros(seen)
        fast[found.moment[candidate, :seen]] = found.weight[candidate, :seen]
        correlations.append(rank_correlation(fast, truth[candidate, :seen]))
        strongest = np.abs(truth[candidate, :seen]).argmax()
        signs.append(np.sign(fast[strongest]) == np.sign(truth[candidate, strongest]))
    assert np.mean(correlations) > 0.9
    assert np.mean(signs) > 0.8


def test_only_what_a_candidate_sees_is_named_and_the_greatest_first(
    model: InterestModel, items: ItemArrays
) -> None:
    moments = one_user(LISTS)

    found = contributions(model, items, moments, top=18)

    sees = np.repeat([seen for seen, _ in LISTS], [len(shown) for _, shown in LISTS])
    assert ((found.moment >= 0).sum(axis=1) == sees).all()
    for candidate, count in enumerate(sees):
        assert sorted(found.moment[candidate, :count]) == list(range(count))
        assert (np.diff(found.weight[candidate, :count]) <= 0).all()
    assert (found.weight[found.moment < 0] == 0).all()


def test_fewer_are_the_first_of_all(model: InterestModel, items: ItemArrays) -> None:
    moments = one_user(LISTS)

    few, all_of_them = (contributions(model, items, moments, top=top) for top in (2, 18))

    assert (few.moment == all_of_them.moment[:, :2]).all()


def test_what_lies_beyond_the_window_brings_nothing_to_one_layer(
    tiny_encoder: str, items: ItemArrays
) -> None:
    config = InterestConfig(encoder=tiny_encoder, tune="frozen", max_tokens=12, width=16, window=5, layers=1)
    moments = one_user([(18, [0, 1])])

    found = contributions(InterestModel(config), items, moments, top=18)

    assert ((found.moment >= 0).sum(axis=1) == 5).all()
    assert (found.moment[:, :5] >= 13).all()


def test_nobody_has_no_past(model: InterestModel, items: ItemArrays) -> None:
    found = contributions(model, items, one_user([(0, [1, 2])]), top=3)

    assert found.moment.tolist() == [[-1] * 3] * 2
    assert contributions(model, items, one_user([]), top=3).moment.shape == (0, 3)
