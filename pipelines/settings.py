"""Environment and paths: one frozen Settings. The only place of the code base that reads the environment.

| variable | means | default |
|---|---|---|
| `MOMENTRANK_HOME` | folder of all that is written | `.momentrank` |
| `MOMENTRANK_DATA` | folders in which logs are looked for | `../shared/data` from here or from the repository |
| `MOMENTRANK_PROJECT` | project file that the Dagster definitions are of | `projects/newsroom.toml` |
| `MOMENTRANK_SET` | overrides of the project file, `key.path=value`, one a line | none |
| `MOMENTRANK_TRACKING_URI` | MLflow tracking and registry | `sqlite:///HOME/mlflow.db` |
| `MOMENTRANK_ARTIFACTS` | folder or URL of MLflow's artifacts | `HOME/mlartifacts` |
| `MOMENTRANK_DAGSTER_POSTGRES` | PostgreSQL of Dagster's runs, events and schedules | SQLite in `HOME/dagster` |
| `MOMENTRANK_LAKE` | folder or URL of the tables | `HOME/lake` |
| `MOMENTRANK_STORAGE_OPTIONS` | keys and endpoints of the object store, as a JSON object | `{}` |
| `MOMENTRANK_MLFLOW_URL` | where links to MLflow lead | `http://127.0.0.1:5000` |
| `MOMENTRANK_DAGSTER_URL` | where links to Dagster lead | `http://127.0.0.1:3000` |
| `MOMENTRANK_WEBHOOK` | where alerts are posted to, as JSON | nowhere: they are only logged |
| `MOMENTRANK_PSEUDONYM_KEY` | key that turns user ids into pseudonyms before they are written | ids stay |
"""

import json
import os
import re
from pathlib import Path
from urllib.parse import urlparse

from pydantic import BaseModel, ConfigDict, SecretStr

from features.errors import ProjectError
from features.project import Project
from features.project import load as load_project
from pipelines import instance

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_PROJECT = Path("projects/newsroom.toml")
DEFAULT_DATA = Path("../shared/data")

_STORAGE_EXAMPLE = """write for example '{"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}'"""
_AWS = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_DEFAULT_REGION",
    "endpoint_url": "AWS_ENDPOINT_URL",
}
_STORES = ("file", "s3", "s3a", "gs", "az", "abfs", "abfss")

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
    artifacts: str
    """URL of the folder or bucket of MLflow's artifacts."""
    dagster_postgres: str
    """Address of the database of the Dagster instance; empty for SQLite."""
    lake: str
    """Folder or URL of the Delta tables."""
    storage_options: dict[str, str]
    mlflow_url: str
    dagster_url: str
    webhook: str = ""
    """Where alerts are posted to; empty for nowhere."""
    pseudonym_key: SecretStr = SecretStr("")
    """Key of `features/pseudonyms.py`; empty: user ids stay as they are."""

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
        artifacts=_artifacts(home),
        dagster_postgres=_dagster_postgres(),
        lake=_place("MOMENTRANK_LAKE", home / "lake"),
        storage_options=_storage_options(),
        mlflow_url=_address("MOMENTRANK_MLFLOW_URL", "http://127.0.0.1:5000"),
        dagster_url=_address("MOMENTRANK_DAGSTER_URL", "http://127.0.0.1:3000"),
        webhook=_address("MOMENTRANK_WEBHOOK", "http://127.0.0.1:9000/alerts")
        if _variable("MOMENTRANK_WEBHOOK")
        else "",
        pseudonym_key=SecretStr(_variable("MOMENTRANK_PSEUDONYM_KEY")),
    )


def prepare(settings: Settings) -> None:
    """Make the folders, write `dagster.yaml` unless there is one, set what libraries read at import.

    Call before anything opens Dagster, MLflow or transformers. Raises ProjectError if HOME cannot be written.
    """
    try:
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


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a process that serves this deployment: ours, and what `load` reads back as `settings`."""
    return {
        **os.environ,
        "MOMENTRANK_HOME": str(settings.home),
        "MOMENTRANK_PROJECT": str(settings.project),
        "MOMENTRANK_SET": "\n".join(settings.overrides),
        "MOMENTRANK_DATA": os.pathsep.join(str(folder) for folder in settings.data),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Not on a command line, where every user of the machine reads them.
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
        "MLFLOW_ARTIFACTS_DESTINATION": settings.artifacts,
    }


def initialise_dagster(settings: Settings) -> None:
    """Create or upgrade the tables of the Dagster instance, once per version and place."""
    prepare(settings)
    instance.upgrade(settings.dagster_home, settings.dagster_postgres.rpartition("@")[2])


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
    return _with_driver(uri)


def _dagster_postgres() -> str:
    url = _with_driver(_variable(instance.POSTGRES))
    if url and not url.startswith("postgresql+psycopg2://"):
        raise ProjectError(
            f"{instance.POSTGRES} does not begin with postgresql://: "
            "write postgresql://USER:PASSWORD@HOST/DATABASE, or unset it to keep the runs in SQLite"
        )
    return url


def _with_driver(url: str) -> str:
    """A PostgreSQL address with the driver that is installed: left to itself, SQLAlchemy takes another."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)


def _artifacts(home: Path) -> str:
    place = _place("MOMENTRANK_ARTIFACTS", home / "mlartifacts")
    return place if "://" in place else Path(place).as_uri()


def _place(name: str, default: Path) -> str:
    place = _variable(name)
    scheme, _, rest = place.partition("://")
    if not rest:
        return str(Path(place).expanduser().resolve() if place else default)
    if scheme not in _STORES:
        raise ProjectError(
            f"{name} is {place}: write a folder, or a URL that begins with {', '.join(_STORES)}"
        )
    return place


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


def _object_store(settings: Settings) -> dict[str, str]:
    """The keys and endpoint of `settings` under the names that MLflow's client of the object store reads."""
    given = {name.lower().removeprefix("aws_"): value for name, value in settings.storage_options.items()}
    return {name: given[key] for key, name in _AWS.items() if key in given}


def _address(name: str, default: str) -> str:
    address = _variable(name) or default
    parsed = urlparse(address)
    if parsed.scheme not in ("http", "https") or not parsed.netloc:
        raise ProjectError(f"{name} is {address!r}, which is no web address: write for example {default}")
    return address.rstrip("/")
