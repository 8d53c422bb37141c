"""The HTML page a person looks at: one file, nothing fetched, no scripts.

Every figure on it comes from the tables in `ReportData`; an empty table leaves a sentence that says why.
"""

import os
from pathlib import Path

from models.report import audit, sections
from models.report.parts import text
from models.report.style import STYLE
from models.report.tables import ReportData

_CONTENTS = {
    "time": "Over time",
    "ablations": "Ablations",
    "segments": "For whom",
    "features": "Features",
    "calibration": "Probabilities",
    "exposure": "Exposure",
    "beyond": "Beyond accuracy",
    "lists": "Lists",
    "drift": "Drift",
    "inputs": "Inputs",
    "versions": "Versions",
}


def write(path: Path, report: ReportData) -> None:
    """Write the page; a reader sees the old page or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(page(report), encoding="utf-8")
    os.replace(unfinished, path)


def page(report: ReportData) -> str:
    """The page as text."""
    first, last = report.slices
    when = f"{report.generated_at:%d %B %Y, %H:%M} UTC"
    parts = (
        sections.over_time(report),
        sections.ablations(report),
        sections.for_whom(report),
        '<div class="pair">',
        audit.goes_by(report),
        audit.believed(report),
        "</div>",
        audit.places(report),
        audit.beyond(report),
        audit.lists(report),
        audit.moved(report),
        audit.came_in(report),
        audit.versions(report),
    )
    contents = "".join(f'<a href="#{name}">{text(title)}</a>' for name, title in _CONTENTS.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(report.project)}: ranking report</title><style>{STYLE}</style></head><body>"
        '<a class="skip" href="#time">Skip to the figures</a><main>'
        f'<header><p class="eyebrow">MomentRank report</p><h1>{text(report.project)}</h1>'
        f'<p class="when">Slices {text(first)} to {text(last)} · made {when}</p>'
        f'{sections.headline(report)}<nav aria-label="Sections">{contents}</nav></header>'
        f"{''.join(parts)}"
        f"<footer>Made by MomentRank. Intervals are {report.confidence:.0%} bootstrap intervals over lists.</footer>"
        "</main></body></html>\n"
    )
