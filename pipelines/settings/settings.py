"""Environment and paths: one frozen Settings. With `variables.py` the only reader of these variables.

| variable | means | default |
|---|---|---|
| `MOMENTRANK_HOME` | folder of all that is written | `.momentrank` |
| `MOMENTRANK_DATA` | folders in which logs are looked for | `../shared/data` from here or from the repository |
| `MOMENTRANK_PROJECT` | project files that Dagster shows, with `:` between them | `projects/newsroom.toml` |
| `MOMENTRANK_SET` | overrides of the project file, `key.path=value`, one a line | none |
| `MOMENTRANK_TRACKING_URI` | MLflow tracking and registry | `sqlite:///HOME/mlflow.db` |
| `MOMENTRANK_ARTIFACTS` | folder or URL of MLflow's artifacts | `HOME/mlartifacts` |
| `MOMENTRANK_DAGSTER_POSTGRES` | PostgreSQL of Dagster's runs, events and schedules | SQLite in `HOME/dagster` |
| `MOMENTRANK_LAKE` | folder or URL of the tables | `HOME/lake` |
| `MOMENTRANK_STORAGE_OPTIONS` | keys and endpoints of the object store, as a JSON object | `{}` |
| `MOMENTRANK_ENGINE` | where work runs: `embedded` in this process, or `ray` | `embedded` |
| `MOMENTRANK_EXECUTOR` | steps of a run Dagster launches: `in_process`, or `multiprocess` (one each) | `in_process` |
| `MOMENTRANK_RAY_ADDRESS` | `HOST:PORT` of a Ray cluster's head, or `auto` | a Ray of our own, on this machine |
| `MOMENTRANK_RAY_CORES` | cores that each task, actor and training worker of Ray holds | 1 |
| `MOMENTRANK_SCRATCH` | folder or URL of what workers hand to each other | `HOME/scratch` |
| `MOMENTRANK_MLFLOW_URL` | where links to MLflow lead | `http://127.0.0.1:5000` |
| `MOMENTRANK_DAGSTER_URL` | where links to Dagster lead | `http://127.0.0.1:3000` |
| `MOMENTRANK_WEBHOOK` | where alerts are posted to, as JSON | nowhere: they are only logged |
| `MOMENTRANK_PSEUDONYM_KEY` | key that turns user ids into pseudonyms before they are written | ids stay |
"""

import os
import sysconfig
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, SecretStr

from features.config.project import Project
from features.config.project import load as load_project
from features.errors import ProjectError
from pipelines.settings import dagster_instance as instance
from pipelines.settings import variables

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_PROJECT = Path("projects/newsroom.toml")
SHIPPED = Path(sysconfig.get_path("data"), "share", "momentrank")
"""Folder of `projects` where the package was installed from a wheel."""
DEFAULT_DATA = Path("../shared/data")

_AWS = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_DEFAULT_REGION",
    "endpoint_url": "AWS_ENDPOINT_URL",
}

