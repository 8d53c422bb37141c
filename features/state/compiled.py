"""Compile kernels with Numba and cache them on disk, so that only the first process of a machine compiles."""

import warnings
from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(function: Kernel) -> Kernel:
    """Compile a plain loop on its first call, without the interpreter's lock.

    The machine code is cached beside the source or, if the package is read-only, in the user's cache folder (or
    `NUMBA_CACHE_DIR`). If neither is writable, each process compiles again and a UserWarning says so.
    """
    try:
        return cast(Kernel, njit(cache=True, nogil=True)(function))
    except RuntimeError as error:
        warnings.warn(
            f"Compiled kernels cannot be cached ({error}), so each process spends about ten seconds compiling them. "
            "Set NUMBA_CACHE_DIR to a writable folder",
            stacklevel=2,
        )
        return cast(Kernel, njit(nogil=True)(function))
