from dataclasses import replace

import numpy as np
import pandas
import pytest

from models.interest.config import InterestConfig, InterestModelError
from models.interest.scoring import embed
from models.interest.serving import ServedInterest, example
from models.interest.version import InterestModel

PAST = [
    {"text": "river stone", "action": "click", "at": 10.0},
    {"text": "market garden", "action": "skipped", "at": 20.0},
    {"text": "winter harbour", "action": "click", "at": 30.0},
]


@pytest.fixture(scope="module")
def served(narrow_config: InterestConfig, random_items) -> ServedInterest:
    model = InterestModel(replace(narrow_config, tune="frozen", numbers=("price",)))
    items = replace(random_items(20), number=np.ones((20, 1), dtype=np.float32))
    model.decoder.items.standardise(embed(model, items))
    return ServedInterest(model)


def ask(served: ServedInterest, *rows: dict[str, object]) -> list[list[float]]:
    return served.predict(pandas.DataFrame(list(rows)))


def row(history: list[dict[str, object]], at: float | None = None) -> dict[str, object]:
    return {"history": history, "candidates": ["cloud engine", "river stone"], "at": at}


def test_rows_are_answered_one_by_one(served: ServedInterest) -> None:
    rows = [row(PAST, 40.0), row([]), {**row(PAST[:1], 40.0), "candidates": []}]

    found = ask(served, *rows)

    assert [len(scores) for scores in found] == [2, 2, 0]
    assert all(0 < score < 1 for scores in found for score in scores)
    for request, scores in zip(rows, found, strict=True):
        assert ask(served, request)[0] == pytest.approx(scores, abs=1e-5)
    assert found[0] != pytest.approx(found[1], abs=1e-4)


def test_only_what_came_strictly_before_is_looked_at(served: ServedInterest) -> None:
    early, cut = ask(served, row(PAST, 30.0), row(PAST[:2], 30.0))

    assert early == pytest.approx(cut, abs=1e-6)
    assert ask(served, row(PAST, 30.1))[0] != pytest.approx(early, abs=1e-5)


def test_the_order_of_a_history_is_that_of_its_instants(served: ServedInterest) -> None:
    assert ask(served, row(PAST[::-1], 40.0)) == ask(served, row(PAST, 40.0))


def test_without_an_instant_it_is_the_moment_after_the_history(served: ServedInterest) -> None:
    unsaid, said = ask(served, row(PAST), row(PAST, 30.000001))

    assert unsaid == pytest.approx(said, abs=1e-5)
    without_column = served.predict(pandas.DataFrame([row(PAST)]).drop(columns="at"))
    assert without_column[0] == pytest.approx(unsaid, abs=1e-6)


def test_an_undeclared_action_is_refused(served: ServedInterest) -> None:
    with pytest.raises(InterestModelError, match="expected one of skipped, click"):
        ask(served, row([{"text": "a", "action": "purchase", "at": 1.0}]))


def test_the_example_is_answered(served: ServedInterest) -> None:
    rows = example(InterestConfig())

    assert [len(scores) for scores in ask(served, *rows)] == [len(one["candidates"]) for one in rows]
