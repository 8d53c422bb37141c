from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from features.behaviour import advance
from features.schemas import Impressions
from features.state import MomentState, SliceEvents, start
from models.candidate_pool import draw


@pytest.fixture
def state(toy: SimpleNamespace) -> MomentState:
    """`old` is popular, `new` is new, `near` has the text of `liked`, which `u` clicked; the others are plain."""
    project = toy.project()
    names = ["liked", "near", "old", "new", *(f"plain{n}" for n in range(4))]
    texts = {"liked": "text 0", "near": "text 0", "new": "text 4"}
    events = SliceEvents(
        toy.items(
            *(
                toy.item(
                    name,
                    toy.at(50 if name == "new" else 10),
                    texts.get(name, "text 1"),
                    published_at=toy.START if name == "near" else None,
                )
                for name in names
            )
        ),
        toy.impressions(*((f"r{n}", f"v{n}", toy.at(60 + n), ["old", "plain0"]) for n in range(3))),
        toy.interactions(
            ("u", "liked", "click", toy.at(61)),
            *((f"v{n}", "old", "click", toy.at(62 + n)) for n in range(3)),
        ),
    )
    return advance(start(project.slices.start, project.behaviour), events, toy.at(90))


def drawn(
    state: MomentState, toy: SimpleNamespace, pool: int, users: tuple[str, ...] = ("u", "w")
) -> dict[str, list[str]]:
    frame = draw(state, users, toy.vectors(state.items), pool, state.at)
    Impressions.validate(frame)
    return {row["user_id"]: [c["item_id"] for c in row["candidates"]] for row in frame.iter_rows(named=True)}


def test_a_pool_holds_the_newest_the_most_clicked_and_the_most_similar(
    toy: SimpleNamespace, state: MomentState
) -> None:
    assert drawn(state, toy, 3) == {"u": ["near", "new", "old"], "w": ["new", "old"]}


@pytest.mark.parametrize("pool", [1, 2, 4, 5, 7, 100])
def test_a_pool_is_never_larger_than_configured(toy: SimpleNamespace, state: MomentState, pool: int) -> None:
    pools = drawn(state, toy, pool)

    assert all(1 <= len(set(items)) == len(items) <= pool for items in pools.values())


def test_items_that_a_user_clicked_are_left_out_for_that_user(
    toy: SimpleNamespace, state: MomentState
) -> None:
    pools = drawn(state, toy, 100)

    assert "liked" not in pools["u"]
    assert "liked" in pools["w"]
    assert len(pools["w"]) == state.items.height


def test_a_request_is_an_impression_at_the_given_instant(toy: SimpleNamespace, state: MomentState) -> None:
    frame = draw(state, ["w"], toy.vectors(state.items), 100, toy.at(100))

    assert frame.select("impression_id", "user_id", "shown_at").rows() == [("request:w", "w", toy.at(100))]
    assert [c["position"] for c in frame["candidates"][0]] == list(range(1, 9))


def test_no_users_give_no_requests(toy: SimpleNamespace, state: MomentState) -> None:
    assert drawn(state, toy, 10, users=()) == {}


def test_the_order_of_users_and_vectors_does_not_matter(toy: SimpleNamespace, state: MomentState) -> None:
    def pools(users: list[str], vectors: pl.DataFrame) -> pl.DataFrame:
        return draw(state, users, vectors, 5, state.at)

    vectors = toy.vectors(state.items)

    assert pools(["u", "w"], vectors).equals(pools(["w", "u"], vectors.reverse()))


def test_missing_vectors_or_items_reduce_the_pool(toy: SimpleNamespace, state: MomentState) -> None:
    nothing: Any = toy.vectors(toy.items())

    assert draw(state, ["u"], nothing, 10, state.at).height == 1
    nobody = start(toy.START, toy.project().behaviour)
    assert draw(nobody, ["u"], nothing, 10, toy.START).is_empty()
