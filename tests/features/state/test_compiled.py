import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.state import compiled as compiling
from features.state.compiled import compiled

ROOT = Path(__file__).parents[3]


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


@pytest.mark.skipif(bool(os.environ.get("NUMBA_DISABLE_JIT")), reason="nothing is compiled")
def test_no_kernel_is_compiled_again_for_events_or_a_request() -> None:
    script = """
from features import query_kernels, similarity_kernels
from features.config.slices import microseconds
from features.live import LiveMoments, Request
from features.schemas import ItemVectors
from features.state import __main__, kernels, start
from tests import conftest as toy

def compiled():
    modules = (kernels, similarity_kernels, query_kernels)
    functions = [function for module in modules for function in vars(module).values()]
    return {f"{f.__name__}{s}" for f in functions for s in getattr(f, "signatures", ())}

__main__.main()
before = compiled()
toy.walk(toy.busy(), toy.project(context={"categorical": ("surface",)}), {toy.at(60)})
searched = toy.project(context={"query": "surface"})
toy.walk(toy.busy(), searched, {toy.at(60)})
live = LiveMoments(start(toy.START, searched.behaviour), searched.slices, ItemVectors.create_empty())
live.look_up(Request("u", ("a",), microseconds(toy.at(5)), context=(("surface", "home"),)))
print(len(before), *sorted(compiled() - before), sep="\\n")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)

    number, *again = ran.stdout.splitlines()
    assert int(number) > 10
    assert again == []
