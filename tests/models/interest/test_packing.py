import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from models.interest.packing import Pack, attend, packs

CPU = torch.device("cpu")
lengths = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(lengths, st.integers(40, 200), st.booleans())
def test_every_text_is_in_one_pack_and_packs_are_equally_full(
    sizes: list[int], tokens: int, padding: bool
) -> None:
    chosen = list(packs(sizes, tokens, padding=padding))

    assert sorted(n for own, _ in chosen for n in own) == list(range(len(sizes)))
    for own, filler in chosen:
        width = -(-max(sizes[n] for n in own) // 8) * 8
        if padding:
            assert len(own) + len(filler) == max(1, tokens // width)
        else:
            assert sum(sizes[n] for n in own) + sum(filler) == tokens
        assert {-(-sizes[n] // 8) * 8 for n in own} == {width}


def test_a_text_longer_than_a_pack_has_one_to_itself() -> None:
    assert list(packs([50, 60], 32)) == [([0], []), ([1], [])]


@given(lengths)
def test_spreading_and_gathering_are_inverse(sizes: list[int]) -> None:
    pack = Pack.of(sizes, CPU)
    tokens = torch.randn(sum(sizes), 3)

    assert torch.equal(pack.gather(pack.spread(tokens)), tokens)


@pytest.mark.parametrize("learning", [False, True])
def test_a_text_attends_to_itself_only(learning: bool) -> None:
    sizes = [3, 7, 1]
    query, key, value = torch.randn(3, 1, 2, sum(sizes), 8, requires_grad=learning).unbind(0)

    packed, _ = attend(
        torch.nn.Identity(), query, key, value, None, scaling=8**-0.5, pack=Pack.of(sizes, CPU)
    )

    alone = [
        F.scaled_dot_product_attention(*parts)
        for parts in zip(*(part.split(sizes, dim=2) for part in (query, key, value)), strict=True)
    ]
    assert torch.allclose(packed, torch.cat(alone, dim=2).transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("sizes", [[4], [1, 5, 2]])
def test_the_mean_is_over_a_texts_own_tokens(sizes: list[int]) -> None:
    hidden = torch.randn(sum(sizes), 6)

    vectors = Pack.of(sizes, CPU).pool(hidden, "mean")

    expected = torch.stack([F.normalize(part.mean(0), dim=0) for part in hidden.split(sizes)])
    assert torch.allclose(vectors, expected, atol=1e-6)
