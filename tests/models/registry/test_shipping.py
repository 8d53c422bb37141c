"""A version ships its own code, so it works in an application with packages named like this project's."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from models.interest.config import InterestConfig
from models.interest.serving import ServedInterest, example
from models.interest.version import InterestModel
from models.ranker.served_ranker import ServedRanker
from models.registry import shipping


@pytest.fixture
def change_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str, str], None]:
    """Replace a text in the `serving.py` that the next version of a kind ships."""

    def changed(kind: str, old: str, new: str) -> None:
        source = shipping._SOURCES[kind]
        copy = tmp_path / "changed" / source.name
        if source.is_file():
            copy.parent.mkdir()
            shutil.copy(source, copy)
        else:
            shutil.copytree(source, copy)
        file = copy if copy.is_file() else copy / "serving.py"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
        monkeypatch.setitem(shipping._SOURCES, kind, copy)

    return changed


def test_two_ranker_versions_with_different_code_work_in_one_application(
    registry, register, ranker, example, application, change_code, tmp_path
):
    register("2026-01-05")
    change_code("ranker", '"rank_score": score}', '"rank_score": -score}')
    register("2026-01-06")
    rows = example.head(20)

    first, second = application.predict(
        registry, rows.to_dicts(), "models:/newsroom-ranker/1", "models:/newsroom-ranker/2"
    )

    ranker.save(tmp_path / "ranker")
    expected = ServedRanker(tmp_path / "ranker").predict(rows.to_pandas())
    assert first["rank"] == second["rank"] == expected["rank"].to_list()
    assert first["rank_score"] == pytest.approx(expected["rank_score"].to_list())
    assert second["rank_score"] == pytest.approx((-expected["rank_score"]).to_list())


def test_two_interest_versions_with_different_code_work_in_one_application(
    registry, application, change_code, tmp_path
):
    model = InterestModel(
        InterestConfig(tune="top:1", width=8, heads=2, layers=1, max_tokens=12, device="cpu")
    )
    model.save(tmp_path / "version")
    requests = example(model.config)
    for slice in ("2026-01-05", "2026-01-06"):
        registry.register_interest(tmp_path / "version", slice, "run-1", {}, {}, {}, requests)
        if slice == "2026-01-05":
            change_code("interest", "scores[a:b].astype", "(-scores[a:b]).astype")

    first, second = application.predict(
        registry, requests, "models:/newsroom-interest/1", "models:/newsroom-interest/2"
    )

    expected = ServedInterest(model).predict(pandas.DataFrame(requests))
    assert [len(scores) for scores in first] == [2, 1]
    for ours, one, other in zip(expected, first, second, strict=True):
        assert one == pytest.approx(ours, abs=1e-6)
        assert other == pytest.approx([-score for score in ours], abs=1e-6)


@pytest.mark.parametrize("kind", ["ranker", "interest"])
def test_the_name_of_shipped_code_depends_on_the_code(kind, change_code):
    with shipping.shipped(kind) as first, shipping.shipped(kind) as again:
        assert first.module == again.module
        assert first.code.exists()
        change_code(kind, "nothing is pickled", "no pickles")
        with shipping.shipped(kind) as changed:
            assert changed.module != first.module
