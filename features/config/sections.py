"""The sections of a project file, as frozen pydantic models. `features/config/project.py` combines them."""

import re
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from features.config.extensions import Reference, checked
from features.config.slices import Duration, Instant, Section, parse_duration


class NewsroomWorld(Section):
    """Size of the built-in simulated world."""

    days: int = Field(8, ge=2)
    users: int = Field(160, ge=4)
    articles_a_day: int = Field(60, ge=10)
    impressions_a_day: int = Field(1100, ge=10)
    list_size: int = Field(20, ge=3)
    exploration: float = Field(0.0, ge=0, lt=1)
    """Share of positions that are swapped at random, as `[exploration]` does; then the log has propensities."""
    queries: float = Field(0.0, ge=0, le=1)
    """Share of impressions in which the user searches for a storyline."""


class TableMapping(Section):
    """Which column holds what, for logs in CSV, Parquet or JSON lines. See `features/sources/mapped_tables.py`."""

    shape: Literal["lists", "candidates", "interactions", "ratings"]
    user: str = "user_id"
    at: str = "timestamp"
    item: str = "item_id"
    """Column with the item id; in shape `lists`, with the list of items shown."""
    clicked: str | None = None
    """Shape `lists`: column with the list of clicked items. Other shapes: 0/1, true/false, yes/no or a grade."""
    impression: str | None = None
    session: str | None = None
    known_at: str | None = None
    propensity: str | None = None
    """Column with the probability that the item was shown at its position; in shape `lists`, with a list of them."""
    kind: str = "click"
    """Kind of the interactions read from `clicked`."""
    separator: str = ""
    """Shape `lists`: separator of the ids in a text cell (`","`, `"|"`, `" "` for blanks). Detected if empty."""
    time_format: str = ""
    """strptime format of text timestamps, such as `"%d/%m/%Y %H:%M"`. Not needed for ISO 8601 and epoch numbers."""
    threshold: float = 0.0
    """A grade above this counts as an interaction."""
    sampled: int = Field(20, ge=1)
    """Shape `interactions`: size of the candidate list drawn around each interaction."""
    items_path: str | tuple[str, ...] | None = None
    item_key: str = "item_id"
    item_at: str | None = None
    """Column with the time an item version became known; without it, items are known from the beginning."""
    items_in_log: bool = False
    """Whether each row also describes its item, as a post does: the item fields are columns of the log."""

    @field_validator("time_format")
    @classmethod
    def _names_a_year(cls, text: str) -> str:
        if text and not re.search(r"%[-_0]?[YyFDGxcs+]", text):
            raise ValueError('write a strptime format with a year, for example "%d/%m/%Y %H:%M"')
        return text

    @model_validator(mode="after")
    def _sampled_candidates_have_no_propensity(self) -> "TableMapping":
        if self.propensity and self.shape == "interactions":
            raise ValueError(
                "propensity needs the items that were shown, but shape interactions samples them: use another shape or "
                "remove propensity"
            )
        return self

    @model_validator(mode="after")
    def _rows_describe_one_item(self) -> "TableMapping":
        if self.items_in_log and (self.shape == "lists" or self.items_path is not None):
            raise ValueError(
                "items_in_log needs rows of one item and no items_path: use another shape, or remove one of the two"
            )
        return self


READERS = {
    "metarank": "features.sources.jsonl_events:METARANK",
    "mind": "features.sources.mind:MIND",
    "tables": "features.sources.mapped_tables:TABLES",
    "newsroom": "features.sources.jsonl_events:METARANK",
}
"""Built-in source formats and their readers."""


class Source(Section):
    """Where the logs are, and their format."""

    format: str
    """A name of READERS, or `module:object` for a `Reader` of your own."""
    path: str | tuple[str, ...] = ""
    """Files, folders or globs (`logs/*.csv`), relative to the project file or else to the data folders."""
    known_after: Duration = timedelta(0)
    """Delay from an interaction to its arrival in the log, for logs without an arrival time."""
    landing: str = ""
    """Landing folder, or URL of an object store prefix. A relative path starts at the project file's folder."""
    allowed_lateness: Duration = timedelta(days=2)
    """How late an interaction may arrive, beyond `known_after`, and still change a closed slice."""
    chunk_rows: int = Field(500_000, ge=1)
    """Rows and candidates parsed at a time; memory grows with it."""
    newsroom: NewsroomWorld = NewsroomWorld()
    tables: TableMapping | None = None

    @field_validator("format")
    @classmethod
    def _has_a_reader(cls, text: str) -> str:
        if text not in READERS and ":" not in text:
            raise ValueError(f"write {', '.join(READERS)}, or module:object for a reader of your own")
        return text if text in READERS else checked(text)


