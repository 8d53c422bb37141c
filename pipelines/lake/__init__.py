"""The table store: Delta Lake tables in a folder or an object store, written one slice at a time, atomically.

tables.py   write, read and remove slices
parts.py    the files of a slice, which several workers may write
columns.py  column types and checks
handles.py  open tables, cached
"""

from pipelines.lake.columns import SLICE
from pipelines.lake.parts import Part
from pipelines.lake.tables import STATE, Lake, WriteResult

__all__ = ["SLICE", "STATE", "Lake", "Part", "WriteResult"]
