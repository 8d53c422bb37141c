"""The report: one HTML page, self-contained. Small tables in, a page out; it computes no figure.

tables.py    what the page is told
page.py      the page put together and written
sections.py  how good a ranker is, and for whom
audit.py     what it does and is fed with: trust, exposure, inputs, lists, versions
figures.py   the page's own plots
parts.py     sections, pictures, tables, values
style.py     the style sheet
"""
