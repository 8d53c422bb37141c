"""The sections of a project file, as frozen pydantic models. `features/config/project.py` puts them together."""

import re
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from features.config.slices import Duration, Section, parse_duration


class NewsroomWorld(Section):
    """Size of the embedded, seeded world."""

    days: int = Field(8, ge=2)
    users: int = Field(160, ge=4)
    articles_a_day: int = Field(60, ge=10)
    impressions_a_day: int = Field(1100, ge=10)
    list_size: int = Field(20, ge=3)


class TableMapping(Section):
    """Which column holds what, for logs in CSV, Parquet or JSON lines. See `features/sources/tables.py`."""

    shape: Literal["lists", "candidates", "interactions", "ratings"]
    user: str = "user_id"
    at: str = "timestamp"
    item: str = "item_id"
    """Item of a row; in shape `lists`, the list column of items shown."""
    clicked: str | None = None
    """Shape `lists`: list column of clicked items. Others: 0/1, true/false, yes/no or a grade."""
    impression: str | None = None
    session: str | None = None
    known_at: str | None = None
    kind: str = "click"
    """Kind of the interactions read from `clicked`."""
    separator: str = ""
    """Shape `lists`: what parts the ids of a text cell (`","`, `"|"`, `" "` for blanks). Found where it is empty."""
    time_format: str = ""
    """strptime form of times in text, such as `"%d/%m/%Y %H:%M"`. ISO 8601 and epoch numbers need none."""
    threshold: float = 0.0
    """A grade above this is an interaction."""
    sampled: int = Field(20, ge=1)
    """Shape `interactions`: size of the candidate list drawn around each interaction."""
    items_path: str | tuple[str, ...] | None = None
    item_key: str = "item_id"
    item_at: str | None = None
    """When an item version became known; without it, before everything."""

    @field_validator("time_format")
    @classmethod
    def _names_a_year(cls, text: str) -> str:
        if text and not re.search(r"%[-_0]?[YyFDGxcs+]", text):
            raise ValueError('write a strptime form with a year, for example "%d/%m/%Y %H:%M"')
        return text


class Source(Section):
    """Where the logs are and what wire format they have."""

    format: Literal["metarank", "mind", "tables", "newsroom"]
    path: str | tuple[str, ...] = ""
    """Files, folders or globs (`logs/*.csv`), looked for beside the project file, then in the data folders."""
    known_after: Duration = timedelta(0)
    """Delay between an interaction and our knowing of it, for logs without an arrival time."""
    landing: str = ""
    """Folder, or URL of an object store's prefix, in which logs arrive; a relative one lies beside the project file."""
    allowed_lateness: Duration = timedelta(days=2)
    """How late what happened may become known, beyond `known_after`, and still change slices that were closed."""
    chunk_rows: int = Field(500_000, ge=1)
    """Rows and candidates of a file that are parsed at a time: memory grows with them."""
    newsroom: NewsroomWorld = NewsroomWorld()
    tables: TableMapping | None = None


class Labels(Section):
    """What an interaction is worth, and for how long after a list was shown it counts."""

    gains: dict[str, Annotated[float, Field(ge=0)]] = Field(default={"click": 1.0}, min_length=1)
    graded: tuple[str, ...] = ()
    """Interaction kinds whose value multiplies their gain: with a gain of 1 a rating of 4 is a label of 4."""
    attribution: Duration = timedelta(minutes=30)


class ItemFields(Section):
    """Names of an item's fields in the log."""

    title: str = "title"
    body: str = "description"
    published_at: str | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()


class Context(Section):
    """Facts about the occasion of a list: fields of the log's impressions."""

    categorical: tuple[str, ...] = ()


