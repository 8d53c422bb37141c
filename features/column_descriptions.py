"""What the columns of a table mean, from the docstrings below them in `features/schemas.py`."""

import ast
import inspect
import textwrap
from functools import cache

import dataframely as dy


@cache
def column_descriptions(schema: type[dy.Schema]) -> dict[str, str]:
    """Column → its docstring, of the columns that have one.

    Python drops a string below an attribute, so it is read from the schema's source.
    """
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
    assert isinstance(declared, ast.ClassDef)
    found = {}
    for column, below in zip(declared.body, declared.body[1:], strict=False):
        match column, below:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found
