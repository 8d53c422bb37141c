"""The project file: TOML → frozen, typed sections.

project.py         load a file, apply overrides, check settings across sections
sections.py        one class a section
segment_bands.py   the bands of an evaluation's segments
slices.py          durations, instants, and time slices
extensions.py      classes and functions of your own, named as `module:object`
"""
