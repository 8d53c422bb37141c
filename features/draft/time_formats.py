"""Written times that are neither ISO 8601 nor epoch numbers → their strptime form."""

from itertools import product

import polars as pl

_DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d",
         "%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%b %d %Y", "%B %d, %Y", "%d/%m/%y", "%m/%d/%y")  # fmt: skip
_HOURS = ("", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %H:%M:%S%.f", "T%H:%M:%S", "%H%M%S")
FORMS = tuple(day + hour for day, hour in product(_DAYS, _HOURS))
ENOUGH = 0.98
"""Share of the texts that a form must read."""


def read_form(texts: pl.Series, form: str) -> pl.Series:
    """Texts of one form as instants, UTC where the form names no offset; null where they are of another one."""
    # Polars wants an hour in a datetime's form.
    if any(mark in form for mark in ("%H", "%I")):
        return texts.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC")
    days = texts.str.to_date(form, strict=False)
    return days.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def find_forms(texts: pl.Series) -> list[str]:
    """The forms that read nearly all of some texts, the likeliest first.

    Several fit where day and month cannot be told apart; the one by which the times never fall comes first.
    """
    first = texts.head(200)
    fitting = [form for form in FORMS if _share(first, form) >= ENOUGH]
    fitting = [form for form in fitting if _share(texts, form) >= ENOUGH]
    return sorted(fitting, key=lambda form: not read_form(texts, form).drop_nulls().is_sorted())


def _share(texts: pl.Series, form: str) -> float:
    """Share of the texts that a form reads as a time after 1900: forms without signs read nearly any numbers."""
    read = read_form(texts, form)
    return float((read.dt.year() >= 1900).sum()) / len(texts) if len(texts) else 0.0