class Labels(Section):
    """Label gain of each interaction kind, and the attribution window."""

    gains: dict[str, Annotated[float, Field(ge=0)]] = Field(default={"click": 1.0}, min_length=1)
    graded: tuple[str, ...] = ()
    """Interaction kinds whose value multiplies their gain: with gain 1, a rating of 4 is a label of 4."""
    attribution: Duration = timedelta(minutes=30)


class ItemFields(Section):
    """Names of the item fields in the log."""

    title: str = "title"
    body: str = "description"
    published_at: str | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()


class Context(Section):
    """Context of an impression (`surface`, `device`…): names of its fields in the log."""

    categorical: tuple[str, ...] = ()
    query: str = ""
    """Field with the words of a request: what was searched for or wanted to know."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of all declared fields."""
        return (*self.categorical, self.query) if self.query else self.categorical

    @model_validator(mode="after")
    def _query_is_no_category(self) -> "Context":
        if self.query in self.categorical:
            raise ValueError(
                f"context.query: {self.query!r} is also in context.categorical: leave it out there; a query's own "
                "click rates are among the query features"
            )
        return self


class Features(Section):
    """What the moment state counts, and which features are computed."""

    half_lives: tuple[str, ...] = ("1h", "6h", "1d", "7d", "none")
    select: tuple[str, ...] = ("*",)
    """Names or patterns of the columns to compute; `!` excludes. The last matching pattern decides."""
    families: tuple[Reference, ...] = ()
    """Feature families of your own, as `module:function`."""
    relative: tuple[Literal["z", "rank", "share", "best"], ...] = ("z",)
    """Forms in which a candidate's value is compared with the rest of its impression."""
    valued: tuple[str, ...] = ()
    """Interaction kinds whose value is averaged: seconds of `dwell`, stars of a `rating`."""
    session_gap: Duration = timedelta(minutes=30)
    """An impression later than this after the user's previous one starts a new session."""
    ttl: Duration = timedelta(days=90)
    """State entries untouched for this long expire, which bounds the state's size."""
    prior_strength: float = Field(10.0, gt=0)
    """Weight of the prior in a smoothed rate, in exposures."""
    text_history: int = Field(128, ge=1)
    """Number of latest clicked items, and of skipped ones, that a candidate's text is compared with."""
    skips_per_impression: int = Field(8, ge=0)
    """Top positions of an impression whose unclicked items are recorded as skipped when it closes."""
    max_history: int = Field(128, ge=1)
    """Latest moments kept per user, besides up to `text_history` clicks and as many skips."""

    @model_validator(mode="after")
    def _known_half_lives(self) -> "Features":
        seconds = [0.0, *(parse_duration(text).total_seconds() for text in self.half_lives[:-1])]
        if self.half_lives[-1:] != ("none",) or any(b <= a for a, b in pairwise(seconds)):
            raise ValueError('features.half_lives must go from short to long and end with "none"')
        return self

    def seconds(self, half_life: str) -> float | None:
        """Half-life in seconds; None for no decay."""
        return None if half_life == "none" else parse_duration(half_life).total_seconds()


class BehaviourConfig(Section):
    """What the moment state counts and the catalogue computes."""

    labels: Labels = Labels()
    items: ItemFields = ItemFields()
    context: Context = Context()
    features: Features = Features()


class ReaderConfig(Section):
    """What a log reader needs."""

    source: Source
    items: ItemFields
    context: Context
    start: Instant
    """Start of the first slice: an undated item is known from just before it."""
    seed: int
    folder: Path
    """Folder of the project file."""


