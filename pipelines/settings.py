"""Environment and paths: one frozen Settings. The only place of the code base that reads the environment.

| variable | means | default |
|---|---|---|
| `MOMENTRANK_HOME` | folder of all that is written | `.momentrank` |
| `MOMENTRANK_DATA` | folders in which logs are looked for | `../shared/data` from here or from the repository |
| `MOMENTRANK_PROJECT` | project file that the Dagster definitions are of | `projects/newsroom.toml` |
| `MOMENTRANK_SET` | overrides of the project file, `key.path=value`, one a line | none |
| `MOMENTRANK_TRACKING_URI` | MLflow tracking and registry | `sqlite:///HOME/mlflow.db` |
| `MOMENTRANK_LAKE` | folder or URL of the tables | `HOME/lake` |
| `MOMENTRANK_STORAGE_OPTIONS` | keys and endpoints of the lake's object store, as a JSON object | `{}` |
| `MOMENTRANK_MLFLOW_URL` | where links to MLflow lead | `http://127.0.0.1:5000` |
| `MOMENTRANK_DAGSTER_URL` | where links to Dagster lead | `http://127.0.0.1:3000` |
"""

import contextlib
import fcntl
import io
import json
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse

from pydantic import BaseModel, ConfigDict

from features.errors import ProjectError
from features.project import Project
from features.project import load as load_project

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_PROJECT = Path("projects/newsroom.toml")
DEFAULT_DATA = Path("../shared/data")

DAGSTER_YAML = """\
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 2
  pools:
    default_limit: 1
run_monitoring:
  enabled: true
run_retries:
  enabled: true
  max_retries: 0
"""

_STORAGE_EXAMPLE = """write for example '{"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}'"""

# Nothing calls home, and no library looks for weights on the network or forks with running threads.
PROCESS_ENVIRONMENT = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Waiting threads that spin make a busy machine ten times slower, and a quiet one no faster.
    "OMP_WAIT_POLICY": "PASSIVE",
}


class Settings(BaseModel):
    """Where things are read from and written to. Paths are absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path
    data: tuple[Path, ...]
    """Folders in which relative source paths are looked for, after the project file's own."""
    project: Path
    overrides: tuple[str, ...]
    """`key.path=value`, as given to `--set`."""
    tracking_uri: str
    lake: str
    """Folder or URL of the Delta tables."""
    storage_options: dict[str, str]
    mlflow_url: str
    dagster_url: str

    @property
    def mlartifacts(self) -> Path:
        """Folder of MLflow's artifacts."""
        return self.home / "mlartifacts"

    @property
    def dagster_home(self) -> Path:
        """Folder of the Dagster instance: runs, events, schedules."""
        return self.home / "dagster"

    @property
    def reports(self) -> Path:
        """Folder of metrics and pages, one folder a project."""
        return self.home / "reports"

    @property
    def checkpoints(self) -> Path:
        """Folder from which an interrupted fine-tuning resumes."""
        return self.home / "checkpoints"

    @property
    def cache(self) -> Path:
        """Folder of what can be computed again: frozen text vectors."""
        return self.home / "cache"

    def open_project(self) -> Project:
        """The project that the settings name, overrides applied. Raises ProjectError."""
        return load_project(self.project, self.overrides)

    def newsroom(self, project: str) -> Path:
        """Folder of the raw logs that the embedded newsroom writes for a project."""
        return self.home / "newsroom" / project

    def report(self, project: str) -> Path:
        """Folder of one project's metrics.json and page."""
        return self.reports / project


def load() -> Settings:
    """Settings from the environment and the current folder. Raises ProjectError with the variable to mend."""
    home = Path(_variable("MOMENTRANK_HOME") or ".momentrank").expanduser().resolve()
    if home.exists() and not home.is_dir():
        raise ProjectError(f"MOMENTRANK_HOME is {home}, which is a file: name a folder")
    return Settings(
        home=home,
        data=_data_folders(),
        project=_project_file(),
        overrides=_overrides(),
        tracking_uri=_tracking_uri(home),
        lake=_lake(home),
        storage_options=_storage_options(),
        mlflow_url=_address("MOMENTRANK_MLFLOW_URL", "http://127.0.0.1:5000"),
        dagster_url=_address("MOMENTRANK_DAGSTER_URL", "http://127.0.0.1:3000"),
    )


