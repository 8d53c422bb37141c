"""What users add to MomentRank: objects that a project file names as `module:object`. See docs/extending.md.

The module is a file beside the project file or an installed package. Built-in objects have plain names.
"""

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator

from features.errors import ProjectError

Kind = TypeVar("Kind")


def search(folder: Path) -> None:
    """Let `resolve` import the modules in a project file's folder; installed packages come first."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def resolve(reference: str) -> Any:
    """The object named `module:object`. Raises ValueError if there is none."""
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise ValueError(
            "write module:object, where the module is a file beside the project file or a package"
        )
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # whatever a user's module raises
        raise ValueError(f"cannot be imported: {type(error).__name__}: {error}") from error


def checked(reference: str) -> str:
    """The reference, if there is such an object; a pydantic validator."""
    resolve(reference)
    return reference


Reference = Annotated[str, AfterValidator(checked)]


def extended(builtin: Mapping[str, Kind], references: Iterable[str], kind: Any, key: str) -> dict[str, Kind]:
    """The built-in objects and those of a project file, by name; `key` is where it names them.

    Raises ProjectError if one is not of the `kind`, or if two have one name.
    """
    objects = dict(builtin)
    for reference in references:
        name = reference.partition(":")[2]
        if name in objects:
            raise ProjectError(f"{key}: there are two called {name}: rename {reference}")
        objects[name] = resolve_as(kind, reference, key)
    return objects


def resolve_as(kind: Any, reference: str, key: str) -> Any:
    """The object named `module:object`. Raises ProjectError if it is not of the `kind`; `key` is where it is named."""
    resolved = resolve(reference)
    if not isinstance(resolved, kind):
        raise ProjectError(f"{key}: {reference} is a {type(resolved).__name__}, expected a {kind.__name__}")
    return resolved
