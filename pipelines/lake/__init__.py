"""The table store: Delta Lake tables in a folder or an object store, one slice replaced atomically at a time.

tables.py   write, read and remove slices
parts.py    the files of a slice, which several workers may write together
columns.py  what columns the lake takes, and that they stay what they are
"""

from pipelines.lake.columns import SLICE
from pipelines.lake.parts import Part
from pipelines.lake.tables import STATE, Lake, WriteResult

__all__ = ["SLICE", "STATE", "Lake", "Part", "WriteResult"]
