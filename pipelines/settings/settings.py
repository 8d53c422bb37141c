"""Settings of a deployment, from environment variables. Only this file reads them."""

import os
import re
import sysconfig
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlparse

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    SecretStr,
    ValidationError,
)

from features.config.project import Project
from features.config.project import load as load_project
from features.errors import ProjectError
from pipelines.settings import dagster_instance as instance

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


_STORES = ("file", "s3", "s3a", "gs", "az", "abfs", "abfss")
_RAY_ADDRESS = re.compile(r"auto|(\[[0-9A-Fa-f:]+\]|[^\s/:\[\]]+):\d+")
_UNSAFE = re.compile(r"[?\\\n\r]|%[0-9A-Fa-f]{2}")
_SECRET = ("storage_options", "dagster_postgres", "pseudonym_key", "webhook")
"""Settings whose values are not printed: a webhook's address may carry a token."""


def _folder(value: str | Path) -> Path:
    path = Path(value).expanduser().resolve()
    if _UNSAFE.search(str(path)):
        raise ValueError(
            "SQLite and Delta misread '?', backslashes, line breaks and percent codes such as %20 in a folder's name, "
            f"{path}: name a folder without them"
        )
    if path.exists() and not path.is_dir():
        raise ValueError("that is a file: name a folder")
    return path


def _folder_or_url(value: str) -> str:
    scheme, _, path = value.partition("://")
    if path and scheme not in _STORES:
        raise ValueError(f"write a folder, or a URL that starts with {', '.join(_STORES)}")
    return value if path else str(_folder(value))


def _artifacts(value: str) -> str:
    location = _folder_or_url(value)
    return location if "://" in location else Path(location).as_uri()


def _data_folders(value: str) -> tuple[Path, ...]:
    folders = tuple(Path(part).expanduser().resolve() for part in value.split(os.pathsep) if part)
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(
                f"{folder} is not a folder: name folders that exist, separated by {os.pathsep!r}"
            )
    return folders


def _project_files(value: str) -> list[Path]:
    parts = [value] if Path(value).is_file() else value.split(os.pathsep)
    files = [Path(part).expanduser().resolve() for part in parts if part]
    for file in files:
        if not file.is_file():
            raise ValueError(
                f"{file} does not exist: name a project's TOML, or several separated by {os.pathsep!r}"
            )
    return files or [find_project(DEFAULT_PROJECT)]


def _overrides(value: str) -> tuple[str, ...]:
    lines = tuple(line.strip() for line in value.splitlines() if line.strip())
    for line in lines:
        if "=" not in line:
            raise ValueError(f"line {line!r}: write key.path=value, for example ranker.num_leaves=15")
    return lines


def _tracking_uri(uri: str) -> str:
    if urlparse(uri).scheme in ("", "file"):
        raise ValueError(
            "MLflow no longer supports plain files: use sqlite:///FILE, postgresql://… or http://HOST:PORT, or unset it"
        )
    relative = re.match(r"sqlite:///(?![/:]|file:)(.+)", uri)
    return f"sqlite:///{Path(relative[1]).resolve()}" if relative else _with_driver(uri)


def _dagster_postgres(url: str) -> str:
    if not _with_driver(url).startswith("postgresql+psycopg2://"):
        raise ValueError(
            "write postgresql://USER:PASSWORD@HOST/DATABASE, or unset it to store runs in SQLite"
        )
    return _with_driver(url)


