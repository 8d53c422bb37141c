from pathlib import Path

import numpy as np
import pytest
import torch

from models.interest.config import InterestModelError
from models.interest.encoder import TextEncoder, frozen_vectors
from models.interest.store import RowStore, key

ODD = ["", " ", "😀🎉", "Привет, мир", "日本語の記事", "\ud800 broken", "word " * 5000]
WAYS = ["frozen", "top:1", "top:3", "lora", "adalora", "full"]


def _padded_vectors(folder: str, texts: list[str], max_tokens: int) -> np.ndarray:
    """Mean over tokens as the model cards give it: one padded batch, no autocast."""
    from transformers import AutoModel, AutoTokenizer

    encoded = AutoTokenizer.from_pretrained(folder)(
        texts, truncation=True, max_length=max_tokens, padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(**encoded).last_hidden_state
    weight = encoded["attention_mask"][..., None]
    mean = (hidden * weight).sum(1) / weight.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1).numpy()


def test_odd_texts_give_finite_unit_vectors() -> None:
    vectors = frozen_vectors(ODD)

    assert vectors.shape == (len(ODD), 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)


def test_near_texts_have_near_vectors() -> None:
    football, match, soup = frozen_vectors(["a football game", "the soccer match", "a recipe for soup"])

    assert football @ match > football @ soup + 0.2


def test_no_texts_give_no_vectors() -> None:
    assert frozen_vectors([]).shape == (0, 384)


@pytest.mark.parametrize("tune", WAYS)
def test_every_mode_begins_as_the_padded_untuned_encoder(tiny_encoder: str, random_texts, tune: str) -> None:
    texts = [*random_texts(10), "", "word " * 30]
    encoder = TextEncoder(tiny_encoder, tune, 16, device="cpu", bf16=False)

    vectors = encoder.vectors(encoder.prepare(texts)).numpy()

    assert np.allclose(vectors, _padded_vectors(tiny_encoder, texts, 16), atol=2e-3)


@pytest.mark.parametrize("tune", WAYS)
def test_a_text_has_the_same_vector_in_any_company(tiny_encoder: str, random_texts, tune: str) -> None:
    texts = random_texts(50)
    encoder = TextEncoder(tiny_encoder, tune, 16)

    together = encoder.vectors(encoder.prepare(texts)).cpu()
    alone = encoder.vectors(encoder.prepare([texts[7]])).cpu()

    assert np.array_equal(together[7], alone[0])


@pytest.mark.parametrize("tune", WAYS[1:])
def test_training_moves_what_is_tuned_and_nothing_else(tiny_encoder: str, random_texts, tune: str) -> None:
    encoder = TextEncoder(tiny_encoder, tune, 16, device="cpu")
    rows = encoder.prepare(random_texts(6))
    before = {name: value.clone() for name, value in encoder.base.state_dict().items()}
    tuned = encoder.tuned_parameters()
    optimiser = torch.optim.SGD(tuned.values(), lr=0.1)

    for _ in range(2):
        optimiser.zero_grad()
        encoder(rows)[:, 0].sum().backward()
        optimiser.step()

    changed = {
        name for name, value in encoder.base.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert changed <= tuned.keys()


def test_a_cached_text_is_not_encoded_again(tiny_encoder: str, tmp_path: Path, monkeypatch) -> None:
    first = TextEncoder(tiny_encoder, "top:2", 16).prepare(["one", "two", "one"], tmp_path)
    encoder = TextEncoder(tiny_encoder, "top:2", 16)
    seen: list[int] = []
    original = encoder._embed
    monkeypatch.setattr(encoder, "_embed", lambda ids: seen.append(len(ids)) or original(ids))

    known = encoder.prepare(["two", "one"], tmp_path)
    assert seen == []
    encoder.prepare(["two", "three"], tmp_path)

    assert len(seen) == 1
    assert np.array_equal(known[0], first[1])
    assert np.array_equal(known[1], first[0])


def test_the_hash_is_that_of_the_base_whatever_is_tuned(tiny_encoder: str, other_encoder: str) -> None:
    hashes = {TextEncoder(tiny_encoder, tune, 16).hash for tune in WAYS}

    assert len(hashes) == 1
    assert TextEncoder(other_encoder, "lora", 16).hash not in hashes


def test_an_unfinished_shard_is_not_read(tmp_path: Path) -> None:
    RowStore(tmp_path).put([key("a")], [np.ones((2, 3), dtype=np.float16)])
    next(tmp_path.glob("*.keys.npy")).unlink()

    store = RowStore(tmp_path)

    assert store.missing([key("a")]) == [0]


@pytest.mark.parametrize("kind", ["keys", "rows"])
@pytest.mark.parametrize("size", [0, 50, -8])
def test_a_damaged_shard_is_dropped_and_made_anew(tmp_path: Path, kind: str, size: int) -> None:
    rows = [np.ones((2, 3), dtype=np.float16)]
    RowStore(tmp_path).put([key("a")], rows)
    damaged = next(tmp_path.glob(f"*.{kind}.npy"))
    damaged.write_bytes(damaged.read_bytes()[:size])

    store = RowStore(tmp_path)

    assert store.missing([key("a")]) == [0]
    store.put([key("a")], rows)
    assert np.array_equal(RowStore(tmp_path).get(key("a")), rows[0])


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
