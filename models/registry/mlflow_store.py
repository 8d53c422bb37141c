"""The connection to the MLflow store: settings, errors, upgrades, and addresses after a home was moved."""

import logging
import os
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlparse
from urllib.request import url2pathname

from features.errors import ModelError, TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

Kind = Literal["ranker", "interest"]

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    # The default waits for minutes if the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_DAMAGED = ("file is not a database", "malformed")
_MISSING_FILE = ("no such artifact", "no such file or directory")
_ADDRESSES = {
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Table → its column with artifact addresses."""


@dataclass(frozen=True)
class Store:
    """The runs and model versions of one project in an MLflow store.

    Methods raise TrackingError if the store cannot be used, and ModelError for a version or alias that does not exist.
    Each sets `tracking_uri` for the whole process: MLflow has one at a time.
    """

    project: str
    tracking_uri: str
    """A database (`sqlite:////folder/mlflow.db`, `postgresql+psycopg2://…`) or a server (`http://…`)."""
    artifact_location: str | None = None
    """Where the project's artifacts go (`file:///folder/mlartifacts`); None: the server decides."""

    def name(self, kind: Kind) -> str:
        """Name of the registered model: `<project>-ranker` or `<project>-interest`."""
        return f"{self.project}-{kind}"

    def prepare(self) -> None:
        """Create or upgrade the database and create the project's experiment; cheap if both exist.

        A SQLite database that was moved or copied with its artifacts gets their new addresses.
        """
        with self._connected(first=True) as client:
            experiment = client.get_experiment(self._experiment_id(client))
            new, old = self.artifact_location, experiment.artifact_location
            if new and new != old and self.tracking_uri.startswith("sqlite:"):
                _relocate(self.tracking_uri, old, new)

    @contextmanager
    def _run(self, client: "MlflowClient", kind: str, tags: Mapping[str, str]) -> Iterator[str]:
        """A run named `<kind> <slice>`, marked as failed if the body fails."""
        import mlflow

        with mlflow.start_run(
            experiment_id=self._experiment_id(client),
            run_name=f"{kind} {tags['slice']}",
            tags={**tags, "kind": kind},
            nested=True,
        ) as active:
            yield str(active.info.run_id)

    def _experiment_id(self, client: "MlflowClient") -> str:
        import mlflow

        with suppress(mlflow.MlflowException):  # it exists, or another run creates it now
            if client.get_experiment_by_name(self.project) is None:
                client.create_experiment(self.project, artifact_location=self.artifact_location)
        return str(client.get_experiment_by_name(self.project).experiment_id)

    @contextmanager
    def _connected(self, first: bool = False) -> Iterator["MlflowClient"]:
        """A client of this store. Errors of MLflow, the network or the database become TrackingError.

        They become ModelError if the store works but a version's files are missing.
        """
        # Before MLflow is imported. Variables that are set stay.
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
        import mlflow
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if first:
                is_server = self.tracking_uri.startswith(("http://", "https://"))
                (_ping if is_server else _upgrade)(self.tracking_uri)
            mlflow.set_tracking_uri(self.tracking_uri)
            mlflow.set_registry_uri(self.tracking_uri)
            yield mlflow.MlflowClient()
        except (mlflow.MlflowException, SQLAlchemyError, OSError) as error:
            reason = str(error).strip().partition("\n")[0][:300]
            if not any(words in str(error).lower() for words in _MISSING_FILE):
                raise _unusable(self.tracking_uri, error, reason) from error
            raise ModelError(
                f"files of a version of {self.project} are missing ({reason}): restore MLflow's "
                f"artifacts in {self.artifact_location or 'its server'}, or run the slices again and promote a new "
                "version"
            ) from error


def shown(address: str) -> str:
    """An address with its credentials replaced by `…`."""
    return re.sub(r"//[^/@]*@", "//…@", address)


def _unusable(address: str, error: Exception, reason: str) -> TrackingError:
    location = shown(address)
    cause = f"{type(error).__name__}: {reason.replace(address, location)}"
    if address.startswith("sqlite:") and any(words in str(error) for words in _DAMAGED):
        return TrackingError(
            f"the MLflow database at {location} is damaged ({cause}): restore it from a backup, or move it away "
            "and run all slices again to register new versions"
        )
    return TrackingError(
        f"the MLflow store at {location} could not be used: {cause}. "
        "Start the server or correct its address; without an address, runs go to a local database"
    )


def _ping(server: str) -> None:
    with suppress(urllib.error.HTTPError):  # it responds; the next request reports its error better
        urllib.request.urlopen(f"{server.rstrip('/')}/health", timeout=3).close()


def _upgrade(database: str) -> None:
    """Upgrade a database to the schema of the installed MLflow, as `mlflow db upgrade` does.

    A new SQLite file is created under a temporary name and then linked: one that is interrupted half-way could not be
    upgraded.
    """
    from mlflow.store.db import utils
    from sqlalchemy import make_url

    utils._make_parent_dirs_if_sqlite(database)
    address = make_url(database)
    file = Path(address.database) if address.get_backend_name() == "sqlite" and address.database else None
    if file and not file.exists():
        draft = file.with_name(f"{file.name}.{uuid.uuid4()}")
        _upgrade_tables(str(address.set(database=str(draft))))
        with suppress(FileExistsError):  # another process created it first
            file.hardlink_to(draft)
        draft.unlink()
    _upgrade_tables(database)


def _upgrade_tables(database: str) -> None:
    from mlflow.store.db import utils

    # Not the engine with retries: it retries a broken file for 90 seconds.
    engine = utils.create_sqlalchemy_engine(database)
    utils._safe_initialize_tables(engine)
    utils._upgrade_db(engine)
    engine.dispose()


def _relocate(database: str, old: str, new: str) -> None:
    """Make experiments at `old` write to `new`, and update the addresses of artifacts that are now under `new`.

    `old` and `new` are URLs of folders. Artifacts that exist only under `old` keep their address.
    """
    from sqlalchemy import create_engine, text

    engine = create_engine(database)
    try:
        with engine.begin() as connection:
            for table, column in _ADDRESSES.items():
                rows = connection.execute(text(f"SELECT DISTINCT {column} FROM {table}"))
                for address in [row[0] for row in rows if row[0] and row[0].startswith(f"{old}/")]:
                    moved = new + address.removeprefix(old)
                    if _exists(moved) or not _exists(address):
                        connection.execute(
                            text(f"UPDATE {table} SET {column} = :moved WHERE {column} = :address"),
                            {"moved": moved, "address": address},
                        )
            connection.execute(
                text("UPDATE experiments SET artifact_location = :new WHERE artifact_location = :old"),
                {"new": new, "old": old},
            )
    finally:
        engine.dispose()


def _exists(address: str) -> bool:
    """Whether a local folder exists; True for remote addresses."""
    parsed = urlparse(address)
    return parsed.scheme != "file" or Path(url2pathname(parsed.path)).exists()
