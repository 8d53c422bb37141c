"""One deployment at work: its project, its settings, its lake and its registry, and what it reads from them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from features import sources
from features.config.project import Project
from features.errors import ModelError, ProjectError, SourceError
from features.events.validation import Events
from features.sources.simulation import newsroom
from features.state import MomentState, SliceEvents, names, restore, start
from models.interest_input import interest_input, interest_scores
from models.registry.quality import Table
from models.registry.registry import Kind, Registry
from models.registry.tracking import shown
from pipelines.compute.engine import Cluster, Embedded, Engine
from pipelines.event_log import EventLog, Record
from pipelines.identities import Privacy
from pipelines.lake import STATE, Lake
from pipelines.progress import Progress
from pipelines.settings.settings import PROCESS_ENVIRONMENT, Settings


class Version(NamedTuple):
    """A registered model version and the last slice that it was fitted on."""

    version: str
    slice: str


@dataclass(frozen=True)
class Deployment:
    """A project in its place. Opening one touches neither disk nor network."""

    project: Project
    settings: Settings
    progress: Progress = field(default_factory=Progress)
    """Receives how far work is, for a person who is waiting."""

    @cached_property
    def lake(self) -> Lake:
        """The project's tables."""
        return Lake(f"{self.settings.lake}/{self.project.name}", self.settings.storage_options)

    @cached_property
    def engine(self) -> Engine:
        """Where the work that can be cut runs."""
        given = self.settings
        if given.engine == "embedded":
            return Embedded()
        return Cluster(given.ray_address, given.ray_cores, PROCESS_ENVIRONMENT)

    def scratch(self, *names: str) -> str:
        """Folder or URL of what workers hand to each other in one piece of work, which removes it."""
        return "/".join([self.settings.scratch, self.project.name, *names])

    def shared_folder(self, *names: str) -> Path:
        """`scratch`, for what is mapped or loaded from a folder. Raises ProjectError where it is in an object store."""
        place = self.scratch(*names)
        if "://" in place:
            raise ProjectError(
                f"MOMENTRANK_SCRATCH is {self.settings.scratch}, and workers load models and arrays from a folder: "
                "name one that all machines share, or unset MOMENTRANK_ENGINE"
            )
        return Path(place)

    @property
    def cache(self) -> Path:
        """Folder of what is computed once of each text, reached by all workers. Raises as `shared_folder` does."""
        return self.settings.cache if self.settings.engine == "embedded" else self.shared_folder("cache")

    def fits(self, *names: str) -> Path:
        """Folder of a fit and its checkpoints, reached by all workers. Raises as `shared_folder` does."""
        if self.settings.engine == "embedded":
            return self.settings.checkpoints.joinpath(self.project.name, *names)
        return self.shared_folder("fits", *names)

    @cached_property
    def registry(self) -> Registry:
        """The project's model versions."""
        registry = Registry(self.project.name, self.settings.tracking_uri, self.settings.artifacts)
        registry.prepare()
        return registry

    @cached_property
    def privacy(self) -> Privacy:
        """How user ids are kept, and who was forgotten."""
        return Privacy(self.lake, self.settings.pseudonym_key.get_secret_value())

    @cached_property
    def log(self) -> EventLog:
        """Every event of the source's files, parsed once."""
        lock = self.settings.home / "locks" / f"{self.project.name}.event_log"
        return EventLog(self.lake, self.project, self.privacy, lock, self.tell)

    def ingest(self, slices: Iterable[str] | None = None) -> Events:
        """Parse the source's new files, then every event of some slices, by default of all that have begun.

        Raises SourceError where no row can be read, or a file changed.
        """
        self.take_in()
        self.log.require_rows()
        return self.log.events(self._begun(self.log.slices()) if slices is None else slices)

    def held(self) -> list[str]:
        """Slices that have begun and in which anything was shown or done, by the files parsed so far, in order."""
        return self._begun(self.log.slices("impressions", "interactions"))

    def _begun(self, slices: Iterable[str]) -> list[str]:
        """Those that are not yet to come."""
        now = datetime.now(UTC)
        return [key for key in slices if self.project.slices.window(key)[0] <= now]

    def take_in(self) -> list[Record]:
        """Parse the source's new files. Writes the newsroom's logs first."""
        if self.project.source.format == "newsroom":
            folder = self.settings.newsroom(self.project.name)
            newsroom.write(self.project, folder)
            paths = [folder / "events"]
        else:
            folders = [self.project.folder, *self.settings.source_folders()]
            wanted = self.project.source.path
            paths = [
                path
                for name in ([wanted] if isinstance(wanted, str) else wanted)
                if name
                for path in sources.resolve(name, folders)
            ]
        if paths:
            return self.log.take_in(paths)
        if not self.log.slices("impressions", "interactions"):
            raise SourceError(
                f"nothing has arrived in {self.project.source.landing} yet: put a log there and switch the sensor "
                "arriving_logs on, or name source.path"
            )
        return []

    def events(self, slice: str) -> SliceEvents:
        """The slice's events, from the lake."""
        return SliceEvents(
            **{
                name: self.lake.read(name, [slice]).drop("slice")
                for name in ("items", "impressions", "interactions")
            }
        )

    def state_before(self, slice: str) -> MomentState:
        """The moment state at the slice's start."""
        previous = self.project.slices.previous(slice)
        return self.state_after(previous) if previous else start(self.project)

    def state_after(self, slice: str) -> MomentState:
        """The moment state at the slice's end."""
        _, end = self.project.slices.window(slice)
        tables = {
            name: self.lake.read(f"{STATE}/{name}", [slice]).drop("slice") for name in names(self.project)
        }
        return restore(end, tables, self.project)

    def vectors(self, until: str) -> pl.DataFrame:
        """Text vectors of every item version up to a slice."""
        kept = [key for key in self.lake.slices("item_vectors") if key <= until]
        return self.lake.read("item_vectors", kept).drop("slice")

    def latest(self, kind: Kind, before: str, dagster_run: str | None = None) -> Version | None:
        """The version fitted on the latest slice before one; it cannot have seen that slice.

        Of several fitted on that slice, the one of a Dagster run where it made one, else the newest.
        """
        found = self.registry.latest(kind, before, dagster_run)
        return Version(*found) if found else None

    def evaluated(self, slice: str) -> Version | None:
        """The ranker version whose scores of a slice were evaluated, or None where nothing was."""
        if not self.lake.has("evaluation_scores", slice):
            return None
        columns = ("ranker_version", "ranker_slice")
        scored = self.lake.read("evaluation_scores", [slice], columns).unique()
        return Version(*scored.row(0)) if scored.height else None

    def interest_scores(self, state: MomentState, events: SliceEvents, model: Version | None) -> pl.DataFrame:
        """`schemas.InterestScores` of the impressions of `events`, by a version of the interest model."""
        folder = self.registry.interest_folder(model.version) if model else None
        given = interest_input(state, events, self.project)
        return interest_scores(given, folder, model.slice if model else None, self.settings.cache)

    def table_versions(self) -> dict[str, object]:
        """A tag that says which tables a model was fitted on: their names and Delta versions."""
        tables = ("items", "impressions", "interactions", "candidates", "features", "ranking_dataset")
        known = (f"{name}@{self.lake.version(name)}" for name in tables if self.lake.slices(name))
        return {"tables": " ".join(known)}

    def table(self, name: str) -> Table:
        """A table of the lake as it is now, for MLflow."""
        return Table(name, self.lake.version(name), self.lake.location(name))

    def tell(self, line: str) -> None:
        """Say a line that a person must see."""
        self.progress.tell(line)

    def watch(self, what: str) -> Callable[[dict[str, Any]], None]:
        """A progress callback for a fit, named `what`."""
        return partial(self.progress.watch, what)

    def require_versions(self, first: str) -> None:
        """Raise ModelError where slices before `first` were evaluated by versions that the registry does not know."""
        evaluated = [key for key in self.lake.slices("evaluation_scores") if key < first]
        if evaluated and not self.registry.versions("ranker"):
            raise ModelError(
                f"slice {evaluated[-1]} was evaluated by a version of {self.registry.name('ranker')}, and MLflow at "
                f"{shown(self.settings.tracking_uri)} knows none: its database was lost, or another is set. Put it "
                f"back, or run all slices again, without --from: momentrank run {self.settings.project}"
            )

    def champion(self) -> Version | None:
        """The ranker version that serves, or None before the first promotion."""
        found = self.registry.champion()
        return Version(*found) if found else None

    def serving(self, slice: str) -> Version | None:
        """The champion; before the first promotion, the newest ranker fitted up to a slice."""
        _, end = self.project.slices.window(slice)
        return self.champion() or self.latest("ranker", before=self.project.slices.key(end))
