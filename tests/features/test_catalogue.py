from pathlib import Path
from types import SimpleNamespace

import pytest

from features.catalogue import as_markdown, catalogue, features
from features.project import load

PROJECTS = Path(__file__).parents[2] / "projects"
FAMILIES = {"item", "attribute", "user", "affinity", "pair", "text", "context"}


@pytest.mark.parametrize("name", ["newsroom", "ranklens"])
def test_every_column_has_one_name_a_family_and_a_meaning(name: str) -> None:
    found = catalogue(load(PROJECTS / f"{name}.toml"))

    assert found["name"].is_unique().all()
    assert set(found["family"]) == FAMILIES
    assert (found["meaning"].str.len_chars() > 5).all()
    assert found.height >= 40


def test_a_column_is_named_by_grain_thing_and_half_life(toy: SimpleNamespace) -> None:
    names = set(catalogue(toy.project())["name"])

    assert names >= {"item_ctr_1h", "user_clicks_all", "user_category_ctr_1h", "pair_clicks", "text_taste"}


def test_relative_forms_follow_and_keep_the_family(toy: SimpleNamespace) -> None:
    declared = features(toy.project())

    found = catalogue(toy.project())

    compared = [f.name for f in declared if f.compared]
    assert found["name"].to_list() == [f.name for f in declared] + [f"{name}_z" for name in compared]
    family = dict(found.select("name", "family").iter_rows())
    assert family["item_ctr_1h_z"] == "item"
    assert "user_ctr_1h_z" not in family  # the same for every candidate of a list


def test_declared_kinds_numbers_and_attributes_are_features(toy: SimpleNamespace) -> None:
    names = set(catalogue(toy.project())["name"])
    bare = set(catalogue(toy.project(items={"numeric": (), "categorical": ()}))["name"])

    assert {"item_comments_all", "item_length", "item_length_z", "item_tags_ctr_all"} <= names
    assert not [name for name in bare if "tags" in name or "length" in name]


def test_the_documented_catalogue_is_current() -> None:
    root = PROJECTS.parent
    expected = as_markdown(load(root / "projects" / "newsroom.toml"))

    assert (root / "docs" / "features.md").read_text(encoding="utf-8") == expected, (
        "docs/features.md is old: python -m features projects/newsroom.toml > docs/features.md"
    )
