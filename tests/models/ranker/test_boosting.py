import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.config.sections import Labels
from features.config.sections import Ranker as Settings
from features.errors import ModelError, TableError
from models.evaluation.evaluate import calibration, calibration_error, difference, evaluate
from models.ranker import Ranker, fit, load

COLUMNS = ("item_ctr_1d", "user_category_ctr_7d", "pair_seen", "interest_score")
LABELS = Labels(gains={"click": 1.0, "share": 3.0})
SETTINGS = Settings(
    num_iterations=60, early_stopping_round=15, num_leaves=7, min_data_in_leaf=10, learning_rate=0.1
)


def _dataset(impressions: int = 300, seed: int = 0, bias: float = 0.0, slices: int = 3) -> pl.DataFrame:
    """Impressions of ten candidates whose graded labels depend on ctr and interest only."""
    random = np.random.default_rng(seed)
    count = impressions * 10
    values = random.normal(size=(count, 4)).astype(np.float32)
    position = np.tile(np.arange(1, 11), impressions)
    taste = values[:, 0] + 1.5 * values[:, 3]
    chance = 1 / (1 + np.exp(2 - 1.5 * taste + bias * position))
    clicked = random.random(count) < chance
    shared = clicked & (random.random(count) < 0.3)
    start = datetime(2026, 1, 5, tzinfo=UTC)
    order = np.arange(count) // 10
    return pl.DataFrame(values, list(COLUMNS)).with_columns(
        pl.Series("slice", [f"2026-01-{5 + n * slices // impressions:02}" for n in order]),
        pl.Series("impression_id", [f"s{seed}i{n:04}" for n in order]),
        pl.Series("item_id", [f"item{n}" for n in random.integers(0, 10**9, count)]),
        pl.Series("as_of", [start + timedelta(minutes=int(n)) for n in order]),
        pl.Series("position", position, dtype=pl.Int32),
        pl.Series("label", clicked + 2.0 * shared),
        pl.Series("taste", taste),
    )


@pytest.fixture(scope="module")
def fitted() -> Ranker:
    return fit(_dataset(), COLUMNS, SETTINGS, LABELS, seed=1)


def test_it_learns_the_planted_rule(fitted: Ranker) -> None:
    shuffled = _dataset().with_columns(pl.col("label").shuffle(seed=1).over("impression_id"))
    noise = fit(shuffled, COLUMNS, SETTINGS, LABELS, seed=1)
    world = _dataset(seed=9)
    means = evaluate(
        world.with_columns(full=fitted.score(world), noise=noise.score(world)), ["full", "noise", "taste"]
    )
    full, chance, best = (
        means.as_json()["scorers"][scorer]["ndcg@10"] for scorer in ("full", "noise", "taste")
    )
    assert full["low"] > chance["high"]
    assert full["mean"] > chance["mean"] + 0.9 * (best["mean"] - chance["mean"])
    assert set(fitted.importance()["feature"].head(2)) == {"item_ctr_1d", "interest_score"}


def _texts(ranker: Ranker) -> list[str]:
    return [booster.model_to_string() for booster in ranker.boosters]


def test_info_describes_the_training_data(fitted: Ranker) -> None:
    dataset = _dataset()
    usable = dataset.filter((pl.col("label").max() != pl.col("label").min()).over("impression_id"))
    assert fitted.columns == COLUMNS
    assert fitted.info["rows"] == usable.height < dataset.height
    assert fitted.info["impressions"] == usable["impression_id"].n_unique()
    assert fitted.info["slices"] == ["2026-01-05", "2026-01-06", "2026-01-07"]
    assert 1 <= fitted.info["best_iteration"] <= SETTINGS.num_iterations
    assert [one.current_iteration() for one in fitted.boosters] == [fitted.info["best_iteration"]]
    assert 0 < fitted.info["validation"] <= 1
    assert (fitted.info["objective"], fitted.info["validation_metric"]) == ("lambdarank", "ndcg@10")