class Interest(Section):
    """The interest model: text encoder, how much of it is fine-tuned, and moment decoder."""

    encoder: str = "all-MiniLM-L6-v2"
    """The packaged encoder's name, a folder, or a hub name in the local cache."""
    tune: str = Field("top:1", pattern=r"^(frozen|full|lora|adalora|top:[1-9]\d*)$")
    rank: int = Field(8, ge=1)
    """Rank of `lora` and `adalora` adapters."""
    max_tokens: int = Field(48, ge=4)
    window: int = Field(128, ge=4)
    """Past moments that a candidate attends to."""
    width: int = Field(96, ge=8)
    layers: int = Field(1, ge=1)
    heads: int = Field(4, ge=1)
    attributes: bool = True
    """Whether item embeddings include declared attribute values."""
    numbers: bool = True
    """Whether item embeddings include declared numbers."""
    ids: bool = True
    """Whether item embeddings include an id embedding."""
    id_dropout: float = Field(0.2, ge=0, lt=1)
    """Share of items whose id embedding is dropped in a training step, which prepares the model for new items."""
    history_dropout: float = Field(0.0, ge=0, lt=1)
    """History dropout: share of impressions that are fitted once more with an empty history, for cold-start users.
    0.2 improved the interest score's own ranking for new users (docs/log.md)."""
    epochs: int = Field(2, ge=1)
    impressions_per_step: int = Field(32, ge=1)
    accumulate: int = Field(1, ge=1)
    """Passes of `impressions_per_step` whose gradients are accumulated into one step."""
    texts_per_step: int = Field(32, ge=0)
    """Texts encoded with gradients in one pass; the others come from the cache."""
    encoder_rate: float = Field(5e-5, gt=0)
    decoder_rate: float = Field(3e-3, gt=0)
    weight_averaging: float = Field(0.5, gt=0, le=1)
    """Weight averaging: weight of the newly fitted parameters against the previous version's; 1 keeps only the new."""
    holdout: float = Field(0.0, ge=0, lt=1)
    """Share of a slice's impressions, the latest, held out for validation; the best epoch is kept."""
    patience: int = Field(1, ge=1)
    """With a holdout, stop after this many epochs without a lower validation loss."""
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _width_is_divisible(self) -> "Interest":
        if remainder := self.width % self.heads:
            raise ValueError(
                f"interest.width is {self.width}, which is not divisible by {self.heads} heads: set it to a multiple "
                f"of interest.heads, such as {self.width - remainder + self.heads}"
            )
        return self


class Ranker(Section):
    """LightGBM LambdaRank over a trailing window of slices."""

    window: int = Field(7, ge=1)
    num_iterations: int = Field(400, ge=1)
    early_stopping_round: int = Field(30, ge=1)
    learning_rate: float = Field(0.05, gt=0)
    num_leaves: int = Field(15, ge=2)
    min_data_in_leaf: int = Field(50, ge=1)
    feature_fraction: float = Field(0.5, gt=0, le=1)
    """Share of the columns, sampled per tree, that it may split on."""
    lambda_l2: float = Field(0.0, ge=0)
    """L2 regularisation of leaf values."""
    folds: int = Field(2, ge=1)
    """Latest slices held out in turn to choose the number of iterations; each costs about one more fit."""
    position_bias: Literal["none", "learned", "propensity"] = "propensity"
    """Position bias correction in training: none, offsets that LightGBM learns beside the trees, or propensities
    estimated from the log (`models/ranker/propensity.py`)."""
    seeds: int = Field(1, ge=1)
    """Boosters fitted with different seeds; their scores are averaged."""
    monotone: dict[str, Literal[-1, 1]] = Field(default={})
    """Feature name or pattern → 1 if the score must not decrease with it, -1 if it must not increase."""


class Promotion(Section):
    """When a challenger replaces the champion."""

    metric: str = "ndcg@10"
    """ndcg@5, ndcg@10, mrr, auc, or the name of one of `evaluation.metrics`."""
    min_gain: float = 0.0
    """The lower end of the confidence interval of (challenger − champion) must exceed `min_gain − margin`."""
    margin: float = Field(0.005, ge=0)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    resamples: int = Field(1000, ge=100)
    guard: dict[str, Annotated[float, Field(ge=0)]] = Field(default={"new_users": 0.03, "new_items": 0.03})
    """Segment → how far the challenger's mean may fall below the champion's there."""
    calibration: float = Field(0.05, gt=0)
    """Maximum difference between a challenger's mean predicted click probability and the click rate."""


class Evaluation(Section):
    """Metrics and baselines of your own, and the segments in which quality is reported separately."""

    metrics: tuple[Reference, ...] = ()
    """As `module:function`."""
    baselines: tuple[Reference, ...] = ()
    """As `module:object`, each a `Baseline`."""

    top_values: int = Field(4, ge=0)
    """Number of values per categorical attribute that become segments, by number of candidates."""
    hours: int = Field(6, ge=1, le=24)
    """Length of the hour-of-day segments."""
    min_impressions: int = Field(30, ge=1)
    """Segments with fewer evaluated impressions are left out."""


class Lists(Section):
    """Top-K lists for active users."""

    k: int = Field(10, ge=1)
    pool: int = Field(100, ge=1)
    users: int = Field(500, ge=1)
    """At most this many active users get a list."""