def _with_driver(url: str) -> str:
    """A PostgreSQL URL with the installed driver, which is not SQLAlchemy's default."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)


def _ray_address(address: str) -> str:
    if not _RAY_ADDRESS.fullmatch(address):
        raise ValueError(
            "write HOST:PORT of the cluster's head (as `ray start` prints it, without ray://), auto for the cluster "
            "that this machine has joined, or unset it for a local Ray"
        )
    return address


def _web_address(url: str) -> str:
    parsed = urlparse(url)
    if parsed.scheme not in ("http", "https") or not parsed.netloc:
        raise ValueError("not a web address: write, for example, http://127.0.0.1:5000")
    return url.rstrip("/")


FolderOrUrl = Annotated[str, AfterValidator(_folder_or_url)]
WebAddress = Annotated[str, AfterValidator(_web_address)]


def _in_home(name: str) -> Any:
    return Field(default_factory=lambda settings: str(settings["home"] / name))


class Settings(BaseModel):
    """Where data is read from and written to: `lake` is the variable `MOMENTRANK_LAKE`. Paths are absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Annotated[Path, AfterValidator(_folder)] = Field(Path(".momentrank"), validate_default=True)
    """Folder for everything that is written."""
    data: Annotated[tuple[Path, ...], BeforeValidator(_data_folders)] = ()
    """Folders to look for logs in, before `../shared/data` from here and from the repository."""
    project: Annotated[Path, BeforeValidator(lambda value: _project_files(value)[0])] = Field(
        default_factory=lambda: find_project(DEFAULT_PROJECT)
    )
    """Project files that Dagster shows, separated by `:`; here the first of them."""
    overrides: Annotated[tuple[str, ...], BeforeValidator(_overrides)] = Field((), alias="set")
    """`MOMENTRANK_SET`: overrides of the project file as for `--set`, one per line."""
    tracking_uri: Annotated[str, AfterValidator(_tracking_uri)] = Field(
        default_factory=lambda settings: f"sqlite:///{settings['home'] / 'mlflow.db'}"
    )
    """MLflow tracking server and registry."""
    artifacts: Annotated[str, AfterValidator(_artifacts)] = Field(
        default_factory=lambda settings: (settings["home"] / "mlartifacts").as_uri()
    )
    """Folder or URL of MLflow artifacts."""
    dagster_postgres: Annotated[str, AfterValidator(_dagster_postgres)] = ""
    """PostgreSQL for Dagster's runs, events and schedules; by default SQLite in `dagster_home`."""
    lake: FolderOrUrl = _in_home("lake")
    """Folder or URL of the Delta tables."""
    storage_options: Json[dict[str, str]] = {}
    """Credentials and endpoint of the object store, as a JSON object."""
    scratch: FolderOrUrl = _in_home("scratch")
    """Folder or URL through which workers exchange data; all machines must reach it."""
    engine: Literal["embedded", "ray"] = "embedded"
    """Where work runs: in this process, or on a Ray cluster."""
    executor: Literal["in_process", "multiprocess"] = "in_process"
    """Processes of a run that Dagster launches: one, or one per step. `momentrank run` always uses its own."""
    ray_address: Annotated[str, AfterValidator(_ray_address)] = ""
    """`HOST:PORT` of a cluster's head, or `auto`; by default a local Ray."""
    ray_cores: int = Field(1, ge=1)
    """Cores per Ray task and training worker."""
    mlflow_url: WebAddress = "http://127.0.0.1:5000"
    dagster_url: WebAddress = "http://127.0.0.1:3000"
    """URLs for links to MLflow and Dagster."""
    webhook: WebAddress = ""
    """URL to post alerts to, as JSON; by default they are only logged."""
    pseudonym_key: SecretStr = SecretStr("")
    """Key that turns user ids into pseudonyms before they are written (`features/events/pseudonyms.py`)."""

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
    names = (field.alias or name for name, field in Settings.model_fields.items())
    try:
        return Settings.model_validate({name: value for name in names if (value := _read(name))})
    except ValidationError as error:
        first = error.errors()[0]
        name, reason = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        found = "" if name in _SECRET else f" is {str(first['input'])!r}"
        example = (
            """: write for example '{"AWS_REGION": "eu-central-1"}'""" if name == "storage_options" else ""
        )
        raise ProjectError(f"MOMENTRANK_{name.upper()}{found}: {reason}{example}") from None


def _read(name: str) -> str:
    return os.environ.get(f"MOMENTRANK_{name.upper()}", "").strip()


def load_all() -> list[Settings]:
    """Settings for each project in `MOMENTRANK_PROJECT`. Raises ProjectError."""
    first = load()
    return [first.model_copy(update={"project": file}) for file in _project_files(_read("project"))]


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
    locations = {name: getattr(settings, name) for name in ("tracking_uri", "artifacts", "lake", "scratch")}
    locations["data"] = os.pathsep.join(map(str, settings.data))
    return {
        **os.environ,
        **{f"MOMENTRANK_{name.upper()}": value for name, value in locations.items() if _read(name)},
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


def _object_store(settings: Settings) -> dict[str, str]:
    """Storage options under the variable names that MLflow's object store client reads."""
    options = {name.lower().removeprefix("aws_"): value for name, value in settings.storage_options.items()}
    return {name: options[key] for key, name in _AWS.items() if key in options}
