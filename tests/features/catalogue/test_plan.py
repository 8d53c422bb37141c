"""Compiled plans against the same terms computed in plain Python."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from features.behaviour import plan_of, read_features
from features.catalogue import catalogue
from features.catalogue.plan import compile_plan
from features.catalogue.programs import evaluate
from features.catalogue.term import Feature, Term, read, term
from features.state import SliceEvents, start

SIZE, AGE = read("list", "size"), read("version", "number", "length")
LISTS = {"size": [2.0, 3.0]}
ROWS = [1.0, -2.0, 0.0, 4.0, math.nan]
OF = [0, 0, 1, 1, 1]


def evaluate_term(value: Term) -> list[float]:
    """Evaluate a term for five candidates in two lists with the kernel."""
    plan = compile_plan([Feature("x", "item", "", value)], (), ["x"])
    by_list = np.zeros((len(plan.by_list), 2))
    for n, leaf in enumerate(plan.by_list):
        by_list[n] = LISTS.get(leaf.name, [0.0, 0.0])
    rows = np.array([ROWS for _ in plan.by_candidate]).reshape(-1, 5)
    out = np.empty((1, 5))
    start, missing = np.array([0, 2, 5]), np.zeros(1, bool)
    evaluate(
        plan.list_program,
        plan.program,
        by_list,
        rows,
        start,
        0,
        start.size - 1,
        plan.outputs,
        out,
        0,
        missing,
    )
    assert missing[0] == np.isnan(out).any()
    return [float(number) for number in out[0]]


@pytest.mark.parametrize(
    ("value", "by_definition"),
    [
        (AGE + SIZE, lambda x, size: x + size),
        (AGE - 1.5, lambda x, _: x - 1.5),
        (AGE * SIZE, lambda x, size: x * size),
        (SIZE / AGE, lambda x, size: size / x if x else math.nan),
        (AGE.at_least(1.0), lambda x, _: x if math.isnan(x) else max(x, 1.0)),
        (SIZE.where_positive(AGE), lambda x, size: size if x > 0 else math.nan),
        (AGE.log(), lambda x, _: math.log(x) if x > 0 else math.nan),
        (AGE.abs(), lambda x, _: abs(x)),
        (AGE.is_positive(), lambda x, _: float(x > 0)),
        (AGE.less(AGE * (1 + 1e-9)), lambda x, _: x * 0.0),
        (AGE.less(term(1.0)), lambda x, _: x - 1.0),
        (SIZE * SIZE, lambda _, size: size * size),
        (term(7.0), lambda *_: 7.0),
    ],
)
def test_terms_follow_their_arithmetic(value: Term, by_definition: object) -> None:
    expected = [by_definition(x, LISTS["size"][n]) for x, n in zip(ROWS, OF, strict=True)]  # type: ignore[operator]

    assert evaluate_term(value) == pytest.approx(expected, nan_ok=True)


def test_a_sum_is_over_the_list_without_missing_values() -> None:
    assert evaluate_term(AGE.sum()) == [-1.0, -1.0, 4.0, 4.0, 4.0]


def test_many_lists_are_evaluated_in_blocks() -> None:
    plan = compile_plan([Feature("x", "item", "", AGE + SIZE, compared=True)], ("z",), ["x", "x_z"])
    sizes = np.random.default_rng(2).integers(1, 900, 40)
    first = np.concatenate([[0], np.cumsum(sizes)])
    values = np.random.default_rng(3).normal(size=(1, first[-1]))
    by_list = np.array([sizes if leaf.name == "size" else 0 * sizes for leaf in plan.by_list], float)
    out = np.empty((2, first[-1]))

    evaluate(
        plan.list_program,
        plan.program,
        by_list,
        values,
        first,
        0,
        len(sizes),
        plan.outputs,
        out,
        0,
        np.zeros(len(out), bool),
    )

    for n, size in enumerate(sizes):
        mine = values[0, first[n] : first[n + 1]] + size
        z = (mine - mine.mean()) / mine.std() if size > 1 else mine * 0
        np.testing.assert_allclose(out[0, first[n] : first[n + 1]], mine)
        np.testing.assert_allclose(out[1, first[n] : first[n + 1]], z, atol=1e-9)


def test_shared_terms_are_computed_once() -> None:
    both = [Feature("x", "item", "", AGE + 1.0), Feature("y", "item", "", (AGE + 1.0) * 2.0)]

    plan = compile_plan(both, (), ["x", "y"])

    assert plan.by_candidate == (AGE.leaf,)
    assert len(plan.program.instructions) == 2


def test_terms_shared_by_a_list_are_computed_once_per_list() -> None:
    plan = compile_plan([Feature("x", "item", "", (SIZE + 1.0) * SIZE)], (), ["x"])

    assert len(plan.list_program.instructions) == 2
    assert len(plan.program.instructions) == 1


def test_a_plan_is_compiled_once_per_project(toy: SimpleNamespace) -> None:
    assert plan_of(toy.project().behaviour) is plan_of(toy.project().behaviour)
    assert plan_of(toy.project().behaviour) is not plan_of(
        toy.project(features={"prior_strength": 5.0}).behaviour
    )


def test_names_of_attributes_and_numbers_hold_any_character(toy: SimpleNamespace) -> None:
    project = toy.project(
        items={"categorical": ("og:type", "a b"), "numeric": ("og:price",)},
        context={"categorical": ("utm:source",)},
    )
    items = toy.items(
        (
            "a",
            toy.START,
            "t",
            None,
            None,
            [{"name": "og:type", "value": "video:x"}],
            [{"name": "og:price", "value": 2.5}],
        ),
    )
    lists = toy.impressions(("r", "u", toy.at(5), ["a", "b"]), ("s", "u", toy.at(9), ["a", "b"]))
    clicks = toy.interactions(("u", "a", "click", toy.at(6)))

    table = read_features(
        start(project.slices.start, project.behaviour), SliceEvents(items, lists, clicks), toy.vectors(items)
    )

    assert table.columns[2:] == catalogue(project.behaviour)["name"].to_list()
    second = table.filter(impression_id="s")
    assert second["user_og:type_clicks_all"].to_list() == [1.0, 0.0]
    assert second["item_og:price"].to_list() == [2.5, None]
