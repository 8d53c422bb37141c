from dataclasses import replace

import numpy as np
import pytest
import torch

from models.interest.config import InterestConfig, InterestModelError
from models.interest.moment_arrays import collate, gaps, segments
from models.interest.network import MomentDecoder, list_loss
from models.interest.scoring import embed, score
from models.interest.version import InterestModel

CONFIG = InterestConfig(width=16, heads=2, layers=2, window=8, numbers=("price", "length"))


@pytest.fixture(scope="module")
def decoder(random_items) -> MomentDecoder:
    """Random weights everywhere, so that no term is silent."""
    torch.manual_seed(3)
    network = MomentDecoder(CONFIG, text_width=12).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    network.embedded = random_items(20).tensors(torch.nn.functional.normalize(torch.randn(20, 12), dim=1))
    network.items.standardise(network.embedded)
    return network


def logits(decoder: MomentDecoder, moments, config: InterestConfig = CONFIG) -> np.ndarray:
    result = np.full(len(moments.candidate_item), np.nan)
    with torch.no_grad():
        batch = collate(moments, segments(moments, config), gaps(moments), config)
        result[batch.candidate] = decoder(batch, decoder.items(decoder.embedded))
    return result


def test_candidates_do_not_see_each_other(decoder: MomentDecoder, random_moments, only_impression) -> None:
    moments = random_moments(1)
    sizes = np.diff(moments.impression_start)
    number = int(sizes.argmax())
    low = moments.impression_start[number]
    whole = logits(decoder, moments)[low : low + sizes[number]]

    backwards = logits(decoder, only_impression(moments, number, list(range(sizes[number]))[::-1]))
    alone = [logits(decoder, only_impression(moments, number, [c]))[0] for c in range(sizes[number])]

    assert np.allclose(backwards[::-1], whole, atol=1e-5)
    assert np.allclose(alone, whole, atol=1e-5)


def test_the_future_changes_no_score(decoder: MomentDecoder, random_moments) -> None:
    moments = random_moments(2)
    last = np.zeros(len(moments.user_start) - 1, dtype=int)
    np.maximum.at(last, moments.impression_user, moments.impression_prefix)
    place = np.arange(len(moments.history_item))
    owner = np.searchsorted(moments.user_start, place, side="right") - 1
    unseen = place - moments.user_start[owner] >= last[owner]
    assert unseen.any()

    changed = replace(moments, history_item=np.where(unseen, 19 - moments.history_item, moments.history_item))

    assert np.array_equal(logits(decoder, changed), logits(decoder, moments))


def test_a_later_token_changes_only_the_impressions_that_see_it(decoder, random_moments) -> None:
    moments = random_moments(3, users=2, impressions=12)
    item = moments.history_item.copy()
    item[20] = (item[20] + 1) % 20
    sees = np.repeat(
        (moments.impression_user == 1) & (moments.impression_prefix > 20), np.diff(moments.impression_start)
    )
    assert sees.any()
    assert not sees.all()

    moved = logits(decoder, replace(moments, history_item=item)) != logits(decoder, moments)

    assert not moved[~sees].any()


def test_history_matters(decoder: MomentDecoder, random_moments) -> None:
    moments = random_moments(4)

    changed = replace(moments, history_action=1 - moments.history_action)

    assert np.abs(logits(decoder, changed) - logits(decoder, moments)).max() > 1e-3


def test_cutting_a_history_at_its_reach_changes_no_score(decoder: MomentDecoder, random_moments) -> None:
    moments = random_moments(5, longest=200)
    uncut = replace(CONFIG, layers=1_000)
    assert sum(s.stop - s.start for s in segments(moments, CONFIG)) < len(moments.history_item) * 2

    assert np.allclose(logits(decoder, moments), logits(decoder, moments, uncut), atol=1e-5)


def test_every_impression_is_in_one_segment(random_moments) -> None:
    moments = random_moments(6, users=9, impressions=30, longest=300)

    members = np.concatenate([s.impressions for s in segments(moments, CONFIG)])

    assert sorted(members) == list(range(len(moments.impression_user)))


def test_list_loss_is_the_formula() -> None:
    values = torch.tensor([1.0, -1.0, 0.5, 2.0, 0.0])
    labels = torch.tensor([0.0, 2.0, 1.0, 0.0, 0.0])
    share = values[:3].log_softmax(0)
    order = -(2 / 3 * share[1] + 1 / 3 * share[2])
    calibration = torch.nn.functional.binary_cross_entropy_with_logits(values, (labels > 0).float())

    assert torch.allclose(list_loss(values, labels, torch.tensor([3, 2])), order + calibration)
    assert torch.isfinite(list_loss(values, torch.zeros(5), torch.tensor([3, 2])))


@pytest.mark.parametrize(
    ("field", "change", "sentence"),
    [
        ("candidate_item", lambda a: a + 99, "outside the items"),
        ("history_action", lambda a: a + 2, "outside the vocabulary"),
        ("impression_prefix", lambda a: a + 999, "more history"),
        ("impression_user", lambda a: a + 999, "user is unknown"),
        ("label", lambda a: a[1:], "candidate arrays differ"),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(random_moments, field, change, sentence) -> None:
    moments = random_moments(7)

    with pytest.raises(InterestModelError, match=sentence):
        replace(moments, **{field: change(getattr(moments, field))}).check(items=20, actions=2)


@pytest.mark.parametrize("wrong", [{"tune": "most"}, {"width": 10, "heads": 4}, {"actions": ()}])
def test_a_wrong_configuration_is_refused(wrong) -> None:
    with pytest.raises(InterestModelError):
        InterestConfig(**wrong)


def test_a_fresh_model_predicts_the_click_rate_and_ranks_by_similar_clicked_items(
    checkerboard, area_under_curve
) -> None:
    items, moments = checkerboard(2)
    model = InterestModel(InterestConfig(tune="frozen", max_tokens=8, layers=1, window=32, device="cpu"))
    model.decoder.setup(embed(model, items), click_rate=0.05)

    found = score(model, items, moments)
    known = np.repeat(moments.impression_prefix > 0, np.diff(moments.impression_start))

    assert np.allclose(found[~known], 0.05, atol=1e-5)
    assert area_under_curve(moments.label[known], found[known]) > 0.9
