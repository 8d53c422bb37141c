"""Where the interest model computes."""

import torch

from .config import InterestModelError


def find_device(name: str) -> torch.device:
    """The device of a configuration: `auto` is CUDA where there is one.

    Raises InterestModelError if the device is `cuda` and there is none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise InterestModelError(
            'device = "cuda" but torch finds no CUDA device here: set it to "auto" or "cpu", or install '
            "the CUDA build of torch on a machine with a GPU"
        )
    return torch.device("cuda" if there and name != "cpu" else "cpu")
