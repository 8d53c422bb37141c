"""Tiny random encoders of eleven families, built from their configurations."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.interest.config import InterestConfig, InterestModelError
from models.interest.encoder import TextEncoder
from models.interest.explanation import contributions
from models.interest.fit import fine_tune
from models.interest.pretrained import find_encoder
from models.interest.scoring import score
from models.interest.version import InterestModel

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
FAMILIES = {
    "bert": SHAPE,
    "roberta": SHAPE,
    "xlm-roberta": SHAPE,
    "electra": SHAPE,
    "mpnet": SHAPE | {"num_hidden_layers": 5},  # fewer would hide a wrong output of skipped layers
    "albert": SHAPE,
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "deberta-v2": SHAPE
    | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "modernbert": SHAPE
    | {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "qwen3": SHAPE | {"num_key_value_heads": 1, "head_dim": 16},
    "llama": SHAPE | {"num_key_value_heads": 1},
}
SHARED_LAYERS = {"albert"}


@pytest.fixture(scope="session")
def encoder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Folder of a family's encoder, with the packaged tokenizer."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    made: dict[str, str] = {}

    def make(family: str) -> str:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            config = AutoConfig.for_model(family, vocab_size=30522, **FAMILIES[family])
            with torch.random.fork_rng():
                torch.manual_seed(3)
                model = AutoModel.from_config(config)
                for weight in model.parameters():
                    # As they come, position embeddings are too faint for a wrong position to show.
                    weight.data.mul_(3.0)
            model.save_pretrained(folder)
            AutoTokenizer.from_pretrained(find_encoder("all-MiniLM-L6-v2")).save_pretrained(folder)
            made[family] = str(folder)
        return made[family]

    return make


def _padded_vectors(folder: str, texts: list[str], pooling: str = "mean") -> np.ndarray:
    """Vectors of one padded batch through the whole model."""
    from transformers import AutoModel, AutoTokenizer

    encoded = AutoTokenizer.from_pretrained(folder)(
        texts, truncation=True, max_length=16, padding=True, return_tensors="pt"
    )
    mask = encoded["attention_mask"]
    with torch.no_grad():
        model = AutoModel.from_pretrained(folder).eval()
        hidden = model(input_ids=encoded["input_ids"], attention_mask=mask).last_hidden_state
    pooled = {
        "mean": (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True),
        "cls": hidden[:, 0],
        "last": hidden[torch.arange(len(texts)), mask.sum(1) - 1],
    }
    return torch.nn.functional.normalize(pooled[pooling], dim=-1).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_encoded_fitted_scored_explained_saved_and_loaded(
    encoder_of, random_texts, random_items, random_moments, tmp_path: Path, family: str
) -> None:
    folder, texts = encoder_of(family), random_texts(6)
    tune = "lora" if family in SHARED_LAYERS else "top:1"
    expected = _padded_vectors(folder, texts)
    for way in ("frozen", tune):
        encoder = TextEncoder(folder, way, 16, device="cpu", bf16=False)
        assert np.allclose(encoder.vectors(encoder.prepare(texts)).numpy(), expected, atol=2e-3), way

    items, moments = random_items(20), random_moments(1, users=3, longest=6, impressions=2)
    config = InterestConfig(
        encoder=folder, tune=tune, max_tokens=16, width=16, heads=2, layers=1, epochs=1, device="cpu"
    )
    model = fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path / "fit")
    model.save(tmp_path / "version")
    loaded = InterestModel.load(tmp_path / "version")

    untuned = InterestModel(config).encoder.tuned_parameters()
    assert any(not torch.equal(p, untuned[name]) for name, p in loaded.encoder.tuned_parameters().items())
    assert np.array_equal(score(loaded, items, moments), score(model, items, moments))
    assert (contributions(loaded, items, moments, top=2).weight != 0).any()


def test_layers_that_are_one_layer_repeated_cannot_be_tuned_alone(encoder_of) -> None:
    with pytest.raises(
        InterestModelError, match=r"albert.* has 0 layers that can be tuned alone: choose fewer, frozen"
    ):
        TextEncoder(encoder_of("albert"), "top:1", device="cpu")


@pytest.mark.parametrize(("mode", "pooling"), [("cls_token", "cls"), ("lasttoken", "last")])
def test_sentence_transformers_files_decide_pooling_prompt_and_length(
    encoder_of, random_texts, tmp_path: Path, mode: str, pooling: str
) -> None:
    plain, texts = encoder_of("mpnet"), random_texts(6)
    _describe(plain, tmp_path, "Transformer", "Pooling", "Normalize")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(
        json.dumps({f"pooling_mode_{mode}": True, "pooling_mode_mean_tokens": False})
    )
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    (tmp_path / "config_sentence_transformers.json").write_text('{"prompts": {"passage": "passage: "}}')

    encoder = TextEncoder(str(tmp_path), "frozen", 512, device="cpu", bf16=False)
    vectors = encoder.vectors(encoder.prepare(texts)).numpy()

    expected = _padded_vectors(plain, [f"passage: {text}" for text in texts], pooling)
    assert np.allclose(vectors, expected, atol=1e-4)


def test_an_unsupported_module_is_named(encoder_of, tmp_path: Path) -> None:
    _describe(encoder_of("bert"), tmp_path, "Transformer", "Pooling", "Dense")

    with pytest.raises(InterestModelError, match="ends with the module Dense, which is not supported"):
        TextEncoder(str(tmp_path), device="cpu")


def _describe(encoder: str, folder: Path, *kinds: str) -> None:
    """Link an encoder's files into a folder and add a modules.json."""
    for file in Path(encoder).iterdir():
        (folder / file.name).symlink_to(file)
    modules = [
        {"path": f"{number}_{kind}" if number else "", "type": f"sentence_transformers.models.{kind}"}
        for number, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
