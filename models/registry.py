"""The MLflow registry: registers, finds, aliases, loads and rolls back the versions of both models.

Two registered models a project, `<project>-ranker` and `<project>-interest`, one version a slice. A version
is created last, with all its tags, when its artifacts are in place: one that exists is complete.
"""

import importlib.metadata
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl

from features.errors import ModelError
from models import registered, tracking
from models.ranker import Ranker, load

Kind = Literal["ranker", "interest"]
Values = Sequence[tuple[str, float, int]]

CHAMPION = "champion"
CHALLENGER = "challenger"

_SERVING = "models.interest.serving"
_SERVED_WITH = ("torch", "transformers", "safetensors", "numpy", "pandas")


@dataclass(frozen=True)
class Registry:
    """Tracked runs and model versions of one project.

    Methods raise TrackingError when the store cannot be used and ModelError when a version or alias is asked
    for that does not exist. Each makes `tracking_uri` the process's own: MLflow knows one at a time.
    """

    project: str
    tracking_uri: str
    """A database (`sqlite:////folder/mlflow.db`, `postgresql+psycopg2://…`) or a server (`http://…`)."""
    artifact_location: str | None = None
    """Where the project's artifacts go (`file:///folder/mlartifacts`); None leaves it to the server."""

    def name(self, kind: Kind) -> str:
        """Name of the registered model: `<project>-ranker` or `<project>-interest`."""
        return f"{self.project}-{kind}"

    def prepare(self) -> None:
        """Create or upgrade the database, and create the project's experiment; cheap when that is done.

        Call it before anything runs in parallel: two first openings of one SQLite file collide.
        """
        with self._connected(first=True) as client:
            self._experiment_id(client)

    def register_ranker(
        self,
        ranker: Ranker,
        slice: str,
        dagster_run: str,
        metrics: Mapping[str, float | None],
        tags: Mapping[str, object],
        params: Mapping[str, object],
        example: pl.DataFrame,
        figures: Mapping[str, bytes] | None = None,
        ablations: Mapping[str, Ranker] | None = None,
    ) -> str:
        """Log and register a fitted ranker as `challenger`, its ablations beside it; returns its version.

        `example` is a few rows with at least the ranker's columns, `figures` are PNGs by name, `tags` go on
        run and version. A retry (same slice, same Dagster run) returns the version that is there.
        """
        rows = tracking.example_rows(ranker, example)
        tags = {**tags, "slice": slice, "dagster_run": dagster_run}
        values = tracking.measures(metrics)
        outputs = ranker.booster.predict(rows)
        model = {"name": "ranker", "lgb_model": ranker.booster}
        log_model = partial(_log_model, "lightgbm", ("lightgbm", "pandas"), rows, outputs, model)
        with tracking.ranker_folders(ranker, figures or {}, ablations or {}) as folders:
            return self._register("ranker", tags, values, params, folders, log_model)

    def register_interest(
        self,
        folder: Path,
        slice: str,
        dagster_run: str,
        metrics: Mapping[str, float | None],
        tags: Mapping[str, object],
        params: Mapping[str, object],
        example: Sequence[Mapping[str, Any]],
        curves: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Log and register the interest model saved in `folder` as `challenger`; returns its version.

        `params` is its configuration, `example` a few rows as `models.interest.serving` takes them, `curves`
        one mapping a training step: `step`, and what was measured at it. A retry (same slice, same Dagster
        run) returns the version that is there.
        """
        tags = {**tags, "slice": slice, "dagster_run": dagster_run}
        values = tracking.measures(metrics, curves)
        rows, outputs = tracking.served_rows(example)
        model = {"name": "interest", "loader_module": _SERVING, "data_path": str(folder)}
        log_model = partial(_log_model, "pyfunc", _SERVED_WITH, rows, outputs, model)
        return self._register("interest", tags, values, params, {}, log_model)

    def load_ranker(self, version_or_alias: str, ablation: str | None = None) -> Ranker:
        """The ranker of a version (`"3"`) or an alias (`"champion"`), or an ablation kept beside it."""
        with self._connected() as client:
            found = registered.find(client, self.name("ranker"), version_or_alias)
            return load(Path(client.download_artifacts(found.run_id, ablation or "bundle")))

    def interest_folder(self, version_or_alias: str) -> Path:
        """Local folder with an interest model's files; downloaded where the artifacts are remote."""
        with self._connected() as client:
            found = registered.find(client, self.name("interest"), version_or_alias)
            return Path(_download(f"models:/{found.name}/{found.version}"))

    def version_for(self, kind: Kind, slice: str) -> str | None:
        """The newest version fitted for a slice, or None."""
        with self._connected() as client:
            found = registered.search(client, self.name(kind), f"and tags.slice = '{slice}'")
            return str(found[0].version) if found else None

    def versions(self, kind: Kind) -> list[dict[str, Any]]:
        """All versions, oldest first: `version, slice, aliases, tags, metrics`."""
        with self._connected() as client:
            found = registered.search(client, self.name(kind), limit=100_000)
            aliases = registered.aliases(client, self.name(kind))
            runs = client.search_runs(
                [self._experiment_id(client)], f"tags.kind = '{kind}'", max_results=50_000
            )
        metrics = {run.info.run_id: run.data.metrics for run in runs}
        return [registered.row(one, aliases, metrics.get(one.run_id, {})) for one in reversed(found)]

    def tag(self, kind: Kind, version: str, key: str, value: object) -> None:
        """Set one tag of a version."""
        with self._connected() as client:
            registered.find(client, self.name(kind), version)
            client.set_model_version_tag(self.name(kind), version, key, str(value))

    def alias(self, kind: Kind, alias: str) -> str | None:
        """The version an alias points to, or None."""
        with self._connected() as client:
            return registered.aliases(client, self.name(kind)).get(alias)

    def set_alias(self, kind: Kind, alias: str, version: str) -> None:
        """Point an alias to a version."""
        with self._connected() as client:
            registered.find(client, self.name(kind), version)
            client.set_registered_model_alias(self.name(kind), alias, version)

    def promote(self, version: str) -> None:
        """Make a ranker version the champion and note on it which one it replaced."""
        champion = self.alias("ranker", CHAMPION)
        if champion == version:
            return
        # The alias moves last: stopped half-way, the champion is still the one it was.
        self.tag("ranker", version, "previous_champion", champion or "")
        self.tag("ranker", version, "promoted_at", datetime.now(UTC).isoformat(timespec="seconds"))
        self.set_alias("ranker", CHAMPION, version)

    def rollback(self) -> str:
        """Make the previous champion the champion again; returns its version. Can be repeated."""
        with self._connected() as client:
            champion = registered.find(client, self.name("ranker"), CHAMPION)
        previous = champion.tags.get("previous_champion")
        if not previous:
            raise ModelError(
                f"{self.name('ranker')} version {champion.version} is champion and replaced none: there is "
                f"nothing to roll back to. `momentrank promote` makes another version champion"
            )
        self.tag(
            "ranker", str(champion.version), "rolled_back_at", datetime.now(UTC).isoformat(timespec="seconds")
        )
        self.set_alias("ranker", CHAMPION, previous)
        return str(previous)

    def log_report(self, page: Path, slice: str) -> str:
        """Log an HTML page to a run named `report <slice>`; returns the run's id."""
        with self._connected() as client, self._run(client, "report", {"slice": slice}) as run:
            client.log_artifact(run, str(page))
            return run

    def url(self, kind: Kind, version: str, base: str = "http://127.0.0.1:5000") -> str:
        """Address of a version's page in the MLflow UI at `base`."""
        return f"{base.rstrip('/')}/#/models/{self.name(kind)}/versions/{version}"

    def _register(
        self,
        kind: Kind,
        tags: Mapping[str, object],
        values: Values,
        params: Mapping[str, object],
        folders: Mapping[str, Path],
        log_model: Callable[[], str],
    ) -> str:
        """Log a run with its folders and the model that `log_model` logs, then its version."""
        texts = {key: str(value) for key, value in tags.items()}
        same = f"and tags.slice = '{texts['slice']}' and tags.dagster_run = '{texts['dagster_run']}'"
        with self._connected() as client:
            if found := registered.search(client, self.name(kind), same):
                made = found[0]
            else:
                with self._run(client, kind, texts) as run:
                    _log(client, run, values, params)
                    for place, folder in folders.items():
                        client.log_artifacts(run, str(folder), place)
                    model = log_model()
                    if not client.search_registered_models(f"name = '{self.name(kind)}'"):
                        client.create_registered_model(self.name(kind))
                    made = client.create_model_version(
                        self.name(kind), f"models:/{model}", run, texts, model_id=model
                    )
            # A late retry of an old slice does not take the alias from a newer version.
            if int(made.version) > int(registered.aliases(client, self.name(kind)).get(CHALLENGER, 0)):
                client.set_registered_model_alias(self.name(kind), CHALLENGER, str(made.version))
            return str(made.version)

    @contextmanager
    def _run(self, client: Any, kind: str, tags: Mapping[str, str]) -> Iterator[str]:
        """A run named `<kind> <slice>`, marked failed when the body fails."""
        import mlflow

        with mlflow.start_run(
            experiment_id=self._experiment_id(client),
            run_name=f"{kind} {tags['slice']}",
            tags={**tags, "kind": kind},
            nested=True,
        ) as active:
            yield str(active.info.run_id)

    def _experiment_id(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.project)
        if found:
            return str(found.experiment_id)
        return str(client.create_experiment(self.project, artifact_location=self.artifact_location))

    @contextmanager
    def _connected(self, first: bool = False) -> Iterator[Any]:
        """A client of this store; what MLflow, the network or the database raise becomes TrackingError."""
        tracking.quieten()  # read when MLflow is imported
        import mlflow
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if first:
                (tracking.ask if tracking.is_server(self.tracking_uri) else _upgrade)(self.tracking_uri)
            mlflow.set_tracking_uri(self.tracking_uri)
            mlflow.set_registry_uri(self.tracking_uri)
            yield mlflow.MlflowClient()
        except (mlflow.MlflowException, SQLAlchemyError, OSError) as error:
            raise tracking.unusable(self.tracking_uri, error) from error


def _upgrade(database: str) -> None:
    """Bring a database to the schema of the installed MLflow, as `mlflow db upgrade` does."""
    from mlflow.store.db import utils

    utils._make_parent_dirs_if_sqlite(database)
    # Not the engine "with retry": that one keeps trying a broken file for a minute and a half.
    engine = utils.create_sqlalchemy_engine(database)
    utils._safe_initialize_tables(engine)
    utils._upgrade_db(engine)
    engine.dispose()


def _download(model: str) -> str:
    """Local folder with a generic model's own files."""
    import mlflow

    data = mlflow.models.get_model_info(model).flavors["python_function"]["data"]
    return str(mlflow.artifacts.download_artifacts(f"{model}/{data}"))


def _log(client: Any, run: str, values: Values, params: Mapping[str, object]) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    points = [Metric(name, value, now, step) for name, value, step in values]
    client.log_batch(run, params=[Param(key, str(value)) for key, value in params.items()])
    for start in range(0, len(points), 1000):  # the most that MLflow takes at once
        client.log_batch(run, metrics=points[start : start + 1000])


def _log_model(flavour: str, needs: Sequence[str], rows: Any, outputs: Any, model: Mapping[str, Any]) -> str:
    """Log a model for plain MLflow, with signature and example rows; returns the logged model's id."""
    import mlflow

    signature = mlflow.models.infer_signature(rows, outputs)
    # Named: inferring them imports the model in a process of its own, ten seconds a version. A local build
    # (`2.13.0+cpu`) is on no index.
    pinned = [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in needs]
    logged = getattr(mlflow, flavour).log_model(
        signature=signature, input_example=rows, pip_requirements=pinned, **model
    )
    return str(logged.model_id)
