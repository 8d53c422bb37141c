"""What a reject reason means, and the setting that fixes most such rows."""

_MEANINGS = {
    "bad_timestamp": "Times are read as ISO 8601 and as epoch numbers.",
    "bad_number": "Clicks are read as numbers, true/false and yes/no.",
    "bad_field": 'A key has another type than in Metarank\'s format, where items holds {"id": …} and fields holds '
    '{"name": …, "value": …}.',
    "bad_list": "Lists are read as JSON, as {a,b} and as text separated by blanks or one sign.",
    "broken_json": "JSON lines are expected, one object a line: jq -c . makes them.",
    "broken_row": "The row and the header differ in their number of cells: quote cells that contain the separator.",
    "duplicate_id": "The first of several rows with one id is kept.",
    "empty_list": "The row names no item.",
    "in_future": "The time is a month or more in the future: its unit or format was misread.",
    "invalid_utf8": "Save the file as UTF-8.",
    "item_not_shown": "The clicked id is not among the ids shown.",
    "known_before_happened": "known_at must not be before the time of the interaction.",
    "line_too_long": "A line may have 4 MB: write one row a line.",
    "missing_field": "The column or key is empty or has another name.",
    "missing_field:title": 'Name the column in items.title, or set items.title = "" where items have no titles.',
    "outside_timetable": "Set slices.start before the log's first row, and slices.end after its last or leave it out.",
    "truncated_gzip": "The gz file is truncated: send it again.",
    "unknown_event": "Events are item, ranking and interaction (Metarank's format).",
    "user_mismatch": "The interaction and its impression name different users.",
}
_SETTINGS = {
    "bad_timestamp": 'Declare another format: source.tables.time_format = "%d/%m/%Y %H:%M".',
    "bad_number": "Name the column of clicks or grades in source.tables.clicked.",
    "bad_list": 'Declare the separator: source.tables.separator = ",".',
    "duplicate_id": "If impressions have ids, name their column in source.tables.impression.",
    "in_future": "Declare its format in source.tables.time_format.",
    "item_not_shown": "Compare the columns source.tables.item and source.tables.clicked.",
    "missing_field": "Name it in [source.tables].",
}
"""For logs with a column mapping."""


def hint(reason: str, *, tables: bool) -> str:
    """Advice on a reject reason, in one or two sentences; empty if there is none. `tables`: the log has a mapping."""
    code = reason if reason in _MEANINGS else reason.partition(":")[0]
    return " ".join(text for text in (_MEANINGS.get(code), _SETTINGS.get(code) if tables else None) if text)