class Features(Section):
    """What the moment state counts and what is read from it."""

    half_lives: tuple[str, ...] = ("1h", "6h", "1d", "7d", "none")
    select: tuple[str, ...] = ("*",)
    """Names or patterns of the columns wanted, `!` before those unwanted; of all that match, the last decides."""
    relative: tuple[Literal["z", "rank", "share", "best"], ...] = ("z",)
    """Forms in which a candidate's value is set against the list's others."""
    valued: tuple[str, ...] = ()
    """Interaction kinds whose value is averaged: seconds of `dwell`, stars of a `rating`."""
    session_gap: Duration = timedelta(minutes=30)
    """A list shown later than this after the one before begins a new session."""
    ttl: Duration = timedelta(days=90)
    """What nothing touched for so long is forgotten: it keeps the state small."""
    prior_strength: float = Field(10.0, gt=0)
    """Exposures' worth of the prior rate in a smoothed rate."""
    text_history: int = Field(128, ge=1)
    """Latest clicked items, and as many skipped ones, whose text a candidate is compared with."""
    skips_per_impression: int = Field(8, ge=0)
    """Items of a list, from its top, that are remembered as passed over when it is left."""
    max_history: int = Field(128, ge=1)
    """Moments of each user that the state keeps, and beside them up to `text_history` clicks and as many skips."""

    @model_validator(mode="after")
    def _known_half_lives(self) -> "Features":
        seconds = [0.0, *(parse_duration(text).total_seconds() for text in self.half_lives[:-1])]
        if self.half_lives[-1:] != ("none",) or any(b <= a for a, b in pairwise(seconds)):
            raise ValueError('features.half_lives go from short to long and end with "none"')
        return self

    def seconds(self, half_life: str) -> float | None:
        """Half-life in seconds; None for a counter that never forgets."""
        return None if half_life == "none" else parse_duration(half_life).total_seconds()


