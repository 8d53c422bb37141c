"""How the kernels are compiled: by Numba, kept on disk so that only the first process of a machine compiles."""

import warnings
from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(function: Kernel) -> Kernel:
    """Compile a plain loop on its first call, without the interpreter's lock.

    The machine code is cached beside the source, or in the user's cache folder (or `NUMBA_CACHE_DIR`) where the
    package is read-only. Where neither can be written, it is compiled once a process.
    """
    try:
        return cast(Kernel, njit(cache=True, nogil=True)(function))
    except RuntimeError as error:
        warnings.warn(
            f"compiled kernels cannot be kept, so each process compiles them again, about ten seconds: {error}. "
            "Set NUMBA_CACHE_DIR to a folder that can be written",
            stacklevel=2,
        )
        return cast(Kernel, njit(nogil=True)(function))
