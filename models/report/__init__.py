"""The report: one HTML page, self-contained. Small tables in, a page out: it computes no metric.

tables.py    the tables that the page is made from
page.py      assembles and writes the page
sections.py  how good a ranker is, overall and by segment
audit.py     features, calibration, exposure, example lists, drift, inputs, versions
plots.py, report_plots.py   the plots
parts.py     HTML of sections, pictures, tables and values
style.py     the style sheet
"""
