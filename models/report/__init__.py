"""The report: one HTML page, self-contained. Small tables in, a page out: it computes no metric.

report_data.py        the tables that the page is made from
page.py               assembles and writes the page
quality_sections.py   how good a ranker is, overall and by segment
audit.py              features, calibration, exposure, example lists, drift, inputs, versions
plots.py              the plots, with report_plots.py
html_parts.py         HTML of sections, pictures, tables and values
style.css             the style sheet
"""
