"""The project file (`projects/*.toml`): one deployment's configuration, as frozen pydantic models.

Unknown keys are errors that name the nearest known key. `load` reads a file and applies `--set` overrides.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from features.config.extensions import search
from features.config.sections import (
    BehaviourConfig,
    Checks,
    Context,
    Evaluation,
    Experiment,
    Exploration,
    Features,
    Interest,
    ItemFields,
    Labels,
    Lists,
    Promotion,
    Ranker,
    ReaderConfig,
    Retention,
    Scale,
    Source,
)
from features.config.segment_bands import AGES, HISTORIES, LENGTHS, hour_bands
from features.config.slices import Section, Slices
from features.errors import ProjectError


class Project(Section):
    """Configuration of one deployment."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)
    """Used in the names of folders, tables and registered models."""
    seed: int = 1
    source: Source
    slices: Slices
    labels: Labels = Labels()
    items: ItemFields = ItemFields()
    context: Context = Context()
    features: Features = Features()
    interest: Interest = Interest()
    ranker: Ranker = Ranker()
    evaluation: Evaluation = Evaluation()
    promotion: Promotion = Promotion()
    lists: Lists = Lists()
    exploration: Exploration = Exploration()
    experiment: Experiment = Experiment()
    checks: Checks = Checks()
    retention: Retention = Retention()
    scale: Scale = Scale()
    folder: Path = Path()
    """Folder of the project file; relative source paths and modules of extensions are there."""

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Let the process that unpickles a project import its extensions."""
        super().__setstate__(state)
        search(self.folder)

    @property
    def behaviour(self) -> BehaviourConfig:
        """The sections that the moment state and the catalogue depend on."""
        return BehaviourConfig(
            labels=self.labels, items=self.items, context=self.context, features=self.features
        )

    @property
    def reader(self) -> ReaderConfig:
        """The sections that log readers depend on."""
        return ReaderConfig(
            source=self.source,
            items=self.items,
            context=self.context,
            start=self.slices.start,
            seed=self.seed,
            folder=self.folder,
        )

    @model_validator(mode="after")
    def _source_is_complete(self) -> "Project":
        if self.source.format == "tables" and self.source.tables is None:
            raise ValueError('source.format = "tables" needs a [source.tables] section with a shape')
        if self.source.format != "newsroom" and not (self.source.path or self.source.landing):
            raise ValueError(
                "source.path is missing: set it to the log's file or folder, or set source.landing"
            )
        if self.source.format == "mind" and self.source.landing:
            raise ValueError(
                "source.landing cannot be used with MIND, whose two files must be read together: set source.path"
            )
        return self

    @model_validator(mode="after")
    def _retention_covers_the_window(self) -> "Project":
        keep, window = self.retention.keep, self.ranker.window * self.slices.every
        if keep is not None and keep < window:
            raise ValueError(
                f"retention.keep is {keep}, but a ranker is fitted on the last {window}: raise retention.keep "
                "or lower ranker.window"
            )
        return self

    @model_validator(mode="after")
    def _guards_are_segments(self) -> "Project":
        bands = {**LENGTHS, **HISTORIES, **AGES, **hour_bands(self.evaluation.hours)}
        attributes = tuple(f"{name}: " for name in self.items.categorical)
        for name in self.promotion.guard:
            is_value = name.startswith(attributes) and name not in attributes
            if not is_value and name not in ("new_users", "new_items", *bands):
                raise ValueError(
                    f"promotion.guard: {name!r} is not a segment and would never block; write new_users, new_items, a "
                    "declared categorical attribute and a value ('category: sport'), 'list of 6–10', "
                    "'history of 0 clicks', 'item 6–24 hours old' or '06–12 h', as in the evaluation report"
                )
        return self

    @model_validator(mode="after")
    def _queries_are_in_one_piece(self) -> "Project":
        if self.context.query and self.scale.buckets > 1:
            raise ValueError(
                "scale.buckets is more than 1, but query features look at all users' earlier queries: set it to 1, or "
                "remove context.query"
            )
        return self

    @model_validator(mode="after")
    def _promotion_metric_is_evaluated(self) -> "Project":
        own = (reference.partition(":")[2] for reference in self.evaluation.metrics)
        known = ("ndcg@5", "ndcg@10", "mrr", "auc", *own)
        if self.promotion.metric not in known:
            raise ValueError(
                f"promotion.metric is {self.promotion.metric!r}: write {', '.join(known)}, or name a metric of your "
                "own in evaluation.metrics"
            )
        return self

    @model_validator(mode="after")
    def _passes_are_divisible(self) -> "Project":
        passes, trainers = self.interest.accumulate, self.scale.trainers
        if passes % trainers:
            raise ValueError(
                f"scale.trainers: {passes} passes of a step cannot be divided among {trainers} trainers; set "
                f"interest.accumulate to a multiple of {trainers}, such as {trainers * -(-passes // trainers)}"
            )
        return self


def load(path: Path, overrides: Iterable[str] = ()) -> Project:
    """Read a project file and apply `key.path=value` overrides, whose values are TOML.

    Raises ProjectError, naming each wrong key with the value found and what was expected.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProjectError(
            f"no project file at {path} ({error.strerror}): give a path such as projects/newsroom.toml"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path} is not valid TOML: {error}") from None
    for override in overrides:
        _apply(content, override)
    if "folder" in content:
        raise ProjectError(f"{path} is invalid:\n  folder: cannot be set; it is the folder of the file")
    search(path.resolve().parent)
    try:
        return Project.model_validate({**content, "folder": path.resolve().parent})
    except ValidationError as error:
        raise ProjectError(f"{path} is invalid:\n" + "\n".join(_message(e) for e in error.errors())) from None


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise ProjectError(
            f"--set {override!r} has no value: write key.path=value, for example ranker.num_leaves=15"
        )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        raise ProjectError(
            f"--set {override!r}: {value!r} is not a TOML value; text needs quotes, for example '{key}=\"{value}\"'"
        ) from None
    *sections, last = key.strip().split(".")
    table = content
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ProjectError(f"--set {override!r}: {section!r} is a value, not a section")
    table[last] = parsed


def _message(error: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        nearest = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "known keys: " + ", ".join(known)
        return f"  {key}: unknown key; {hint}"
    # A section's own rules say which of its values they mean.
    found = "" if isinstance(error["input"], dict) else f" (found {str(error['input'])[:80]!r})"
    return f"  {key or 'file'}: {error['msg'].removeprefix('Value error, ')}{found}"


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
