from dataclasses import replace

import numpy as np
import pytest
import torch

from models.interest.config import InterestConfig, InterestModelError
from models.interest.item_arrays import ATTRIBUTE_BUCKETS, ID_BUCKETS, ItemArrays, attribute_code, id_code
from models.interest.reader import ItemReader

CONFIG = InterestConfig(width=16, heads=2, numbers=("price", "length"))


@pytest.fixture
def reader(random_items) -> ItemReader:
    torch.manual_seed(2)
    reader = ItemReader(CONFIG, text_width=12, dropout=0.1).eval()
    reader.standardise(random_items(20).tensors(torch.randn(20, 12)))
    return reader


def test_a_code_is_the_same_everywhere_and_always() -> None:
    assert attribute_code("genres=comedy") == 13_395
    assert id_code("N12345") == 15_170
    assert all(0 < attribute_code(f"tags={n}") < ATTRIBUTE_BUCKETS for n in range(999))
    assert all(0 < id_code(f"{n}") < ID_BUCKETS for n in range(999))


def test_picked_items_keep_what_is_theirs(random_items) -> None:
    items = random_items(20)
    chosen = np.array([7, 3, 3, 19])

    picked = items.pick(chosen)

    def said(arrays: ItemArrays, n: int) -> tuple[object, ...]:
        bag = arrays.attribute[arrays.attribute_start[n] : arrays.attribute_start[n + 1]]
        return arrays.texts[arrays.text[n]], tuple(bag), str(arrays.number[n]), arrays.id[n]

    assert [said(picked, n) for n in range(4)] == [said(items, n) for n in chosen]
    assert len(picked.texts) == 3


def test_a_bundle_reads_as_its_items_one_by_one(reader: ItemReader, random_items) -> None:
    items = random_items(20).tensors(torch.randn(20, 12))

    whole = reader(items)

    for number in range(20):
        alone = reader(items[number])
        assert torch.allclose(alone.item_embedding[0], whole.item_embedding[number], atol=1e-6)
        assert torch.allclose(alone.place[0], whole.place[number], atol=1e-6)


def test_codes_never_learnt_from_are_neutral(reader: ItemReader) -> None:
    known = ItemArrays.of_texts(["a", "b"])
    known = replace(known, number=np.zeros((2, 2), np.float32))
    coded = replace(known, id=np.array([5, 6]), attribute_start=np.array([0, 1, 1]), attribute=np.array([7]))
    vectors = torch.randn(2, 12)

    bare, named = reader(known.tensors(vectors)), reader(coded.tensors(vectors))

    assert torch.equal(bare.token, named.token)
    assert torch.equal(bare.item_bias, named.item_bias)
    assert not torch.equal(bare.place[0], named.place[0])  # what they share with others counts at once


def test_a_missing_number_differs_from_any_number(reader: ItemReader) -> None:
    items = ItemArrays.of_texts(["a"] * 4)
    numbers = np.array([[np.nan, 0], [0, 0], [-1e9, 0], [1e9, 0]], np.float32)

    item_embedding = reader(replace(items, number=numbers).tensors(torch.zeros(1, 12))).item_embedding

    assert item_embedding.isfinite().all()
    assert len(torch.unique(item_embedding, dim=0)) == 4


def test_hidden_ids_say_nothing(random_items) -> None:
    torch.manual_seed(1)
    reader = ItemReader(replace(CONFIG, id_dropout=0.5), text_width=12, dropout=0.0)
    torch.nn.init.normal_(reader.id.weight)
    items = ItemArrays.of_texts(["a"] * 400)
    items = replace(items, id=np.full(400, 9), number=np.zeros((400, 2), np.float32))

    shown = reader.train()(items.tensors(torch.zeros(1, 12))).item_bias
    always = reader.eval()(items.tensors(torch.zeros(1, 12))).item_bias

    assert len(shown.detach().unique()) == 2
    assert 0.4 < float((shown == always).float().mean()) < 0.6


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("text", np.array([0, 9]), "outside the texts"),
        ("id", np.array([0, ID_BUCKETS]), "outside its buckets"),
        ("id", np.array([0]), "item arrays differ"),
        ("attribute", np.array([1]), "attribute arrays differ"),
        ("number", np.zeros((2, 3), np.float32), "have 3 numbers, the configuration names 2"),
    ],
)
def test_items_that_contradict_themselves_are_refused(field: str, value, sentence: str) -> None:
    items = replace(ItemArrays.of_texts(["a", "b"]), number=np.zeros((2, 2), np.float32))
    items.check(CONFIG)

    with pytest.raises(InterestModelError, match=sentence):
        replace(items, **{field: value}).check(CONFIG)
