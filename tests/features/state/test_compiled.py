import subprocess
import sys

import pytest

from features.state import compiled as compiling
from features.state.compiled import compiled


def test_an_unwritable_cache_is_a_warning_and_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(*, nogil: bool, cache: bool = False) -> object:
        if cache:
            raise RuntimeError("no locator available")
        return lambda function: function

    monkeypatch.setattr(compiling, "njit", njit)

    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR"):
        double = compiled(lambda number: 2 * number)

    assert double(2) == 4


def test_definitions_and_the_catalogue_load_without_the_compiler() -> None:
    script = (
        "import sys, pipelines.definitions, features.behaviour, features.catalogue\n"
        "sys.exit('numba' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
