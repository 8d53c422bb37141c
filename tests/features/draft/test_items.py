import polars as pl
import pytest

from features.draft.columns import describe
from features.draft.items import guess_items

COUNT = 400


def guessed(**columns: list[object]) -> dict[str, tuple[object, str]]:
    frame = pl.DataFrame({"sku": [f"s{number}" for number in range(COUNT)], **columns}, strict=False)
    return {guess.key: (guess.value, guess.confidence) for guess in guess_items(describe(frame), "sku")}


def cycle(*values: object) -> list[object]:
    return [values[number % len(values)] for number in range(COUNT)]


def test_a_title_that_several_items_share_is_still_the_title() -> None:
    # Of a product in three colours, each colour is an item.
    found = guessed(
        prod_name=[f"Shirt {number // 3}" for number in range(COUNT)],
        type_name=cycle("Shirt", "Trousers", "Dress"),
        detail_desc=[f"A soft garment of cotton, cut number {number // 3}" for number in range(COUNT)],
    )
    assert found["items.title"] == ("prod_name", "high")
    assert found["items.body"][0] == "detail_desc"
    assert found["items.categorical"][0] == ("type_name",)


def test_a_name_of_few_values_is_doubted_as_a_title() -> None:
    assert guessed(type_name=cycle("Shirt", "Trousers", "Dress"))["items.title"] == ("type_name", "low")


def test_codes_are_no_numbers_and_say_nothing_twice() -> None:
    found = guessed(
        name=[f"Thing {number}" for number in range(COUNT)],
        group_no=cycle(10, 20, 30),
        group_name=cycle("a", "b", "c"),
        brand_id=cycle(1, 2, 3, 4, 5),
        price=[1 + number / 7 for number in range(COUNT)],
        barcode_id=list(range(10**6, 10**6 + COUNT)),
        image_url=[f"https://shop.test/{number}.jpg" for number in range(COUNT)],
    )
    assert found["items.numeric"][0] == ("price",)
    assert found["items.categorical"][0] == ("group_name", "brand_id")


@pytest.mark.parametrize(("separator", "read"), [("|", True), (";", False)])
def test_values_in_one_cell_are_attributes_where_they_can_be_read(separator: str, read: bool) -> None:
    found = guessed(genres=cycle(f"Drama{separator}War", "Comedy", f"War{separator}Comedy"))
    assert found["items.categorical"] == ((("genres",), "medium") if read else (None, "edit"))


def test_times_are_when_an_item_was_published() -> None:
    days = [f"2026-01-{1 + number % 28:02}" for number in range(COUNT)]
    assert guessed(released=days)["items.published_at"] == ("released", "high")