def test_fits_are_reproducible_in_any_row_order(fitted: Ranker) -> None:
    shuffled = _dataset().sample(fraction=1.0, shuffle=True, seed=5)
    again = fit(shuffled, COLUMNS, SETTINGS, LABELS, seed=1)
    assert _texts(again) == _texts(fitted)
    assert again.calibration == fitted.calibration
    assert _texts(fit(shuffled, COLUMNS, SETTINGS, LABELS, seed=2)) != _texts(fitted)


def test_columns_are_read_by_name(fitted: Ranker) -> None:
    world = _dataset(impressions=20, seed=9)
    plain = fitted.score(world)
    assert plain.dtype == pl.Float64
    assert fitted.score(world.select(*reversed(COLUMNS))).equals(plain)
    assert fitted.score(world.head(1)).to_list() == plain.head(1).to_list()
    assert fitted.score(world.clear()).to_list() == []


def test_a_fitted_column_that_is_missing_is_named(fitted: Ranker) -> None:
    world = _dataset(impressions=5).drop("pair_seen")
    for method in (fitted.score, fitted.contributions):
        with pytest.raises(ModelError, match="needs the columns pair_seen"):
            method(world)
    with pytest.raises(ModelError, match="needs the columns pair_seen"):
        fit(world, COLUMNS, SETTINGS, LABELS, seed=1)


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Date, pl.Null, pl.List(pl.Float32)])
def test_columns_that_are_not_numbers_are_refused_before_lightgbm_ends_the_process(
    fitted: Ranker, dtype: pl.DataType
) -> None:
    world = _dataset(impressions=5).with_columns(pl.lit(None, dtype=dtype).alias("pair_seen"))
    with pytest.raises(ModelError, match=r"not numbers: pair_seen"):
        fitted.score(world)


def test_null_and_nan_score_alike(fitted: Ranker) -> None:
    world = _dataset(impressions=5)
    nulls = world.with_columns(pl.lit(None, pl.Float32).alias("item_ctr_1d"))
    nans = world.with_columns(pl.lit(math.nan, pl.Float32).alias("item_ctr_1d"))
    assert fitted.score(nulls).equals(fitted.score(nans))
    assert fitted.score(nulls).is_finite().all()


def test_contributions_add_up_to_the_score(fitted: Ranker) -> None:
    world = _dataset(impressions=10, seed=9)
    parts = fitted.contributions(world)
    assert parts.columns == [*COLUMNS, "bias"]
    assert parts.sum_horizontal().to_numpy() == pytest.approx(fitted.score(world).to_numpy(), abs=1e-9)
    assert fitted.contributions(world.clear()).columns == parts.columns


def test_a_saved_ranker_scores_the_same_and_holds_no_pickle(fitted: Ranker, tmp_path: Path) -> None:
    world = _dataset(impressions=20, seed=9)
    fitted.save(tmp_path / "ranker")
    loaded = load(tmp_path / "ranker")
    assert loaded.score(world).equals(fitted.score(world))
    assert (loaded.columns, loaded.info) == (fitted.columns, dict(fitted.info))
    assert sorted(path.name for path in (tmp_path / "ranker").iterdir()) == ["booster-0.txt", "ranker.json"]


@pytest.mark.parametrize("broken", ["booster-0.txt", "ranker.json"])
def test_a_broken_folder_is_refused(fitted: Ranker, tmp_path: Path, broken: str) -> None:
    with pytest.raises(ModelError, match="cannot read a ranker"):
        load(tmp_path / "nowhere")
    fitted.save(tmp_path)
    (tmp_path / broken).write_text("broken")
    with pytest.raises(ModelError, match="cannot read a ranker"):
        load(tmp_path)


