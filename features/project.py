"""The project file (`projects/*.toml`): one deployment, described. Frozen pydantic models.

Unknown keys are errors that name the nearest known key. `load` reads a file and applies `--set` overrides.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from features.errors import ProjectError
from features.slices import Duration, Section, Slices, parse_duration


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
    """Shape `lists`: list column of items taken. `candidates`: 0/1 or a grade. `ratings`: the grade."""
    impression: str | None = None
    session: str | None = None
    known_at: str | None = None
    kind: str = "click"
    """Kind of the interactions read from `clicked`."""
    threshold: float = 0.0
    """A grade above this is an interaction."""
    sampled: int = Field(20, ge=1)
    """Shape `interactions`: size of the candidate list drawn around each interaction."""
    items_path: str | tuple[str, ...] | None = None
    item_key: str = "item_id"
    item_at: str | None = None
    """When an item version became known; without it, before everything."""


class Source(Section):
    """Where the logs are and what wire format they have."""

    format: Literal["metarank", "mind", "tables", "newsroom"]
    path: str | tuple[str, ...] = ""
    """Files or folders; relative ones are looked for beside the project file, then in the data folders."""
    known_after: Duration = timedelta(0)
    """Delay between an interaction and our knowing of it, for logs without an arrival time."""
    newsroom: NewsroomWorld = NewsroomWorld()
    tables: TableMapping | None = None


class Labels(Section):
    """What an interaction is worth, and for how long after a list was shown it counts."""

    gains: dict[str, float] = Field(default={"click": 1.0}, min_length=1)
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
    forget_after: Duration = timedelta(days=90)
    """What nothing touched for so long is forgotten: it keeps the state small."""
    prior_strength: float = Field(10.0, gt=0)
    """Exposures' worth of the prior rate in a smoothed rate."""
    recent: int = Field(20, ge=1)
    """Clicked and passed-over items whose text a candidate is compared with."""
    passed_per_list: int = Field(8, ge=0)
    """Items of a list, from its top, that are remembered as passed over when it is left."""
    remembered: int = Field(128, ge=1)
    """Moments of each user that the state keeps."""

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


class Ranker(Section):
    """LightGBM LambdaRank over a trailing window of slices."""

    window: int = Field(7, ge=1)
    rounds: int = Field(400, ge=1)
    early_stopping: int = Field(40, ge=1)
    learning_rate: float = Field(0.05, gt=0)
    leaves: int = Field(15, ge=2)
    min_leaf: int = Field(50, ge=1)
    position_bias: bool = True


class Promotion(Section):
    """When a challenger takes the champion's place."""

    metric: Literal["ndcg@5", "ndcg@10", "mrr", "auc"] = "ndcg@10"
    min_gain: float = 0.0
    """The lower end of the interval of (challenger − champion) must be above `min_gain − margin`."""
    margin: float = Field(0.005, ge=0)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    resamples: int = Field(1000, ge=100)


class Lists(Section):
    """Top-K lists for active users."""

    k: int = Field(10, ge=1)
    pool: int = Field(100, ge=1)
    users: int = Field(500, ge=1)
    """At most this many active users get a list."""


class Project(Section):
    """One deployment of MomentRank."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    seed: int = 1
    source: Source
    slices: Slices
    labels: Labels = Labels()
    items: ItemFields = ItemFields()
    context: Context = Context()
    features: Features = Features()
    interest: Interest = Interest()
    ranker: Ranker = Ranker()
    promotion: Promotion = Promotion()
    lists: Lists = Lists()
    folder: Path = Path()
    """Where the project file lies; relative source paths start here."""

    @model_validator(mode="after")
    def _source_is_complete(self) -> "Project":
        if self.source.format == "tables" and self.source.tables is None:
            raise ValueError('source.format = "tables" needs a [source.tables] section with a shape')
        if self.source.format != "newsroom" and not self.source.path:
            raise ValueError("source.path is missing: name the log's file or folder")
        return self

    @model_validator(mode="after")
    def _counters_stay_finite(self) -> "Project":
        shortest = self.features.seconds(self.features.half_lives[0])
        # Within a slice a fact is weighted by up to 2^(slice / half-life), and a float ends near 2^1024.
        if shortest is not None and self.slices.every.total_seconds() > 1000 * shortest:
            raise ValueError(
                f"features.half_lives: {self.features.half_lives[0]!r} is less than a thousandth of a slice "
                f"({self.slices.every}); choose a longer half-life or shorter slices"
            )
        return self


def load(path: Path, overrides: Iterable[str] = ()) -> Project:
    """Read a project file; apply `key.path=value` overrides, whose values are TOML.

    Raises ProjectError with the key, what was found and what was expected.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProjectError(
            f"no project file at {path} ({error.strerror}): name one, for example projects/newsroom.toml"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path} is not valid TOML: {error}") from None
    for override in overrides:
        _apply(content, override)
    if "folder" in content:
        raise ProjectError(f"{path} is wrong:\n  folder: unknown key; it is where the file lies")
    try:
        return Project.model_validate({**content, "folder": path.resolve().parent})
    except ValidationError as error:
        raise ProjectError(f"{path} is wrong:\n" + "\n".join(_sentence(e) for e in error.errors())) from None


def _apply(content: dict[str, Any], override: str) -> None:
    key, found, value = override.partition("=")
    if not found:
        raise ProjectError(
            f"--set {override!r} has no value: write key.path=value, for example ranker.leaves=15"
        )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        raise ProjectError(
            f"--set {override!r}: {value!r} is not a TOML value; text needs quotes, for example '{key}=\"{value}\"'"
        ) from None
    *sections, last = key.strip().split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ProjectError(f"--set {override!r}: {section!r} is a value, not a section")
    place[last] = parsed


def _sentence(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "known keys: " + ", ".join(known)
        return f"  {where}: unknown key; {hint}"
    return f"  {where or 'file'}: {error['msg'].removeprefix('Value error, ')} (found {str(error['input'])[:80]!r})"


def _known_keys(section: Iterable[object]) -> list[str]:
    model: type[BaseModel] = Project
    for part in section:
        annotation = model.model_fields[str(part)].annotation
        models = [a for a in (annotation, *getattr(annotation, "__args__", ())) if _is_model(a)]
        if not models:
            return []
        model = models[0]
    return sorted(set(model.model_fields) - {"folder"})


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
