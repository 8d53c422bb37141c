import polars as pl
import pytest

from features.draft.column_content import describe
from features.draft.item_columns import guess_items

COUNT = 400


def guess(**columns: list[object]) -> dict[str, tuple[object, str]]:
    frame = pl.DataFrame({"sku": [f"s{number}" for number in range(COUNT)], **columns}, strict=False)
    return {g.key: (g.value, g.confidence) for g in guess_items(describe(frame), "sku")}


def cycle(*values: object) -> list[object]:
    return [values[number % len(values)] for number in range(COUNT)]


def test_a_title_that_several_items_share_is_still_the_title() -> None:
    # A product in three colours is three items.
    guesses = guess(
        prod_name=[f"Shirt {number // 3}" for number in range(COUNT)],
        type_name=cycle("Shirt", "Trousers", "Dress"),
        detail_desc=[f"A soft garment of cotton, cut number {number // 3}" for number in range(COUNT)],
    )
    assert guesses["items.title"] == ("prod_name", "high")
    assert guesses["items.body"][0] == "detail_desc"
    assert guesses["items.categorical"][0] == ("type_name",)


def test_a_name_with_few_values_is_an_uncertain_title() -> None:
    assert guess(type_name=cycle("Shirt", "Trousers", "Dress"))["items.title"] == ("type_name", "low")


def test_codes_are_not_numbers_and_duplicates_are_dropped() -> None:
    guesses = guess(
        name=[f"Thing {number}" for number in range(COUNT)],
        group_no=cycle(10, 20, 30),
        group_name=cycle("a", "b", "c"),
        brand_id=cycle(1, 2, 3, 4, 5),
        price=[1 + number / 7 for number in range(COUNT)],
        barcode_id=list(range(10**6, 10**6 + COUNT)),
        image_url=[f"https://shop.test/{number}.jpg" for number in range(COUNT)],
    )
    assert guesses["items.numeric"][0] == ("price",)
    assert guesses["items.categorical"][0] == ("group_name", "brand_id")


@pytest.mark.parametrize(("separator", "supported"), [("|", True), (";", False)])
def test_several_values_in_a_cell_are_attributes_if_they_can_be_parsed(
    separator: str, supported: bool
) -> None:
    guesses = guess(genres=cycle(f"Drama{separator}War", "Comedy", f"War{separator}Comedy"))
    assert guesses["items.categorical"] == ((("genres",), "medium") if supported else (None, "edit"))


def test_a_time_is_when_an_item_was_published() -> None:
    days = [f"2026-01-{1 + number % 28:02}" for number in range(COUNT)]
    assert guess(released=days)["items.published_at"] == ("released", "high")
