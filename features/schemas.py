"""Dataframely schemas of every table that is stored or passed between files.

Instants are UTC microseconds and end in `_at`. Windows are half-open. Stored tables have one more column, `slice`.
"""

import ast
import inspect
import textwrap
from functools import cache

import dataframely as dy
import polars as pl

INSTANT = pl.Datetime("us", "UTC")
"""Type of every instant."""


def _instant(*, nullable: bool = False, primary_key: bool = False) -> dy.Datetime:
    return dy.Datetime(nullable=nullable, primary_key=primary_key, time_unit="us", time_zone="UTC")


class Items(dy.Schema):
    """Item versions: the content of an item from `known_at` on."""

    item_id = dy.String(primary_key=True, min_length=1)
    known_at = _instant(primary_key=True)
    """When this version became known; it is visible strictly after."""
    title = dy.String(nullable=False)
    body = dy.String(nullable=True)
    published_at = _instant(nullable=True)
    attributes = dy.List(dy.Struct({"name": dy.String(), "value": dy.String()}), nullable=False)
    """Declared categorical attributes (`category`, `tags`, `author`…), one entry per value."""
    numbers = dy.List(dy.Struct({"name": dy.String(), "value": dy.Float64()}), nullable=False)
    """Declared numeric attributes."""


class Impressions(dy.Schema):
    """One showing of a ranked list to a user: the ranking group."""

    impression_id = dy.String(primary_key=True, min_length=1)
    user_id = dy.String(nullable=False, min_length=1)
    shown_at = _instant()
    """When the list was shown. Only what was known strictly before may be used to rank it."""
    session_id = dy.String(nullable=True)
    context = dy.List(dy.Struct({"name": dy.String(), "value": dy.String()}), nullable=False)
    """Declared context fields (`surface`, `device`…), one per value; `(unlabelled)` if the label is unknown."""
    candidates = dy.List(
        dy.Struct({"item_id": dy.String(), "position": dy.Int32(), "propensity": dy.Float64(nullable=True)}),
        nullable=False,
        min_length=1,
    )
    """In the order shown; `position` counts from 1. `propensity`: as in `Candidates`."""


class Interactions(dy.Schema):
    """Any act of a user on an item, and when it became known."""

    interaction_id = dy.String(primary_key=True, min_length=1)
    impression_id = dy.String(nullable=True)
    """Null if it happened outside logged impressions."""
    user_id = dy.String(nullable=False, min_length=1)
    item_id = dy.String(nullable=False, min_length=1)
    kind = dy.String(nullable=False, min_length=1)
    """`click`, `share`…"""
    value = dy.Float64(nullable=True)
    """A rating, seconds of dwell, a price: depends on `kind`."""
    happened_at = _instant()
    known_at = _instant()
    """When it reached the log; it is visible strictly after."""


class Rejects(dy.Schema):
    """Refused rows, with their reason."""

    source = dy.String(nullable=False)
    """File name, relative to the source path."""
    line = dy.Int64(nullable=False)
    """From 1."""
    reason = dy.String(nullable=False)
    """A code, and after a colon its subject: `broken_json`, `missing_field:title`, `duplicate_id`…"""
    raw = dy.String(nullable=False)
    """The original row, cut at 4,000 characters."""


class Candidates(dy.Schema):
    """One row per impression and item shown in it."""

    impression_id = dy.String(primary_key=True)
    item_id = dy.String(primary_key=True)
    user_id = dy.String(nullable=False)
    position = dy.Int32(nullable=False)
    """Displayed position, from 1."""
    propensity = dy.Float64(nullable=True)
    """Probability, in (0, 1], that whatever ranked the impression shows this item at this position; null if unknown."""
    as_of = _instant()
    """When the impression was shown. Only what was known strictly before may be used."""
    label = dy.Float64(nullable=False)
    """The greatest gain among its interactions in the attribution window, else 0."""
    clicked = dy.Bool(nullable=False)
    """Whether `label` is positive."""


