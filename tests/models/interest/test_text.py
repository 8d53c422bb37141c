from pathlib import Path

import numpy as np
import pytest

from models.interest.config import InterestModelError
from models.interest.store import RowStore, key
from models.interest.text import TextEncoder, frozen_vectors

ODD = ["", " ", "😀🎉", "Привет, мир", "日本語の記事", "\ud800 broken", "word " * 5000]


def test_odd_texts_give_finite_unit_vectors() -> None:
    vectors = frozen_vectors(ODD)

    assert vectors.shape == (len(ODD), 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)


def test_near_texts_have_near_vectors() -> None:
    football, match, soup = frozen_vectors(["a football game", "the soccer match", "a recipe for soup"])

    assert football @ match > football @ soup + 0.2


def test_no_texts_give_no_vectors() -> None:
    assert frozen_vectors([]).shape == (0, 384)


@pytest.mark.parametrize("tune", ["frozen", "top:1", "top:3", "full"])
def test_every_mode_begins_as_the_untuned_encoder(tiny_encoder: str, random_texts, tune: str) -> None:
    texts = [*random_texts(10), ""]
    frozen = TextEncoder(tiny_encoder, "frozen", 16, bf16=False)
    encoder = TextEncoder(tiny_encoder, tune, 16, bf16=False)

    vectors = encoder.vectors(encoder.prepare(texts))

    assert np.allclose(vectors, frozen.vectors(frozen.prepare(texts)), atol=2e-3)


def test_a_text_has_the_same_vector_in_any_company(tiny_encoder: str, random_texts) -> None:
    texts = random_texts(50)
    encoder = TextEncoder(tiny_encoder, "top:1", 16)

    together = encoder.vectors(encoder.prepare(texts))
    alone = encoder.vectors(encoder.prepare([texts[7]]))

    assert np.array_equal(together[7], alone[0])


def test_a_cached_text_is_not_encoded_again(tiny_encoder: str, tmp_path: Path, monkeypatch) -> None:
    first = TextEncoder(tiny_encoder, "top:2", 16).prepare(["one", "two", "one"], tmp_path)
    encoder = TextEncoder(tiny_encoder, "top:2", 16)
    seen: list[int] = []
    original = encoder._hidden
    monkeypatch.setattr(encoder, "_hidden", lambda ids: seen.append(len(ids)) or original(ids))

    known = encoder.prepare(["two", "one"], tmp_path)
    assert seen == []
    encoder.prepare(["two", "three"], tmp_path)

    assert len(seen) == 1
    assert np.array_equal(known[0], first[1])
    assert np.array_equal(known[1], first[0])


def test_an_unfinished_shard_is_not_read(tmp_path: Path) -> None:
    RowStore(tmp_path).put([key("a")], [np.ones((2, 3), dtype=np.float16)])
    next(tmp_path.glob("*.keys.npy")).unlink()

    store = RowStore(tmp_path)

    assert store.missing([key("a")]) == [0]


def test_rows_of_different_length_come_back_as_they_went_in(tmp_path: Path) -> None:
    rows = [np.full((n, 2), n, dtype=np.float16) for n in (3, 1, 4)]
    RowStore(tmp_path).put([key(t) for t in "abc"], rows)

    store = RowStore(tmp_path)

    assert all(np.array_equal(store.get(key(t)), row) for t, row in zip("abc", rows, strict=True))


def test_a_missing_encoder_says_what_to_do() -> None:
    with pytest.raises(InterestModelError, match=r"give a folder in \[interest\] encoder"):
        TextEncoder("no-such/encoder")


def test_more_layers_than_there_are_is_refused(tiny_encoder: str) -> None:
    with pytest.raises(InterestModelError, match="choose fewer"):
        TextEncoder(tiny_encoder, "top:9")
