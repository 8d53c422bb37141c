from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from features.catalogue import as_markdown, catalogue, features
from features.config.project import load
from features.errors import ProjectError

PROJECTS = Path(__file__).parents[3] / "projects"
FAMILIES = {"item", "attribute", "user", "session", "affinity", "pair", "text", "context", "list"}


@pytest.mark.parametrize("name", ["newsroom", "ranklens"])
def test_every_column_has_one_name_a_family_and_a_meaning(name: str) -> None:
    found = catalogue(load(PROJECTS / f"{name}.toml").behaviour)

    assert found["name"].is_unique().all()
    assert set(found["family"]) == FAMILIES
    assert (found["meaning"].str.len_chars() > 5).all()
    assert found.height >= 80


def test_column_names_have_grain_quantity_and_half_life(toy: SimpleNamespace) -> None:
    names = set(catalogue(toy.project().behaviour)["name"])

    assert names >= {"item_ctr_1h", "user_clicks_all", "user_category_ctr_1h", "pair_clicks", "text_taste"}


def test_relative_forms_follow_and_keep_the_family(toy: SimpleNamespace) -> None:
    declared = features(toy.project().behaviour)

    found = catalogue(toy.project().behaviour)

    compared = [f.name for f in declared if f.compared]
    assert found["name"].to_list() == [f.name for f in declared] + [f"{name}_z" for name in compared]
    family = dict(found.select("name", "family").iter_rows())
    assert family["item_ctr_1h_z"] == "item"
    assert "user_ctr_1h_z" not in family  # the same for every candidate of a list


def test_a_feature_has_each_relative_form_that_is_declared(toy: SimpleNamespace) -> None:
    names = set(catalogue(toy.project(features={"relative": ("rank", "share", "best")}).behaviour)["name"])

    assert {"item_length_rank", "item_length_share", "item_length_best"} <= names
    assert not [name for name in names if name.endswith("_z")]


@pytest.mark.parametrize(
    ("ending", "source"),
    [
        ("ctr_all", "Wang et al. 2011"),
        ("coec_all", "Zhang & Jones 2007"),
        ("trend", "Appel 1979"),
        ("entropy", "Shannon 1948"),
        ("lift_all", "Brin et al. 1997"),
        ("variety", "Ziegler et al. 2005"),
        ("pair_exposures", "Agarwal et al. 2009"),
        ("text_taste", "Rocchio 1971"),
        ("text_clicked_mean_z", "Pazzani & Billsus 2007"),
        ("dwell_mean_all", "Yi et al. 2014"),
    ],
)
def test_features_cite_their_source(toy: SimpleNamespace, ending: str, source: str) -> None:
    found = catalogue(
        toy.project(features={"valued": ("dwell",)}, context={"categorical": ("surface",)}).behaviour
    )

    used = found.filter(pl.col("name").str.ends_with(ending))

    assert used.height >= 1
    assert used.filter(~pl.col("source").str.contains(source, literal=True))["name"].to_list() == []


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (("item_length",), ["item_length"]),
        (("item_length*",), ["item_length", "item_length_z"]),
        (("*", "!*_z", "!*_1h"), None),
        (("!item_length", "item_length*"), ["item_length", "item_length_z"]),
        (("item_length*", "!*_z", "item_length_z"), ["item_length", "item_length_z"]),
        (("hour", "item_length", "!item_length"), ["hour"]),
    ],
)
def test_the_last_matching_pattern_decides(
    toy: SimpleNamespace, select: tuple[str, ...], expected: list[str] | None
) -> None:
    every = catalogue(toy.project().behaviour)["name"].to_list()

    found = catalogue(toy.project(features={"select": select}).behaviour)["name"].to_list()

    assert found == (expected or [name for name in every if not name.endswith(("_z", "_1h"))])
    assert found == [name for name in every if name in found]


@pytest.mark.parametrize("pattern", ["item_lenght", "!item_lenght"])
def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_name(
    toy: SimpleNamespace, pattern: str
) -> None:
    project = toy.project(features={"select": ("*", pattern)})

    with pytest.raises(
        ProjectError, match=r"no feature is called 'item_lenght'; the nearest is 'item_length'"
    ):
        catalogue(project.behaviour)


@pytest.mark.parametrize(
    "items",
    [
        {"numeric": ("ctr_all",)},
        {"numeric": ("trend",)},
        {"numeric": ("length", "length_z")},
        {"numeric": ("category_count",), "categorical": ("category",)},
        {"numeric": ("hours_ctr_all",), "categorical": ("hours",)},
    ],
)
def test_a_declared_name_that_clashes_with_a_built_in_feature_is_refused(
    toy: SimpleNamespace, items: dict[str, tuple[str, ...]]
) -> None:
    with pytest.raises(ProjectError, match="several features would be called"):
        catalogue(toy.project(items={"categorical": (), **items}).behaviour)


def test_declared_kinds_numbers_and_attributes_are_features(toy: SimpleNamespace) -> None:
    names = set(catalogue(toy.project().behaviour)["name"])
    bare = set(catalogue(toy.project(items={"numeric": (), "categorical": ()}).behaviour)["name"])

    assert {"item_comments_all", "item_length", "item_length_z", "item_tags_ctr_all"} <= names
    assert not [name for name in bare if "tags" in name or "length" in name]


def test_the_documented_catalogue_is_current() -> None:
    root = PROJECTS.parent
    expected = as_markdown("newsroom", load(root / "projects" / "newsroom.toml").behaviour)

    assert (root / "docs" / "features.md").read_text(encoding="utf-8") == expected, (
        "docs/features.md is out of date: run python -m features projects/newsroom.toml > docs/features.md"
    )