# Nothing calls home, and no library looks for weights on the network or forks with running threads.
PROCESS_ENVIRONMENT = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Waiting threads that spin make a busy machine ten times slower, and a quiet one no faster.
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else Ray warns in every process that a future version hides GPUs from those that asked for none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class Settings(BaseModel):
    """Where things are read from and written to. Paths are absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path
    data: tuple[Path, ...]
    """Folders that `MOMENTRANK_DATA` names."""
    project: Path
    overrides: tuple[str, ...]
    """`key.path=value`, as given to `--set`."""
    tracking_uri: str
    artifacts: str
    """URL of the folder or bucket of MLflow's artifacts."""
    dagster_postgres: str
    """Address of the database of the Dagster instance; empty for SQLite."""
    lake: str
    """Folder or URL of the Delta tables."""
    storage_options: dict[str, str]
    scratch: str
    """Folder or URL of what the workers of one piece of work hand to each other; all machines must reach it."""
    engine: Literal["embedded", "ray"] = "embedded"
    executor: Literal["in_process", "multiprocess"] = "in_process"
    """How the steps of a run that Dagster launches are executed; `momentrank run` executes them in its own process."""
    ray_address: str = ""
    """`HOST:PORT` of a cluster's head, or `auto`; empty for a Ray of our own."""
    ray_cores: int = 1
    """Cores of each task, actor and training worker."""
    mlflow_url: str
    dagster_url: str
    webhook: str = ""
    """Where alerts are posted to; empty for nowhere."""
    pseudonym_key: SecretStr = SecretStr("")
    """Key of `features/events/pseudonyms.py`; empty: user ids stay as they are."""

    @property
    def mlartifacts(self) -> Path:
        """Folder of MLflow's artifacts where no other place is named."""
        return self.home / "mlartifacts"

    @property
    def dagster_home(self) -> Path:
        """Folder of the Dagster instance: its configuration, the logs of its runs and, by default, its databases."""
        return self.home / "dagster"

    @property
    def reports(self) -> Path:
        """Folder of metrics and pages, one folder a project."""
        return self.home / "reports"

    @property
    def logs(self) -> Path:
        """Folder of what the servers of both pages write."""
        return self.home / "logs"

    @property
    def checkpoints(self) -> Path:
        """Folder from which an interrupted fine-tuning resumes."""
        return self.home / "checkpoints"

    @property
    def cache(self) -> Path:
        """Folder of what can be computed again: frozen text vectors."""
        return self.home / "cache"

    def source_folders(self) -> tuple[Path, ...]:
        """Folders in which relative source paths are looked for, after the project file's own; some may be missing."""
        nearby = ((place / DEFAULT_DATA).resolve() for place in (Path.cwd(), REPOSITORY))
        return tuple(dict.fromkeys((*self.data, *nearby)))

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
    """Settings from the environment and the current folder, of the first project that `MOMENTRANK_PROJECT` names.

    Raises ProjectError with the variable to mend.
    """
    home = variables.folder("MOMENTRANK_HOME", Path(".momentrank"))
    if home.exists() and not home.is_dir():
        raise ProjectError(f"MOMENTRANK_HOME is {home}, which is a file: name a folder")
    return Settings(
        home=home,
        data=_data_folders(),
        project=_project_files()[0],
        overrides=_overrides(),
        tracking_uri=variables.tracking_uri(home),
        artifacts=variables.artifacts(home),
        dagster_postgres=variables.dagster_postgres(),
        lake=variables.place("MOMENTRANK_LAKE", home / "lake"),
        storage_options=variables.storage_options(),
        scratch=variables.place("MOMENTRANK_SCRATCH", home / "scratch"),
        engine=variables.engine(),
        executor=variables.executor(),
        ray_address=variables.ray_address(),
        ray_cores=variables.ray_cores(),
        mlflow_url=variables.address("MOMENTRANK_MLFLOW_URL", "http://127.0.0.1:5000"),
        dagster_url=variables.address("MOMENTRANK_DAGSTER_URL", "http://127.0.0.1:3000"),
        webhook=variables.address("MOMENTRANK_WEBHOOK", "http://127.0.0.1:9000/alerts")
        if variables.read("MOMENTRANK_WEBHOOK")
        else "",
        pseudonym_key=SecretStr(variables.read("MOMENTRANK_PSEUDONYM_KEY")),
    )


def load_all() -> list[Settings]:
    """Settings of each project that `MOMENTRANK_PROJECT` names. Raises ProjectError."""
    first = load()
    return [first.model_copy(update={"project": file}) for file in _project_files()]


def find_project(file: Path) -> Path:
    """A project file here or among those that come with the package, absolute; here where there is none."""
    places = (place / file for place in (Path.cwd(), REPOSITORY, SHIPPED))
    return next((place.resolve() for place in places if place.is_file()), file.resolve())