class Interest(Section):
    """The text encoder, how much of it is tuned, and the moment decoder."""

    encoder: str = "all-MiniLM-L6-v2"
    """Name of the packaged encoder, a folder, or a hub name already in the local cache."""
    tune: str = Field("top:1", pattern=r"^(frozen|full|lora|adalora|top:[1-9]\d*)$")
    rank: int = Field(8, ge=1)
    """Rank of the adapters of `lora` and `adalora`."""
    max_tokens: int = Field(48, ge=4)
    window: int = Field(128, ge=4)
    """Past moments that a candidate attends to."""
    width: int = Field(96, ge=8)
    layers: int = Field(1, ge=1)
    heads: int = Field(4, ge=1)
    attributes: bool = True
    """Whether items are also read by their declared attribute values."""
    numbers: bool = True
    """Whether items are also read by their declared numbers."""
    ids: bool = True
    """Whether items are also read by their id."""
    id_dropout: float = Field(0.2, ge=0, lt=1)
    """Share of items whose id is hidden in a training step, so that a new item falls back on the rest."""
    newcomers: float = Field(0.0, ge=0, lt=1)
    """Share of lists that are fitted once more with their user's past hidden, so that the scores of a user whom
    nobody met are learnt from many lists. 0.2 ranks new users' lists better by the score alone (docs/log.md)."""
    epochs: int = Field(2, ge=1)
    impressions_per_step: int = Field(32, ge=1)
    accumulate: int = Field(1, ge=1)
    """Passes of `impressions_per_step` whose gradients make one step."""
    texts_per_step: int = Field(32, ge=0)
    """Texts that carry gradient in one pass; the others come from the cache."""
    encoder_rate: float = Field(5e-5, gt=0)
    decoder_rate: float = Field(3e-3, gt=0)
    blend: float = Field(0.5, gt=0, le=1)
    """How far a slice moves the model from the version before towards what the slice alone would make of it."""
    holdout: float = Field(0.0, ge=0, lt=1)
    """Share of a slice's lists, the latest, that are watched instead of fitted; the best epoch is kept."""
    patience: int = Field(1, ge=1)
    """Epochs without a lower held-out loss after which a fit with a holdout ends."""
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "Interest":
        if rest := self.width % self.heads:
            raise ValueError(
                f"interest.width is {self.width}, which {self.heads} heads cannot share evenly: set it to a multiple "
                f"of interest.heads, such as {self.width - rest + self.heads}"
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
    """Share of the columns, drawn anew, that each tree may split on."""
    lambda_l2: float = Field(0.0, ge=0)
    """Penalty on the square of what a leaf adds to a score."""
    folds: int = Field(2, ge=1)
    """Last slices that are held out in turn to choose the number of rounds; each costs about one fit more."""
    position_bias: Literal["none", "learned", "propensity"] = "propensity"
    """What takes up the clicks that a place draws in training: nothing, offsets that LightGBM learns beside the
    trees, or `models/ranker/propensity.py`'s estimate from the log."""
    seeds: int = Field(1, ge=1)
    """Boosters fitted with seeds of their own, whose scores are averaged."""
    monotone: dict[str, Literal[-1, 1]] = Field(default={})
    """Feature name or pattern → 1 where more of it may never lower a score, -1 where it may never raise one."""


class Promotion(Section):
    """When a challenger takes the champion's place."""

    metric: Literal["ndcg@5", "ndcg@10", "mrr", "auc"] = "ndcg@10"
    min_gain: float = 0.0
    """The lower end of the interval of (challenger − champion) must be above `min_gain − margin`."""
    margin: float = Field(0.005, ge=0)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    resamples: int = Field(1000, ge=100)
    guard: dict[str, Annotated[float, Field(ge=0)]] = Field(default={"new_users": 0.03, "new_items": 0.03})
    """Segment → how far below the champion the challenger's mean may lie there."""
    calibration: float = Field(0.05, gt=0)
    """Most that a challenger's predicted click probability may lie off the click rate, on average."""


class Evaluation(Section):
    """Where a ranker's quality is looked at apart."""

    top_values: int = Field(4, ge=0)
    """Values of each declared categorical attribute that are segments: those of the most candidates."""
    hours: int = Field(6, ge=1, le=24)
    """Hours of the day in a segment."""
    min_impressions: int = Field(30, ge=1)
    """A segment with fewer evaluated impressions is left out."""


class Lists(Section):
    """Top-K lists for active users."""

    k: int = Field(10, ge=1)
    pool: int = Field(100, ge=1)
    users: int = Field(500, ge=1)
    """At most this many active users get a list."""


class Checks(Section):
    """From where on a slice is unusual, and what an unusual one does."""

    level: dict[str, Literal["warn", "block", "off"]] = Field(default={})
    """`table.check` → `warn` tells, `block` stops what comes after, `off` is not looked at."""
    trailing: int = Field(14, ge=1)
    """Slices before the newest with which it is compared."""
    min_history: int = Field(3, ge=2)
    """With fewer trailing slices than these nothing is called unusual."""
    anomaly: float = Field(6.0, gt=0)
    """Robust z-score of a slice's rows, or of its click rate, beyond which it is unusual."""
    unknown_items: float = Field(0.05, ge=0, le=1)
    """Most of the candidates that no log describes."""
    no_text: float = Field(0.05, ge=0, le=1)
    """Most of the item versions without any text."""
    rejected: float = Field(0.05, ge=0, le=1)
    """Most of a slice's rows that are refused."""
    max_psi: float = Field(0.5, gt=0)
    """Population stability index of a column, against the trailing slices, beyond which it may have drifted."""
    max_psi_ratio: float = Field(3.0, ge=1)
    """It has, if the index is also this many times what it was for the slice before."""
    text_drift: float = Field(0.2, gt=0, le=2)
    """Cosine distance between the mean text vector of a slice and of the trailing ones."""
    calibration: float = Field(0.05, gt=0, le=1)
    """Most that the mean predicted click probability may lie off the click rate."""
    requests: int = Field(3, ge=0)
    """Past lists whose features are read again as a request would read them."""
    max_difference: float = Field(1e-9, gt=0)
    """Most that such a feature may differ, relative to its size where that is above 1."""
    max_delay: Duration = timedelta(0)
    """How long after a slice could be run it may be missing; 0: a slice's length."""
    attribute_anomaly: float = Field(6.0, gt=0)
    """Standard deviations by which an attribute value's click rate leaves its trailing band."""
    min_exposures: int = Field(500, ge=1)
    """Fewest exposures of a value in a slice for its click rate to be evaluated."""


class Retention(Section):
    """How long what is known of people is kept. See docs/privacy.md."""

    keep: Duration | None = None
    """Age from which slices of tables about people are deleted; without it they stay."""


class Scale(Section):
    """How much of the work is done side by side. The numbers change where it runs, not what it gives."""

    buckets: int = Field(1, ge=1)
    """Parts that the people are cut into by a hash of their id: each part's features are made by itself."""
    trainers: int = Field(1, ge=1)
    """Workers that fine-tune the interest model together."""
    gpus: bool = False
    """Whether each of the trainers needs a GPU of its own."""
    rankers: int = Field(1, ge=1)
    """Workers that fit the ranker together once its window is larger than `in_memory`."""
    in_memory: int = Field(8_000_000, ge=1)
    """Candidates that one process fits a ranker on; of more, with one worker, whole lists are drawn at random.

    A million of 231 columns took 2.2 GB beside 0.75 GB for the process: the default needs about 18 GB.
    """
    scorers: int = Field(1, ge=1)
    """Actors that score interest side by side, each with the version loaded once."""
