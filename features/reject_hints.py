"""What a reason of a reject means for a project file: the setting that mends most rows of it."""

_HINTS = {
    "bad_timestamp": "Times are read as ISO 8601 and as epoch numbers: declare another form in "
    'source.tables.time_format, for example "%d/%m/%Y %H:%M".',
    "bad_number:clicked": "Clicks are read as numbers, true/false and yes/no: name the right column in "
    "source.tables.clicked.",
    "bad_list": "Lists are read as JSON, as {a,b} and as text parted by blanks or one sign: declare another one in "
    "source.tables.separator.",
    "broken_json": "JSON lines are expected, one object a line: jq -c . makes them.",
    "broken_row": "The row has other cells than the header: quote cells that hold the separator.",
    "duplicate_id": "Of rows with the same id the first is kept: source.tables.impression must name one impression a "
    "value.",
    "in_future": "The times lie after now: declare their form in source.tables.time_format, or check their unit.",
    "invalid_utf8": "Save the file as UTF-8.",
    "item_not_shown": "The clicked ids are not among the ids shown: compare both columns, and "
    "source.tables.separator.",
    "line_too_long": "A line may have 4 MB: write one row a line.",
    "missing_field": "The column or key is empty or has another name: name it in [source.tables] or [items].",
    "missing_field:title": 'Items without titles are declared by items.title = "".',
    "outside_timetable": "Set slices.start before the log's first row, and slices.end after its last or leave it out.",
    "truncated_gzip": "The gz breaks off: send it again, whole.",
    "unknown_event": "Events are item, ranking and interaction (Metarank's format).",
    "user_mismatch": "The click and its impression name different users.",
}


def hint(reason: str) -> str:
    """One sentence for a reason (`missing_field:title`, or its code alone); empty where nothing is known to help."""
    return _HINTS.get(reason) or _HINTS.get(reason.partition(":")[0], "")
