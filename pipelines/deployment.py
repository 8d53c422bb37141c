"""A deployment: a project with its settings, lake and registry, and the reads that assets and commands share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from features import sources
from features.config.project import Project
from features.errors import ModelError, ProjectError, SourceError
from features.events.validation import Events
from features.sources.simulation import newsroom
from models.registry.mlflow_store import shown
from models.registry.quality import Table
from models.registry.registry import Registry
from models.registry.versions import Version
from pipelines.compute.engine import Cluster, Engine
from pipelines.compute.scratch import Scratch
from pipelines.event_log import EventLog, Record
from pipelines.identities import Privacy
from pipelines.lake import Lake
from pipelines.progress import Progress
from pipelines.requests import Requests
from pipelines.settings.settings import PROCESS_ENVIRONMENT, Settings
from pipelines.slice_tables import SliceTables


@dataclass(frozen=True)
class Deployment:
    """A project and where it runs. Creating one touches neither disk nor network."""

    project: Project
    settings: Settings
    progress: Progress = field(default_factory=Progress)
    """Shows progress to the user."""

    @cached_property
    def lake(self) -> Lake:
        """The project's tables."""
        return Lake(f"{self.settings.lake}/{self.project.name}", self.settings.storage_options)

    @cached_property
    def slices(self) -> SliceTables:
        """The lake, read slice by slice."""
        return SliceTables(self.lake, self.project)

    @cached_property
    def engine(self) -> Engine:
        """Runs distributed work: in this process, or on Ray."""
        settings = self.settings
        if settings.engine == "embedded":
            return Engine()
        return Cluster(settings.ray_address, settings.ray_cores, PROCESS_ENVIRONMENT)

    def scratch(self, *names: str) -> Scratch:
        """Folder or URL through which workers exchange data; each job removes its own."""
        root = "/".join([self.settings.scratch, self.project.name, *names])
        return Scratch(root, self.settings.storage_options)

    def shared_folder(self, *names: str) -> Path:
        """`scratch` as a local folder. Raises ProjectError if it is in an object store."""
        folder = self.scratch(*names).root
        if "://" in folder:
            raise ProjectError(
                f"MOMENTRANK_SCRATCH is {self.settings.scratch}, but workers load models and arrays from a folder: "
                "set it to one that all machines share, or unset MOMENTRANK_ENGINE"
            )
        return Path(folder)

    @property
    def cache(self) -> Path:
        """Folder of cached text vectors, reached by all workers. Raises as `shared_folder` does."""
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
    def requests(self) -> Requests:
        """Ranks and explains on request."""
        return Requests(self.slices, self.registry, self.settings.cache)

    @cached_property
    def privacy(self) -> Privacy:
        """Pseudonyms of user ids, and forgotten users."""
        return Privacy(self.lake, self.settings.pseudonym_key.get_secret_value())

    @cached_property
    def log(self) -> EventLog:
        """The event log: every file of the source, parsed once."""
        lock = self.settings.home / "locks" / f"{self.project.name}.event_log"
        return EventLog(self.lake, self.project, self.privacy, lock, self.tell)

    def ingest(self, slices: Iterable[str] | None = None) -> Events:
        """Parse the source's new files; return the events of `slices`, by default of all that have begun.

        Raises SourceError if no row could be read or a parsed file changed.
        """
        self.take_in()
        self.log.require_rows()
        return self.log.events(self._begun(self.log.slices()) if slices is None else slices)

    def slices_with_events(self) -> list[str]:
        """Slices that have begun and have impressions or interactions in the files parsed so far, in order."""
        return self._begun(self.log.slices("impressions", "interactions"))

    def _begun(self, slices: Iterable[str]) -> list[str]:
        """The slices whose start is not in the future."""
        now = datetime.now(UTC)
        return [key for key in slices if self.project.slices.window(key)[0] <= now]

    def take_in(self) -> list[Record]:
        """Parse the source's new files; a newsroom's logs are written first. Returns their records."""
        if self.project.source.format == "newsroom":
            folder = self.settings.newsroom(self.project.name)
            newsroom.write(self.project.reader, folder)
            paths = [folder / "events"]
        else:
            folders = [self.project.folder, *self.settings.source_folders()]
            names = self.project.source.path
            paths = [
                path
                for name in ([names] if isinstance(names, str) else names)
                if name
                for path in sources.resolve(name, folders)
            ]
        if paths:
            return self.log.take_in(paths)
        if not self.log.slices("impressions", "interactions"):
            raise SourceError(
                f"no files have arrived in {self.project.source.landing} yet: put a log there and switch on the sensor "
                "arriving_logs, or set source.path"
            )
        return []

    def table_versions(self) -> dict[str, object]:
        """The tag `tables`: names and Delta versions of the tables that a model is fitted on."""
        tables = ("items", "impressions", "interactions", "candidates", "features", "ranking_dataset")
        versions = (f"{name}@{self.lake.version(name)}" for name in tables if self.lake.slices(name))
        return {"tables": " ".join(versions)}

    def table(self, name: str) -> Table:
        """A table of the lake at its current version, as an MLflow dataset."""
        return Table(name, self.lake.version(name), self.lake.location(name))

    def require_ranker(self) -> Version:
        """The serving ranker. Raises ModelError if there is none yet."""
        slices = self.lake.slices("ranking_dataset")
        serving = self.registry.serving(self.project.slices.following(slices[-1])) if slices else None
        if serving is None:
            raise ModelError(f"no ranker is registered yet: momentrank run {self.settings.project}")
        return serving

    def tell(self, line: str) -> None:
        """Show a line to the user."""
        self.progress.tell(line)

    def watch(self, what: str) -> Callable[[dict[str, Any]], None]:
        """A progress callback for the fit named `what`."""
        return partial(self.progress.watch, what)

    def require_versions(self, first: str) -> None:
        """Raise ModelError if slices before `first` were evaluated but the registry has no versions."""
        evaluated = [key for key in self.lake.slices("evaluation_scores") if key < first]
        if evaluated and not self.registry.versions("ranker"):
            raise ModelError(
                f"slice {evaluated[-1]} was evaluated by a version of {self.registry.name('ranker')}, but MLflow at "
                f"{shown(self.settings.tracking_uri)} has none: its database was lost, or another one is set. "
                f"Restore it, or run all slices again, without --from: momentrank run {self.settings.project}"
            )
