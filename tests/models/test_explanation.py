import polars as pl
import pytest

from models.explanation import by_family, reasons

CATALOGUE = pl.DataFrame(
    {"name": ["item_ctr_1d", "item_clicks_1d", "text_taste"], "family": ["item", "item", "text"]}
)


def test_contributions_are_summed_by_family_the_widest_spread_first() -> None:
    contributions = pl.DataFrame(
        {
            "item_ctr_1d": [0.5, -0.5],
            "text_taste": [3.0, -1.0],
            "item_clicks_1d": [0.25, 0.0],
            "interest_score": [0.5, 1.5],
            "interest_score_z": [0.0, 0.5],
            "bias": [9.0, 9.0],
        }
    )

    found = by_family(contributions, CATALOGUE)

    assert found.columns == ["text", "interest", "item"]
    assert found.rows() == [(3.0, 0.5, 0.75), (-1.0, 2.0, -0.5)]


def test_all_but_the_bias_is_explained() -> None:
    contributions = pl.DataFrame({"item_ctr_1d": [0.5], "text_taste": [-0.2], "new": [0.1], "bias": [-3.0]})

    total = by_family(contributions, CATALOGUE).sum_horizontal()

    assert total.to_list() == pytest.approx([0.4])


def test_families_of_equal_spread_stand_by_name() -> None:
    found = by_family(pl.DataFrame({"text_taste": [1.0], "item_ctr_1d": [-1.0]}), CATALOGUE)

    assert found.columns == ["item", "text"]


def test_reasons_name_what_spoke_most_for_the_item() -> None:
    families = pl.DataFrame({"text": [0.2, -1.0], "item": [1.5, -0.1], "pair": [0.4, 0.0]})

    found = reasons(families)

    assert found.name == "reasons"
    assert found.to_list() == [
        "how the item does (+1.50); whether the user met it before (+0.40)",
        "nothing speaks for it",
    ]
    assert reasons(families, shown=1)[0] == "how the item does (+1.50)"


def test_reasons_of_no_rows() -> None:
    assert reasons(pl.DataFrame(schema={"item": pl.Float64})).to_list() == []
