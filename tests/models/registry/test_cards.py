"""Model cards describe a version, fit into MLflow's description and are amended by an evaluation."""

import polars as pl
import pytest

from features.config.project import load
from models.evaluation.evaluate import evaluate
from models.interest.config import InterestConfig
from models.registry.interest_card import interest_card
from models.registry.ranker_card import EVALUATED, evaluated, ranker_card, shortened, with_section

TAGS = {"window": "2026-01-04 … 2026-01-05", "interest_version": "4", "tables": "items@3 features@7"}


@pytest.fixture
def card(ranker, toy) -> str:
    importance = ranker.importance().with_columns(family=pl.Series(["item", "interest", "user"]))
    return ranker_card("newsroom-ranker", ranker, toy.project().labels, importance, TAGS)


def test_a_card_describes_training_data_and_features(card):
    assert card.startswith("# newsroom-ranker, fitted on 2026-01-04 … 2026-01-05\n")
    for text in (
        "2 impressions, 200 candidates",
        "click 1, comment 2; within 0:20:00 of the impression",
        "items@3 features@7",
        "up to version 4 of the interest model",
        "| item | 1 | 75.0% | item_ctr_1d |",
        "| interest | 1 | 25.0% | interest_score |",
        "8, by ndcg@10 on held-out impressions: 0.610",
        "over 3 columns, the mean of 2 boosters.",
        'load_model("models:/newsroom-ranker@champion")',
        "momentrank rollback",
    ):
        assert text in card, text
    assert shortened(card) == card


def test_a_card_names_sampling_and_workers(ranker, toy, card):
    importance = ranker.importance().with_columns(family=pl.lit("item"))
    tags = TAGS | {"drawn": "200 of 900 candidates, whole impressions at random", "workers": 4}
    sampled = ranker_card("newsroom-ranker", ranker, toy.project().labels, importance, tags)
    assert "| sampled | 200 of 900 candidates, whole impressions at random |" in sampled
    assert "| workers | 4 |" in sampled
    assert "sampled" not in card
    assert "workers" not in card


def test_an_evaluation_replaces_the_placeholder(card):
    scored = pl.DataFrame(
        {
            "impression_id": ["a", "a", "b", "b"],
            "item_id": ["1", "2", "1", "3"],
            "label": [1.0, 0.0, 0.0, 1.0],
            "full": [0.9, 0.1, 0.2, 0.8],
            "random": [0.4, 0.5, 0.6, 0.3],
            "new": [True, True, False, False],
        }
    )
    result = evaluate(scored, ["full", "random"], {"new_users": pl.col("new")}, resamples=100)

    amended = with_section(card, EVALUATED, evaluated(result, "2026-01-06", "7"))

    assert "Not evaluated yet" in card
    assert "Not evaluated yet" not in amended
    assert "2 impressions of 2026-01-06, not seen by version 7" in amended
    assert "| full | 1.000 (1.000–1.000) |" in amended
    assert "| new_users | 1 | 1.000 (1.000–1.000) |" in amended
    headings = [line for line in card.splitlines() if line.startswith("## ")]
    assert [line for line in amended.splitlines() if line.startswith("## ")] == headings


def test_a_section_is_replaced_or_appended():
    card = "# it\n\n## One\n\nfirst\n\n## Two\n\nsecond\n"

    assert with_section(card, "One", r"new \1") == "# it\n\n## One\n\nnew \\1\n\n## Two\n\nsecond\n"
    assert with_section(card, "Two", "new") == "# it\n\n## One\n\nfirst\n\n## Two\n\nnew\n"
    assert with_section(card, "Three", "new") == card + "\n## Three\n\nnew\n"
    assert with_section("", "One", "new") == "## One\n\nnew\n"


def test_a_card_too_long_for_a_description_is_cut_at_a_line():
    card = "# it\n" + "\n".join(f"line {n}" for n in range(1000))

    short = shortened(card)

    assert len(short) <= 5000
    start, _, rest = short.partition("\n\n… ")
    assert card.startswith(start + "\n")
    assert "card.md" in rest


def test_the_card_of_newsroom_fits_into_a_description(ranker, pytestconfig):
    from features.catalogue import catalogue

    project = load(pytestconfig.rootpath / "projects" / "newsroom.toml")
    importance = (
        catalogue(project.behaviour)
        .select("family", feature="name")
        .with_columns(gain=pl.int_range(pl.len()) / 7)
    )
    text = ranker_card("newsroom-ranker", ranker, project.labels, importance, TAGS)

    assert len(text) < 4000, "an evaluation adds a thousand characters"


def test_an_interest_card_describes_the_fit():
    config = InterestConfig(numbers=("price",), ids=False).as_dict()
    curve = [
        {"epoch": 1, "step": 1, "loss": 2.5},
        {"epoch": 2, "step": 8, "loss": 1.25, "held_out_loss": 1.5, "held_out_calibration_error": 0.01},
    ]
    tags = {"started_from": "3", "lists": 1200, "texts": 40, "tables": "items@3"}

    card = interest_card("newsroom-interest", "2026-01-05", config, curve, tags)

    assert card.startswith("# newsroom-interest, fine-tuned up to 2026-01-05\n")
    for text in (
        "version 3",
        "1,200 impressions, 40 distinct texts",
        "skipped, click",
        "attributes, price",
        "8 in 2 epochs",
        "2.5000 at the start, 1.2500 at the end",
        "loss 1.5000, calibration error 0.0100",
        'load_model("models:/newsroom-interest@challenger")',
    ):
        assert text in card, text
    assert "no data to learn from" in interest_card("x-interest", "2026-01-05", config, [], {})
