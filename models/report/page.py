"""The report as one HTML file: nothing is fetched, no scripts.

Every figure comes from the tables in `ReportData`. A section whose table is empty says why.
"""

from pathlib import Path

from features.atomic import replacing
from models.report import audit, quality_sections
from models.report.html_parts import text
from models.report.report_data import ReportData

_CONTENTS = {
    "time": "Over time",
    "ablations": "Ablations",
    "segments": "Segments",
    "features": "Features",
    "calibration": "Calibration",
    "exposure": "Exposure",
    "beyond": "Beyond accuracy",
    "topics": "Topics",
    "lists": "Example lists",
    "drift": "Drift",
    "inputs": "Inputs",
    "versions": "Versions",
}


_STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")


def write(path: Path, report: ReportData) -> None:
    """Write the page atomically: a reader sees the old page or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_text(page(report), encoding="utf-8")


def page(report: ReportData) -> str:
    """The page as HTML."""
    first, last = report.slices
    generated = f"{report.generated_at:%d %B %Y, %H:%M} UTC"
    parts = (
        quality_sections.over_time(report),
        quality_sections.ablations(report),
        quality_sections.by_segment(report),
        '<div class="pair">',
        audit.feature_importance(report),
        audit.calibration(report),
        "</div>",
        audit.exposure(report),
        audit.beyond_accuracy(report),
        audit.topics(report),
        audit.example_lists(report),
        audit.drift(report),
        audit.inputs(report),
        audit.versions(report),
    )
    contents = "".join(f'<a href="#{name}">{text(title)}</a>' for name, title in _CONTENTS.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(report.project)}: ranking report</title><style>\n{_STYLE}</style></head><body>"
        '<a class="skip" href="#time">Skip to the figures</a><main>'
        f'<header><p class="eyebrow">MomentRank report</p><h1>{text(report.project)}</h1>'
        f'<p class="when">Slices {text(first)} to {text(last)} · generated {generated}</p>'
        f'{quality_sections.headline(report)}<nav aria-label="Sections">{contents}</nav></header>'
        f"{''.join(parts)}"
        f"<footer>Made by MomentRank. Intervals: {report.confidence:.0%}, bootstrap over impressions.</footer>"
        "</main></body></html>\n"
    )
