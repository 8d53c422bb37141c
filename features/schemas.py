"""Every table that crosses a file, as dataframely schemas. No computation.

Instants are UTC microseconds and end in `_at`. Windows are half-open. A table of the lake has one more
column, `slice`, which the lake writes and reads.
"""

import dataframely as dy


def _instant(*, nullable: bool = False, primary_key: bool = False) -> dy.Datetime:
    return dy.Datetime(nullable=nullable, primary_key=primary_key, time_unit="us", time_zone="UTC")


class Items(dy.Schema):
    """Versions of items: what an item said from `known_at` on."""

    item_id = dy.String(primary_key=True, min_length=1)
    known_at = _instant(primary_key=True)
    """From when on this version may be read."""
    title = dy.String(nullable=False)
    body = dy.String(nullable=True)
    published_at = _instant(nullable=True)
    attributes = dy.List(dy.Struct({"name": dy.String(), "value": dy.String()}), nullable=False)
    """Declared categorical attributes, one entry a value (`category`, `tags`, `author`…)."""
    numbers = dy.List(dy.Struct({"name": dy.String(), "value": dy.Float64()}), nullable=False)
    """Declared numeric attributes."""


class Impressions(dy.Schema):
    """One list shown once: the ranking group."""

    impression_id = dy.String(primary_key=True, min_length=1)
    user_id = dy.String(nullable=False, min_length=1)
    shown_at = _instant()
    """When the list was shown: nothing known at or after it may order the list."""
    session_id = dy.String(nullable=True)
    context = dy.List(dy.Struct({"name": dy.String(), "value": dy.String()}), nullable=False)
    """Declared facts about the occasion (`surface`, `device`…), one entry a value."""
    candidates = dy.List(
        dy.Struct({"item_id": dy.String(), "position": dy.Int32()}), nullable=False, min_length=1
    )
    """In the order shown; `position` counts from 1."""


class Interactions(dy.Schema):
    """What a user did with an item, and from when on we knew."""

    interaction_id = dy.String(primary_key=True, min_length=1)
    impression_id = dy.String(nullable=True)
    """Null: it happened outside the lists that were logged."""
    user_id = dy.String(nullable=False, min_length=1)
    item_id = dy.String(nullable=False, min_length=1)
    kind = dy.String(nullable=False, min_length=1)
    """A kind that the project declares (`click`, `share`…)."""
    value = dy.Float64(nullable=True)
    """A grade, seconds of dwell, a price: whatever the kind declares."""
    happened_at = _instant()
    known_at = _instant()
    """When it reached the log: it may be read strictly after this instant."""


class Rejects(dy.Schema):
    """Refused rows: nothing is dropped in silence."""

    source = dy.String(nullable=False)
    """File name, relative to the source's path."""
    line = dy.Int64(nullable=False)
    """Counts from 1."""
    reason = dy.String(nullable=False)
    """`broken_json`, `missing_field:title`, `duplicate_id`… : a code, then what it is about."""
    raw = dy.String(nullable=False)
    """The row as it came, cut at 4,000 characters."""


class Candidates(dy.Schema):
    """One row per (impression, item shown): what a ranker orders."""

    impression_id = dy.String(primary_key=True)
    item_id = dy.String(primary_key=True)
    user_id = dy.String(nullable=False)
    position = dy.Int32(nullable=False)
    """Where it was shown in the list, from 1."""
    as_of = _instant()
    """Everything known strictly before this instant may be used; nothing else."""
    label = dy.Float64(nullable=False)
    """The greatest declared gain among the interactions inside the attribution window; else 0."""
    clicked = dy.Bool(nullable=False)
    """Whether `label` is positive."""


class Moments(dy.Schema):
    """The stream a user's interest is read from: one row an interaction or an item passed over."""

    user_id = dy.String(nullable=False)
    item_id = dy.String(nullable=False)
    action = dy.String(nullable=False)
    """An interaction kind, or `passed`: shown, and not taken when the list was left."""
    known_at = _instant()


class ItemVectors(dy.Schema):
    """Frozen text embeddings of item versions, of unit length."""

    item_id = dy.String(primary_key=True)
    known_at = _instant(primary_key=True)
    vector = dy.List(dy.Float32(), nullable=False)
    """Of unit length."""


class InterestScores(dy.Schema):
    """The transformer's score of each candidate, by a version that never saw its slice."""

    impression_id = dy.String(primary_key=True)
    item_id = dy.String(primary_key=True)
    interest_score = dy.Float32(nullable=True, min=0, max=1)
    """Probability that the user takes it; null where no version existed yet."""
    interest_slice = dy.String(nullable=True)
    """Slice that the scoring version was fitted on last."""


class RankedLists(dy.Schema):
    """What a user would be shown."""

    user_id = dy.String(primary_key=True)
    rank = dy.Int32(primary_key=True)
    """Counts from 1."""
    item_id = dy.String(nullable=False)
    title = dy.String(nullable=False)
    rank_score = dy.Float64(nullable=False)
    """The ranker's score; lists are ordered by it."""
    click_probability = dy.Float64(nullable=True, min=0, max=1)
    """Null where the ranker was fitted without calibration."""
    interest_score = dy.Float32(nullable=True)
    reasons = dy.String(nullable=False)
    """One sentence."""


class Exposure(dy.Schema):
    """Who gets the first places of evaluated lists: one row a scorer, attribute and value.

    Counts of slices may be added up; shares are of the scorer's and attribute's sum, null where that is 0.
    """

    scorer = dy.String(nullable=False)
    attribute = dy.String(nullable=False)
    value = dy.String(nullable=True)
    """Null: items without a value. An item with several counts for each in equal parts."""
    places = dy.Float64(nullable=False)
    """Of the first k of each list."""
    candidates = dy.Float64(nullable=False)
    clicks = dy.Float64(nullable=False)
    share_of_positions = dy.Float64(nullable=True)
    share_of_candidates = dy.Float64(nullable=True)
    share_of_clicks = dy.Float64(nullable=True)
