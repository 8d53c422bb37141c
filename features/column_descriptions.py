"""Column descriptions: the docstrings below the columns in `features/schemas.py`."""

import ast
import inspect
import textwrap
from functools import cache

import dataframely as dy


@cache
def column_descriptions(schema: type[dy.Schema]) -> dict[str, str]:
    """Column → docstring, parsed from source because Python does not keep attribute docstrings."""
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
    assert isinstance(declared, ast.ClassDef)
    descriptions = {}
    for column, below in zip(declared.body, declared.body[1:], strict=False):
        match column, below:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                descriptions[name] = inspect.cleandoc(text)
    return descriptions
