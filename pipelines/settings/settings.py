"""Settings of a deployment, from environment variables. Only this file and `variables.py` read them.

| variable | means | default |
|---|---|---|
| `MOMENTRANK_HOME` | folder for everything that is written | `.momentrank` |
| `MOMENTRANK_DATA` | folders to look for logs in | `../shared/data` from here or from the repository |
| `MOMENTRANK_PROJECT` | project files that Dagster shows, separated by `:` | `projects/newsroom.toml` |
| `MOMENTRANK_SET` | overrides of the project file, `key.path=value`, one per line | none |
| `MOMENTRANK_TRACKING_URI` | MLflow tracking server and registry | `sqlite:///HOME/mlflow.db` |
| `MOMENTRANK_ARTIFACTS` | folder or URL of MLflow artifacts | `HOME/mlartifacts` |
| `MOMENTRANK_DAGSTER_POSTGRES` | PostgreSQL for Dagster's runs, events and schedules | SQLite in `HOME/dagster` |
| `MOMENTRANK_LAKE` | folder or URL of the tables | `HOME/lake` |
| `MOMENTRANK_STORAGE_OPTIONS` | credentials and endpoint of the object store, as a JSON object | `{}` |
| `MOMENTRANK_ENGINE` | where work runs: `embedded` (in this process) or `ray` | `embedded` |
| `MOMENTRANK_EXECUTOR` | processes of a run: `in_process`, or `multiprocess` (one per step) | `in_process` |
| `MOMENTRANK_RAY_ADDRESS` | `HOST:PORT` of a Ray cluster's head, or `auto` | a local Ray |
| `MOMENTRANK_RAY_CORES` | cores per Ray task and training worker | 1 |
| `MOMENTRANK_SCRATCH` | folder or URL through which workers exchange data | `HOME/scratch` |
| `MOMENTRANK_MLFLOW_URL` | URL for links to MLflow | `http://127.0.0.1:5000` |
| `MOMENTRANK_DAGSTER_URL` | URL for links to Dagster | `http://127.0.0.1:3000` |
| `MOMENTRANK_WEBHOOK` | URL to post alerts to, as JSON | none: alerts are only logged |
| `MOMENTRANK_PSEUDONYM_KEY` | key that turns user ids into pseudonyms before they are written | none |
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
"""Folder of `projects` if the package was installed from a wheel."""
DEFAULT_DATA = Path("../shared/data")

_AWS = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_DEFAULT_REGION",
    "endpoint_url": "AWS_ENDPOINT_URL",
}

# No telemetry, no downloads of weights, no forking with running threads.
PROCESS_ENVIRONMENT = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Spinning threads make a busy machine ten times slower, and an idle one no faster.
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Otherwise Ray warns in every process that a future version hides GPUs from tasks that request none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class Settings(BaseModel):
    """Where data is read from and written to. Paths are absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path
    data: tuple[Path, ...]
    """Folders that `MOMENTRANK_DATA` names."""
    project: Path
    overrides: tuple[str, ...]
    """`key.path=value`, as for `--set`."""
    tracking_uri: str
    artifacts: str
    """URL of the folder or bucket of MLflow artifacts."""
    dagster_postgres: str
    """URL of the Dagster instance's database; empty for SQLite."""
    lake: str
    """Folder or URL of the Delta tables."""
    storage_options: dict[str, str]
    scratch: str
    """Folder or URL through which workers exchange data; all machines must reach it."""
    engine: Literal["embedded", "ray"] = "embedded"
    executor: Literal["in_process", "multiprocess"] = "in_process"
    """Executor of runs that Dagster launches. `momentrank run` always uses its own process."""
    ray_address: str = ""
    """`HOST:PORT` of a cluster's head, or `auto`; empty for a local Ray."""
    ray_cores: int = 1
    """Cores per task and training worker."""
    mlflow_url: str
    dagster_url: str
    webhook: str = ""
    """URL to post alerts to; empty for none."""
    pseudonym_key: SecretStr = SecretStr("")
    """Key of `features/events/pseudonyms.py`; if empty, user ids are stored as they are."""

    @property
    def mlartifacts(self) -> Path:
        """Default folder of MLflow artifacts."""
        return self.home / "mlartifacts"

    @property
    def dagster_home(self) -> Path:
        """Folder of the Dagster instance: configuration, run logs and, by default, databases."""
        return self.home / "dagster"

    @property
    def reports(self) -> Path:
        """Folder of metrics and reports, one subfolder per project."""
        return self.home / "reports"

    @property
    def logs(self) -> Path:
        """Folder of server logs, run logs and tracebacks."""
        return self.home / "logs"

    @property
    def checkpoints(self) -> Path:
        """Folder from which an interrupted fine-tuning resumes."""
        return self.home / "checkpoints"

    @property
    def cache(self) -> Path:
        """Folder of cached text vectors."""
        return self.home / "cache"

    def source_folders(self) -> tuple[Path, ...]:
        """Folders to search for relative source paths, after the project file's own. Some may not exist."""
        nearby = ((folder / DEFAULT_DATA).resolve() for folder in (Path.cwd(), REPOSITORY))
        return tuple(dict.fromkeys((*self.data, *nearby)))

    def open_project(self) -> Project:
        """The project of the settings, with overrides. Raises ProjectError."""
        return load_project(self.project, self.overrides)

    def newsroom(self, project: str) -> Path:
        """Folder of the simulated newsroom's logs for a project."""
        return self.home / "newsroom" / project

    def report(self, project: str) -> Path:
        """Folder of one project's metrics.json and report."""
        return self.reports / project