def prepare(settings: Settings) -> None:
    """Make the folders, write `dagster.yaml` unless there is one, set what libraries read at import.

    Call before anything opens Dagster, MLflow or transformers. Raises ProjectError if HOME cannot be written.
    """
    try:
        # Whoever else uses the machine has no business with what people did; a folder that is there stays as it is.
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("mlartifacts", "dagster_home", "reports", "checkpoints", "cache"):
            getattr(settings, name).mkdir(parents=True, exist_ok=True)
        instance.write(settings.dagster_home, postgres=bool(settings.dagster_postgres))
    except OSError as error:
        raise ProjectError(
            f"{settings.home} cannot be written ({error.strerror or error}): "
            "set MOMENTRANK_HOME to a folder that can"
        ) from None
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    if settings.dagster_postgres:
        os.environ[instance.POSTGRES] = settings.dagster_postgres
    for name, value in (PROCESS_ENVIRONMENT | _object_store(settings)).items():
        os.environ.setdefault(name, value)


def environment(settings: Settings, *others: Settings) -> dict[str, str]:
    """The environment of a process that serves projects of one home: ours, and what `load_all` reads back.

    A variable that is not set stays so; folders are absolute, so that the process may run in any folder.
    """
    places = {
        "MOMENTRANK_DATA": os.pathsep.join(str(folder) for folder in settings.data),
        "MOMENTRANK_TRACKING_URI": settings.tracking_uri,
        "MOMENTRANK_ARTIFACTS": settings.artifacts,
        "MOMENTRANK_LAKE": settings.lake,
        "MOMENTRANK_SCRATCH": settings.scratch,
    }
    return {
        **os.environ,
        **{name: place for name, place in places.items() if variables.read(name)},
        "MOMENTRANK_HOME": str(settings.home),
        "MOMENTRANK_PROJECT": os.pathsep.join(str(one.project) for one in (settings, *others)),
        "MOMENTRANK_SET": "\n".join(settings.overrides),
        "MOMENTRANK_DAGSTER_URL": settings.dagster_url,
        "MOMENTRANK_MLFLOW_URL": settings.mlflow_url,
        # Else `python -m` looks for packages in the current folder first.
        "PYTHONSAFEPATH": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Not on a command line, where every user of the machine reads them.
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
        "MLFLOW_ARTIFACTS_DESTINATION": settings.artifacts,
    }


def initialise_dagster(settings: Settings) -> None:
    """Create or upgrade the tables of the Dagster instance, once per version and place."""
    prepare(settings)
    instance.upgrade(settings.dagster_home, settings.dagster_postgres.rpartition("@")[2])


def _data_folders() -> tuple[Path, ...]:
    named = tuple(
        Path(part).expanduser().resolve()
        for part in variables.read("MOMENTRANK_DATA").split(os.pathsep)
        if part
    )
    for folder in named:
        if not folder.is_dir():
            raise ProjectError(
                f"MOMENTRANK_DATA names {folder}, which is not a folder: "
                f"name folders that exist, with {os.pathsep!r} between them"
            )
    return named


def _project_files() -> list[Path]:
    named = variables.read("MOMENTRANK_PROJECT")
    parts = [named] if Path(named).is_file() else named.split(os.pathsep)
    files = [Path(part).expanduser().resolve() for part in parts if part]
    for file in files:
        if not file.is_file():
            raise ProjectError(
                f"MOMENTRANK_PROJECT names {file}, and no file is there: name a project's TOML, or several with "
                f"{os.pathsep!r} between them"
            )
    return files or [find_project(DEFAULT_PROJECT)]


def _overrides() -> tuple[str, ...]:
    lines = tuple(line.strip() for line in variables.read("MOMENTRANK_SET").splitlines() if line.strip())
    for line in lines:
        if "=" not in line:
            raise ProjectError(
                f"MOMENTRANK_SET has the line {line!r}: write key.path=value, for example ranker.num_leaves=15"
            )
    return lines


def _object_store(settings: Settings) -> dict[str, str]:
    """The keys and endpoint of `settings` under the names that MLflow's client of the object store reads."""
    given = {name.lower().removeprefix("aws_"): value for name, value in settings.storage_options.items()}
    return {name: given[key] for key, name in _AWS.items() if key in given}