class Exploration(Section):
    """Random swaps in live rankings: new items are shown too, and off-policy estimates stay possible."""

    share: float = Field(0.0, ge=0, lt=1)
    """Share of the near-best positions that show another near-best item than the ranker's."""
    near_best: int = Field(20, ge=2)
    """Only the first this many ranks are swapped."""


class Experiment(Section):
    """An experiment: some users' live rankings come from another ranker version than the champion."""

    challenger_share: float = Field(0.0, ge=0, lt=1)
    """Share of the users whose lists the challenger ranks; 0 for no experiment."""
    challenger: str = ""
    """Ranker version, for example `"7"`. It stays the same for the whole experiment."""
    since: Instant | None = None
    """Start of the experiment. Earlier impressions do not count."""
    min_lift: float = Field(0.05, gt=0)
    """Smallest relative difference of interest. Intervals are narrowest when about this much can be decided."""

    @model_validator(mode="after")
    def _names_a_challenger(self) -> "Experiment":
        if self.challenger_share and not (self.challenger.isdecimal() and self.since):
            raise ValueError(
                "experiment.challenger_share needs the challenger's version and the experiment's start: set "
                'experiment.challenger = "7" and experiment.since'
            )
        return self


class Checks(Section):
    """Thresholds of the monitors, and what happens beyond them."""

    level: dict[str, Literal["warn", "block", "off"]] = Field(default={})
    """`table.check` → `warn` reports, `block` stops downstream assets, `off` skips the check."""
    monitors: tuple[Reference, ...] = ()
    """Monitors of your own, as `module:object`, each a `Monitor`."""
    trailing: int = Field(14, ge=1)
    """Number of earlier slices that the newest is compared with."""
    min_history: int = Field(3, ge=2)
    """No anomaly is reported with fewer trailing slices."""
    anomaly: float = Field(6.0, gt=0)
    """Robust z-score of a slice's row count or click rate beyond which it is an anomaly."""
    unknown_items: float = Field(0.05, ge=0, le=1)
    """Maximum share of candidates without an item description."""
    no_text: float = Field(0.05, ge=0, le=1)
    """Maximum share of item versions without text."""
    rejected: float = Field(0.05, ge=0, le=1)
    """Maximum share of a slice's rows that are rejected."""
    max_psi: float = Field(0.5, gt=0)
    """Population stability index of a column against the trailing slices beyond which it may have drifted."""
    max_psi_ratio: float = Field(3.0, ge=1)
    """Drift is reported only if the index is also this many times that of the previous slice."""
    text_drift: float = Field(0.2, gt=0, le=2)
    """Maximum cosine distance between the mean text vectors of a slice and of the trailing slices."""
    calibration: float = Field(0.05, gt=0, le=1)
    """Maximum difference between mean predicted click probability and click rate."""
    requests: int = Field(3, ge=0)
    """Past impressions whose features are recomputed as live requests and compared."""
    max_difference: float = Field(1e-9, gt=0)
    """Maximum difference of a recomputed feature, relative where its magnitude exceeds 1."""
    max_delay: Duration = timedelta(0)
    """How long a slice may be missing after it could have run; 0 means one slice length."""
    false_alarms: float = Field(0.05, gt=0, lt=1)
    """Probability of an alarm in a slice whose attribute values did not change, over all tests of the slice."""
    min_exposures: int = Field(100, ge=1)
    """Minimum exposures of an attribute value in a slice for its figures to be tested."""


class Retention(Section):
    """How long user data is kept. See docs/privacy.md."""

    keep: Duration | None = None
    """Slices of user tables older than this are deleted; without it they are kept."""


class Scale(Section):
    """Parallelism. These settings change where work runs, not its results."""

    buckets: int = Field(1, ge=1)
    """Buckets that users are hashed into; features are computed per bucket."""
    trainers: int = Field(1, ge=1)
    """Workers that fine-tune the interest model in parallel."""
    gpus: bool = False
    """Whether each trainer needs its own GPU."""
    rankers: int = Field(1, ge=1)
    """Workers that fit the ranker in parallel once its window exceeds `in_memory`."""
    in_memory: int = Field(8_000_000, ge=1)
    """Maximum candidates that one process fits a ranker on; a single worker samples whole impressions beyond it.

    A million candidates of 231 columns took 2.2 GB, plus 0.75 GB for the process: the default needs about 18 GB.
    """
    scorers: int = Field(1, ge=1)
    """Workers that compute interest scores in parallel; each loads the model once."""
