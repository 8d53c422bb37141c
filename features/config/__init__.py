"""The project file: TOML → frozen, typed sections.

project.py    load a file, apply overrides, check what sections must agree on
sections.py   one class a section
slices.py     durations, instants and the slices that time is cut into
"""
