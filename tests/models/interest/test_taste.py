import pytest
import torch

from models.interest.taste import Taste

ACTIONS = ("skipped", "click", "share")


@pytest.fixture
def taste() -> Taste:
    torch.manual_seed(1)
    return Taste(ACTIONS, text_width=8)


def evidence(taste: Taste, candidate: int, past: list[tuple[int, str, float]]) -> float:
    """Taste for one of three unlike texts after (text, action, seconds ago)."""
    places = taste.place(torch.eye(8)[:3] * 4.0, torch.zeros(3, 1, dtype=torch.long))
    with torch.no_grad():
        result = taste(
            places[[candidate]][None],
            places[[text for text, _, _ in past]][None],
            torch.tensor([[ACTIONS.index(action) for _, action, _ in past]], dtype=torch.long),
            torch.ones(1, 1, len(past), dtype=torch.bool),
            torch.tensor([[[seconds for _, _, seconds in past]]]).log1p().view(1, 1, len(past)),
        )
    return float(result)


def test_no_past_is_no_evidence(taste: Taste) -> None:
    assert evidence(taste, 0, []) == pytest.approx(0.0, abs=1e-6)


def test_clicks_speak_for_similar_items_and_skips_against(taste: Taste) -> None:
    past = [(0, "click", 60.0), (1, "skipped", 60.0)]

    assert evidence(taste, 0, past) > evidence(taste, 2, past) > evidence(taste, 1, past)


def test_every_action_but_a_skip_speaks_for_an_item(taste: Taste) -> None:
    assert evidence(taste, 0, [(0, "share", 60.0)]) == evidence(taste, 0, [(0, "click", 60.0)]) > 0


def test_evidence_fades(taste: Taste) -> None:
    assert evidence(taste, 0, [(0, "click", 60.0)]) > evidence(taste, 0, [(0, "click", 6e7)]) > 0


def test_shared_attribute_values_are_evidence_whatever_the_texts() -> None:
    torch.manual_seed(1)
    taste = Taste(ACTIONS, text_width=8, attributes=100)
    codes = torch.tensor([[5, 6], [5, 6], [7, 8], [0, 0]])
    places = taste.place(torch.eye(8)[:4] * 4.0, codes)

    with torch.no_grad():
        alike, unlike, unknown = (
            float(
                taste(
                    places[[candidate]][None],
                    places[[0]][None],
                    torch.tensor([[1]]),
                    torch.ones(1, 1, 1, dtype=torch.bool),
                    torch.full((1, 1, 1), 60.0).log1p(),
                )
            )
            for candidate in (1, 2, 3)
        )

    assert alike > unlike + 0.1
    assert alike > unknown