def load() -> Settings:
    """Settings from the environment, for the first project in `MOMENTRANK_PROJECT`.

    Raises ProjectError, which names the variable to correct.
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
        lake=variables.folder_or_url("MOMENTRANK_LAKE", home / "lake"),
        storage_options=variables.storage_options(),
        scratch=variables.folder_or_url("MOMENTRANK_SCRATCH", home / "scratch"),
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
    """Settings for each project in `MOMENTRANK_PROJECT`. Raises ProjectError."""
    first = load()
    return [first.model_copy(update={"project": file}) for file in _project_files()]


def find_project(file: Path) -> Path:
    """Absolute path of a project file: in the current folder, else one of the package's, else as named."""
    candidates = (folder / file for folder in (Path.cwd(), REPOSITORY, SHIPPED))
    return next((path.resolve() for path in candidates if path.is_file()), file.resolve())


def prepare(settings: Settings) -> None:
    """Create the folders, write `dagster.yaml`, and set the variables that libraries read at import.

    Call before anything imports Dagster, MLflow or transformers. Raises ProjectError if the home cannot be written.
    """
    try:
        # Other users of the machine must not read personal data; an existing folder keeps its mode.
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("mlartifacts", "dagster_home", "reports", "checkpoints", "cache"):
            getattr(settings, name).mkdir(parents=True, exist_ok=True)
        instance.write(settings.dagster_home, postgres=bool(settings.dagster_postgres))
    except OSError as error:
        raise ProjectError(
            f"{settings.home} cannot be written ({error.strerror or error}): "
            "set MOMENTRANK_HOME to a writable folder"
        ) from None
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    if settings.dagster_postgres:
        os.environ[instance.POSTGRES] = settings.dagster_postgres
    for name, value in (PROCESS_ENVIRONMENT | _object_store(settings)).items():
        os.environ.setdefault(name, value)


def environment(settings: Settings, *others: Settings) -> dict[str, str]:
    """Environment of a child process that serves projects of one home; `load_all` there gives these settings.

    Unset variables stay unset. Folders are absolute, so that the process may run in any folder.
    """
    locations = {
        "MOMENTRANK_DATA": os.pathsep.join(str(folder) for folder in settings.data),
        "MOMENTRANK_TRACKING_URI": settings.tracking_uri,
        "MOMENTRANK_ARTIFACTS": settings.artifacts,
        "MOMENTRANK_LAKE": settings.lake,
        "MOMENTRANK_SCRATCH": settings.scratch,
    }
    return {
        **os.environ,
        **{name: value for name, value in locations.items() if variables.read(name)},
        "MOMENTRANK_HOME": str(settings.home),
        "MOMENTRANK_PROJECT": os.pathsep.join(str(each.project) for each in (settings, *others)),
        "MOMENTRANK_SET": "\n".join(settings.overrides),
        "MOMENTRANK_DAGSTER_URL": settings.dagster_url,
        "MOMENTRANK_MLFLOW_URL": settings.mlflow_url,
        # Otherwise `python -m` imports from the current folder first.
        "PYTHONSAFEPATH": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Not on the command line, which every user of the machine can read.
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
        "MLFLOW_ARTIFACTS_DESTINATION": settings.artifacts,
    }


def initialise_dagster(settings: Settings) -> None:
    """Create or upgrade the tables of the Dagster instance, once per version and storage."""
    prepare(settings)
    instance.upgrade(settings.dagster_home, settings.dagster_postgres.rpartition("@")[2])


def _data_folders() -> tuple[Path, ...]:
    folders = tuple(
        Path(part).expanduser().resolve()
        for part in variables.read("MOMENTRANK_DATA").split(os.pathsep)
        if part
    )
    for folder in folders:
        if not folder.is_dir():
            raise ProjectError(
                f"MOMENTRANK_DATA names {folder}, which is not a folder: "
                f"name folders that exist, separated by {os.pathsep!r}"
            )
    return folders


def _project_files() -> list[Path]:
    value = variables.read("MOMENTRANK_PROJECT")
    parts = [value] if Path(value).is_file() else value.split(os.pathsep)
    files = [Path(part).expanduser().resolve() for part in parts if part]
    for file in files:
        if not file.is_file():
            raise ProjectError(
                f"MOMENTRANK_PROJECT names {file}, which does not exist: name a project's TOML, or several separated "
                f"by {os.pathsep!r}"
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
    """Storage options under the variable names that MLflow's object store client reads."""
    options = {name.lower().removeprefix("aws_"): value for name, value in settings.storage_options.items()}
    return {name: options[key] for key, name in _AWS.items() if key in options}