def prepare(settings: Settings) -> None:
    """Make the folders, write `dagster.yaml` unless there is one, set what libraries read at import.

    Call before anything opens Dagster, MLflow or transformers. Raises ProjectError if HOME cannot be written.
    """
    try:
        for name in ("mlartifacts", "dagster_home", "reports", "checkpoints", "cache"):
            getattr(settings, name).mkdir(parents=True, exist_ok=True)
        instance = settings.dagster_home / "dagster.yaml"
        if not instance.exists():
            # Renamed into place, so that a process starting beside this one never reads half a file.
            draft = instance.with_name(f"dagster.yaml.{os.getpid()}")
            draft.write_text(DAGSTER_YAML, encoding="utf-8")
            draft.replace(instance)
    except OSError as error:
        raise ProjectError(
            f"{settings.home} cannot be written ({error.strerror or error}): "
            "set MOMENTRANK_HOME to a folder that can"
        ) from None
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    for name, value in PROCESS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a process that serves this deployment: ours, and what `load` reads back as `settings`."""
    return {
        **os.environ,
        "MOMENTRANK_HOME": str(settings.home),
        "MOMENTRANK_PROJECT": str(settings.project),
        "MOMENTRANK_SET": "\n".join(settings.overrides),
        "MOMENTRANK_DATA": os.pathsep.join(str(folder) for folder in settings.data),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def initialise_dagster(settings: Settings) -> None:
    """Create or upgrade the tables of the Dagster instance, as `dagster instance migrate` does.

    Once per Dagster version, and behind a lock: SQLite breaks when several processes open it first.
    """
    prepare(settings)
    stamp = settings.dagster_home / ".initialised"
    with _locked(settings.dagster_home / ".lock"):
        version = metadata.version("dagster")
        if stamp.exists() and stamp.read_text(encoding="utf-8") == version:
            return
        from dagster import DagsterInstance

        # Dagster prints a line for each store; nothing that a person running a project asked for.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            DagsterInstance.from_config(str(settings.dagster_home)) as instance,
        ):
            instance.upgrade()
        stamp.write_text(version, encoding="utf-8")


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def _data_folders() -> tuple[Path, ...]:
    named = [
        Path(part).expanduser().resolve() for part in _variable("MOMENTRANK_DATA").split(os.pathsep) if part
    ]
    for folder in named:
        if not folder.is_dir():
            raise ProjectError(
                f"MOMENTRANK_DATA names {folder}, which is not a folder: "
                f"name folders that exist, with {os.pathsep!r} between them"
            )
    fallbacks = [(place / DEFAULT_DATA).resolve() for place in (Path.cwd(), REPOSITORY)]
    return tuple(dict.fromkeys([*named, *fallbacks]))


def _project_file() -> Path:
    named = _variable("MOMENTRANK_PROJECT")
    if named:
        project = Path(named).expanduser().resolve()
        if not project.is_file():
            raise ProjectError(
                f"MOMENTRANK_PROJECT is {project}, and no file is there: name a project's TOML"
            )
        return project
    beside = (Path.cwd() / DEFAULT_PROJECT).resolve()
    return beside if beside.is_file() else REPOSITORY / DEFAULT_PROJECT


def _overrides() -> tuple[str, ...]:
    lines = tuple(line.strip() for line in _variable("MOMENTRANK_SET").splitlines() if line.strip())
    for line in lines:
        if "=" not in line:
            raise ProjectError(
                f"MOMENTRANK_SET has the line {line!r}: write key.path=value, for example ranker.leaves=15"
            )
    return lines


def _tracking_uri(home: Path) -> str:
    uri = _variable("MOMENTRANK_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    if urlparse(uri).scheme in ("", "file"):
        raise ProjectError(
            f"MOMENTRANK_TRACKING_URI is {uri!r}, and MLflow no longer keeps its records in plain files: "
            "use sqlite:///FILE, postgresql://… or http://HOST:PORT, or unset it"
        )
    return uri


def _lake(home: Path) -> str:
    place = _variable("MOMENTRANK_LAKE")
    if "://" in place:
        return place
    return str(Path(place).expanduser().resolve() if place else home / "lake")


def _storage_options() -> dict[str, str]:
    text = _variable("MOMENTRANK_STORAGE_OPTIONS")
    if not text:
        return {}
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        # Not quoted back: it holds keys that must not end in a log.
        raise ProjectError(f"MOMENTRANK_STORAGE_OPTIONS is not JSON ({error}): {_STORAGE_EXAMPLE}") from None
    if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
        raise ProjectError(f"MOMENTRANK_STORAGE_OPTIONS is not a JSON object of texts: {_STORAGE_EXAMPLE}")
    return options


def _address(name: str, default: str) -> str:
    address = _variable(name) or default
    parsed = urlparse(address)
    if parsed.scheme not in ("http", "https") or not parsed.netloc:
        raise ProjectError(f"{name} is {address!r}, which is no web address: write for example {default}")
    return address.rstrip("/")