class Moments(dy.Schema):
    """Users' moments, the input of the interest model: one row per interaction or skipped item."""

    user_id = dy.String(nullable=False)
    item_id = dy.String(nullable=False)
    action = dy.String(nullable=False)
    """An interaction kind, or `skipped`: shown, and not clicked when the impression closed."""
    known_at = _instant()


class ItemVectors(dy.Schema):
    """Frozen text embeddings of item versions."""

    item_id = dy.String(primary_key=True)
    known_at = _instant(primary_key=True)
    vector = dy.List(dy.Float32(), nullable=False)
    """Of unit length."""


class InterestScores(dy.Schema):
    """Interest score of each candidate, from a model version that was not fitted on its slice."""

    impression_id = dy.String(primary_key=True)
    item_id = dy.String(primary_key=True)
    interest_score = dy.Float32(nullable=True, min=0, max=1)
    """Click probability; null if no model version existed yet."""
    interest_slice = dy.String(nullable=True)
    """Latest slice that the scoring version was fitted on."""


class RankedLists(dy.Schema):
    """Top-K list of each active user."""

    user_id = dy.String(primary_key=True)
    rank = dy.Int32(primary_key=True)
    """From 1."""
    item_id = dy.String(nullable=False)
    title = dy.String(nullable=False)
    rank_score = dy.Float64(nullable=False)
    """The ranker's score, by which lists are sorted."""
    click_probability = dy.Float64(nullable=True, min=0, max=1)
    """Null if the ranker has no calibration."""
    interest_score = dy.Float32(nullable=True)
    reasons = dy.String(nullable=False)
    """One sentence for a person."""


class TopicShifts(dy.Schema):
    """Figures of each attribute value in a slice, and whether they left the band expected from the trailing slices."""

    attribute = dy.String(primary_key=True)
    """A declared categorical attribute of items."""
    value = dy.String(primary_key=True)
    """One of its values: a topic."""
    figure = dy.String(primary_key=True)
    """`click_rate`, `predicted_rate` (mean interest score) or `share` (of the slice's candidates)."""
    shown = dy.Int64(nullable=False)
    """Candidates with the value."""
    trials = dy.Int64(nullable=False)
    """Candidates that `mean` is over."""
    mean = dy.Float64(nullable=False)
    """The figure in this slice."""
    expected = dy.Float64(nullable=True)
    """Mean over the trailing slices; null with too few of them, or too few candidates."""
    low = dy.Float64(nullable=True)
    """Lower end of the band that chance explains."""
    high = dy.Float64(nullable=True)
    """Its upper end."""
    shifted = dy.Bool(nullable=False)
    """Whether `mean` is outside the band."""
    since = dy.String(nullable=True)
    """First slice of an unbroken run of shifts in one direction."""
    typical = dy.List(dy.String(), nullable=False)
    """Ids of up to three items that are typical of the shift."""


class Exposure(dy.Schema):
    """Exposure at the top of evaluated impressions: one row per scorer, attribute and value.

    Counts can be summed over slices. Shares are of the total of the scorer and attribute, null if it is 0.
    """

    scorer = dy.String(nullable=False)
    attribute = dy.String(nullable=False)
    value = dy.String(nullable=True)
    """Null for items without a value. An item with several values counts for each in equal parts."""
    places = dy.Float64(nullable=False)
    """Positions among the first k of each impression."""
    candidates = dy.Float64(nullable=False)
    clicks = dy.Float64(nullable=False)
    share_of_positions = dy.Float64(nullable=True)
    share_of_candidates = dy.Float64(nullable=True)
    share_of_clicks = dy.Float64(nullable=True)


@cache
def column_descriptions(schema: type[dy.Schema]) -> dict[str, str]:
    """Column → docstring, parsed from source because Python does not keep attribute docstrings."""
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
    assert isinstance(declared, ast.ClassDef)
    descriptions = {}
    for column, below in zip(declared.body, declared.body[1:], strict=False):
        match column, below:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                descriptions[name] = inspect.cleandoc(text)
    return descriptions