def test_another_format_is_refused_with_a_remedy(fitted: Ranker, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    described = json.loads((tmp_path / "ranker.json").read_text())
    (tmp_path / "ranker.json").write_text(json.dumps(described | {"format": 1}))
    with pytest.raises(ModelError, match=r"format 1, this file reads format 2.* fit it again with"):
        load(tmp_path)


@pytest.mark.parametrize("mode", ["learned", "propensity"])
def test_position_bias_is_modelled_in_training_and_unused_in_scoring(mode: str) -> None:
    # One column leaks the position: a ranker without position bias learns it from there.
    def world(seed: int, bias: float) -> pl.DataFrame:
        dataset = _dataset(600, seed=seed, bias=bias)
        noise = pl.Series(np.random.default_rng(seed).normal(size=dataset.height) * 2)
        return dataset.with_columns(
            pair_seen=(noise - pl.col("position")).cast(pl.Float32),
            item_id=pl.format("item{}", pl.int_range(pl.len()) % 37),
        )

    unbiased = world(9, bias=0.0).drop("position")
    scores = {
        name: fit(
            world(0, bias=0.8), COLUMNS, SETTINGS.model_copy(update={"position_bias": name}), LABELS, seed=1
        ).score(unbiased)
        for name in ("none", mode)
    }
    evaluated = evaluate(unbiased.with_columns(**scores), ["none", mode])
    assert difference(evaluated.values, mode, "none").low > 0


def test_one_slice_stops_early_on_its_last_impressions() -> None:
    dataset = _dataset(slices=1)
    ranker = fit(dataset, COLUMNS, SETTINGS, LABELS, seed=1)
    assert ranker.info["slices"] == ["2026-01-05"]
    assert ranker.info["best_iteration"] >= 1
    with pytest.raises(TableError, match="fitted on one slice needs the columns as_of"):
        fit(dataset.drop("as_of"), COLUMNS, SETTINGS, LABELS, seed=1)


def test_a_dataset_without_clicks_is_refused() -> None:
    unclicked = _dataset(impressions=20).with_columns(label=pl.lit(0.0))
    with pytest.raises(ModelError, match="0 impressions have both a better and a worse candidate"):
        fit(unclicked, COLUMNS, SETTINGS, LABELS, seed=1)


def test_an_undeclared_label_is_refused() -> None:
    with pytest.raises(ModelError, match=r"labels are 3\.0; expected one of \[0\.0, 1\.0\]"):
        fit(_dataset(), COLUMNS, SETTINGS, Labels(gains={"click": 1.0}), seed=1)


def test_an_interest_score_that_saw_its_slice_is_refused() -> None:
    dataset = _dataset().with_columns(interest_slice=pl.lit("2026-01-04"))
    fit(dataset, COLUMNS, SETTINGS, LABELS, seed=1)
    leaking = dataset.with_columns(interest_slice=pl.lit("2026-01-07"))
    with pytest.raises(ModelError, match="rows have an interest score of a version fitted on their own"):
        fit(leaking, COLUMNS, SETTINGS, LABELS, seed=1)


def test_names_with_special_characters_are_kept() -> None:
    names = {"item_ctr_1d": "item ctr, 1d: [new]", "interest_score": "schön"}
    columns = [names.get(column, column) for column in COLUMNS]
    ranker = fit(_dataset().rename(names), columns, SETTINGS, LABELS, seed=1)
    assert set(ranker.importance()["feature"]) == set(columns)


def test_progress_is_reported_for_the_search_and_the_fit() -> None:
    steps: list[dict[str, Any]] = []
    ranker = fit(_dataset(), COLUMNS, SETTINGS, LABELS, seed=1, progress=steps.append)
    searched = [step for step in steps if step["stage"] == "search"]
    assert all(0 < step["ndcg@10"] <= 1 for step in searched)
    assert len(steps) - len(searched) == ranker.info["best_iteration"]
    assert steps[-1]["round"] == steps[-1]["rounds"] == ranker.info["best_iteration"]


def test_the_score_of_several_seeds_is_the_mean_of_their_boosters(tmp_path: Path) -> None:
    world = _dataset(impressions=20, seed=9)
    ranker = fit(_dataset(), COLUMNS, SETTINGS.model_copy(update={"seeds": 3}), LABELS, seed=1)
    alone = [replace(ranker, boosters=(booster,)).score(world) for booster in ranker.boosters]
    assert len(ranker.boosters) == len(set(_texts(ranker))) == 3
    assert ranker.score(world).to_numpy() == pytest.approx(np.mean(alone, axis=0), abs=1e-12)
    parts = ranker.contributions(world)
    assert parts.sum_horizontal().to_numpy() == pytest.approx(ranker.score(world).to_numpy(), abs=1e-9)
    ranker.save(tmp_path)
    assert load(tmp_path).score(world).equals(ranker.score(world))
    (tmp_path / "booster-2.txt").unlink()
    with pytest.raises(ModelError, match=r"cannot read a ranker .*booster-2\.txt"):
        load(tmp_path)


def test_iterations_are_searched_on_the_declared_number_of_slices() -> None:
    dataset = _dataset(slices=6)
    for count, held_out in ((1, 1), (4, 4), (9, 5)):
        ranker = fit(dataset, COLUMNS, SETTINGS.model_copy(update={"folds": count}), LABELS, seed=1)
        assert ranker.info["folds"] == held_out


@pytest.mark.parametrize(("pattern", "sign"), [("item_ctr_1d", -1), ("item_*", -1), ("interest_score", 1)])
def test_a_monotone_column_moves_the_score_in_one_direction(pattern: str, sign: int) -> None:
    # The planted rule rises in both columns: a constraint against it must hold too.
    settings = SETTINGS.model_copy(update={"monotone": {"*": 1, pattern: sign}, "seeds": 2})
    ranker = fit(_dataset(), COLUMNS, settings, LABELS, seed=1)
    column = "interest_score" if pattern == "interest_score" else "item_ctr_1d"
    world = _dataset(impressions=20, seed=9)
    grid = np.linspace(-3, 3, 21)
    scores = np.array([ranker.score(world.with_columns(pl.lit(value).alias(column))) for value in grid])
    assert (sign * np.diff(scores, axis=0) >= 0).all()
    free = fit(_dataset(), COLUMNS, SETTINGS, LABELS, seed=1)
    assert (
        np.diff([free.score(world.with_columns(pl.lit(v).alias("pair_seen"))) for v in grid], axis=0) < 0
    ).any()


def test_a_monotone_pattern_without_a_column_names_near_ones() -> None:
    settings = SETTINGS.model_copy(update={"monotone": {"item_crt_1d": 1}})
    with pytest.raises(ModelError, match=r"names 'item_crt_1d', which is no feature .*near: item_ctr_1d"):
        fit(_dataset(), COLUMNS, settings, LABELS, seed=1)
    # An ablation reads fewer columns than the project declares.
    settings = SETTINGS.model_copy(update={"monotone": {"interest_*": 1}})
    assert fit(_dataset(), COLUMNS[:3], settings, LABELS, seed=1).columns == COLUMNS[:3]


def test_probabilities_are_calibrated_and_saved(fitted: Ranker, tmp_path: Path) -> None:
    world = _dataset(impressions=1000, seed=9)
    score, clicked = fitted.score(world), world["label"] > 0
    probability = fitted.probability(score)
    raw = pl.Series(1 / (1 + np.exp(-score.to_numpy())))
    error, raw_error = (calibration_error(calibration(one, clicked)) for one in (probability, raw))
    assert probability.name == "click_probability"
    assert error < raw_error / 3
    assert ((probability > 0) & (probability < 1)).all()
    fitted.save(tmp_path)
    assert load(tmp_path).probability(score).equals(probability)
    with pytest.raises(ModelError, match="no calibration"):
        replace(fitted, calibration=None).probability(score)
