"""The MLflow registry: registers, finds, aliases, loads and rolls back the versions of both models.

One version a slice of each. It is created last, with all its tags, when its artifacts are in place: one that
exists is complete.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import ModelError
from models.ranker import Ranker, load
from models.ranker.serving import FULL
from models.registry import tracking
from models.registry import versions as registered
from models.registry.champion import CHAMPION, Champions, Kind
from models.registry.erasure import Erasures
from models.registry.quality import Table
from models.registry.ranker_card import shortened
from models.registry.relocation import relocate
from models.registry.shipping import shipped

__all__ = ["CHALLENGER", "CHAMPION", "Kind", "Registry"]

CHALLENGER = "challenger"

Values = Sequence[tuple[str, float, int]]


@dataclass(frozen=True)
class Registry(Champions, Erasures):
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

        A SQLite database that was moved or copied with its artifacts is brought to where they are now.
        """
        with self._connected(first=True) as client:
            experiment = client.get_experiment(self._experiment_id(client))
            new, old = self.artifact_location, experiment.artifact_location
            if new and new != old and self.tracking_uri.startswith("sqlite:"):
                relocate(self.tracking_uri, old, new)

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
        card: str = "",
        trained_on: Sequence[Table] = (),
    ) -> str:
        """Log and register a fitted ranker as `challenger`, its ablations beside it; returns its version.

        `example` is a few rows with `impression_id`, `item_id` and at least the ranker's columns, `figures` are
        PNGs by name, `tags` go on run and version, `card` is the version's description (`models/registry/ranker_card.py`),
        `trained_on` become dataset inputs of the run. A retry (same slice, same Dagster run) returns the version
        that is there.
        """
        rows, outputs = tracking.ranked_rows(ranker, example)
        tags = {**tags, "slice": slice, "dagster_run": dagster_run}
        values = tracking.measures(metrics)
        with (
            tracking.ranker_folder({FULL: ranker, **(ablations or {})}) as folder,
            tracking.figures_folder(figures or {}) as drawings,
        ):
            log_model = partial(_log_model, "ranker", folder, rows, outputs)
            return self._register(
                "ranker", tags, values, params, log_model, {"figures": drawings}, card, trained_on
            )

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
        card: str = "",
        trained_on: Sequence[Table] = (),
    ) -> str:
        """Log and register the interest model saved in `folder` as `challenger`; returns its version.

        `params` is its configuration, `example` a few rows as `models.interest.serving` takes them, `curves`
        one mapping a training step: `step`, and what was measured at it, `card` the version's description,
        `trained_on` become dataset inputs of the run. A retry (same slice, same Dagster run) returns the version
        that is there.
        """
        tags = {**tags, "slice": slice, "dagster_run": dagster_run}
        values = tracking.measures(metrics, curves)
        log_model = partial(_log_model, "interest", folder, *tracking.served_rows(example))
        return self._register("interest", tags, values, params, log_model, {}, card, trained_on)

    def load_ranker(self, version_or_alias: str, ablation: str = FULL) -> Ranker:
        """The ranker of a version (`"3"`) or an alias (`"champion"`), or an ablation kept beside it."""
        return load(self._folder("ranker", version_or_alias) / ablation)

    def interest_folder(self, version_or_alias: str) -> Path:
        """Local folder with an interest model's files; downloaded where the artifacts are remote."""
        return self._folder("interest", version_or_alias)

    def latest(self, kind: Kind, before: str, dagster_run: str | None = None) -> tuple[str, str] | None:
        """Version and slice of what was fitted on the latest slice before one, or None.

        Of several versions of that slice it is the one of `dagster_run`, so that runs at the same time do not
        take each other's; else the newest.
        """
        with self._connected() as client:
            found = registered.latest(client, self.name(kind), before, dagster_run)
            return (str(found.version), found.tags["slice"]) if found else None

    def versions(self, kind: Kind) -> list[dict[str, Any]]:
        """All versions, oldest first: `version, slice, aliases, tags, metrics`."""
        with self._connected() as client:
            found = registered.every(client, self.name(kind))
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

    def amend_card(self, version: str, heading: str, text: str) -> None:
        """Put a section into a ranker version's card and description, in place of the one under that heading."""
        with self._connected() as client:
            registered.amend_card(client, self.name("ranker"), version, heading, text)

    def log_quality(self, version: str, step: int, metrics: Mapping[str, float], table: Table) -> None:
        """Log how good a ranker version is on a slice, `step` in time, with the table that this was measured on.

        The metrics go on the version's run and on its logged model: the MLflow UI compares versions by either. Again
        with the same values, it changes nothing; a changed value is a newer point of that step, which MLflow shows.
        """
        with self._connected() as client:
            found = registered.find(client, self.name("ranker"), version)
            model = registered.logged_model(found)
            known = client.get_logged_model(model).metrics or ()
            present = {
                (point.key, point.step): point.value for point in sorted(known, key=lambda m: m.timestamp)
            }
            fresh = [
                (name, value, step) for name, value in metrics.items() if present.get((name, step)) != value
            ]
            if fresh:
                _log_inputs(client, found.run_id, [table], "evaluation")
                _log(client, found.run_id, fresh, {}, model, table)

    @contextmanager
    def track(self, kind: str, slice: str, values: Values, params: Mapping[str, object]) -> Iterator[None]:
        """A run named `<kind> <slice>`; runs that are tracked inside the context are its children."""
        with self._connected() as client, self._run(client, kind, {"slice": slice}) as run:
            _log(client, run, values, params)
            yield

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
        log_model: Callable[[], str],
        folders: Mapping[str, Path],
        card: str,
        trained_on: Sequence[Table],
    ) -> str:
        """Log a run with its folders, its card and the model that `log_model` logs, then its version."""
        texts = {key: str(value) for key, value in tags.items()}
        same = f"and tags.slice = '{texts['slice']}' and tags.dagster_run = '{texts['dagster_run']}'"
        with self._connected() as client:
            if found := registered.search(client, self.name(kind), same):
                made = found[0]
            else:
                with self._run(client, kind, texts) as run:
                    _log(client, run, values, params)
                    _log_inputs(client, run, trained_on, "training")
                    client.log_text(run, card, registered.CARD)
                    for place, folder in folders.items():
                        client.log_artifacts(run, str(folder), place)
                    model = log_model()
                    if not client.search_registered_models(f"name = '{self.name(kind)}'"):
                        client.create_registered_model(self.name(kind))
                    made = client.create_model_version(
                        self.name(kind),
                        f"models:/{model}",
                        run,
                        texts,
                        description=shortened(card),
                        model_id=model,
                    )
            # A late retry of an old slice does not take the alias from a newer version.
            if int(made.version) > int(registered.aliases(client, self.name(kind)).get(CHALLENGER, 0)):
                client.set_registered_model_alias(self.name(kind), CHALLENGER, str(made.version))
            return str(made.version)

    def _folder(self, kind: Kind, version_or_alias: str) -> Path:
        """Local folder with a version's own files."""
        with self._connected() as client:
            import mlflow

            found = registered.find(client, self.name(kind), version_or_alias)
            place = f"models:/{found.name}/{found.version}"
            data = mlflow.models.get_model_info(place).flavors["python_function"]["data"]
            return Path(mlflow.artifacts.download_artifacts(f"{place}/{data}"))

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
        import mlflow

        with suppress(mlflow.MlflowException):  # it is there, or another run makes it at this instant
            if client.get_experiment_by_name(self.project) is None:
                client.create_experiment(self.project, artifact_location=self.artifact_location)
        return str(client.get_experiment_by_name(self.project).experiment_id)

    @contextmanager
    def _connected(self, first: bool = False) -> Iterator[Any]:
        """A client of this store; what MLflow, the network or the database raise becomes TrackingError.

        ModelError where the store answers and lacks the files of a version.
        """
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
            if not tracking.lost(error):
                raise tracking.unusable(self.tracking_uri, error) from error
            raise ModelError(
                f"files of a version of {self.project} are lost ({tracking.reason(error)}): put MLflow's artifacts "
                f"back in {self.artifact_location or 'its server'}, or run the slices again for new versions and "
                "promote one of them"
            ) from error


def _upgrade(database: str) -> None:
    """Bring a database to the schema of the installed MLflow, as `mlflow db upgrade` does."""
    from mlflow.store.db import utils

    utils._make_parent_dirs_if_sqlite(database)
    for address in tracking.to_upgrade(database):
        # Not the engine "with retry": that one keeps trying a broken file for a minute and a half.
        engine = utils.create_sqlalchemy_engine(address)
        utils._safe_initialize_tables(engine)
        utils._upgrade_db(engine)
        engine.dispose()


def _log(
    client: Any,
    run: str,
    values: Values,
    params: Mapping[str, object],
    model: str | None = None,
    table: Table | None = None,
) -> None:
    """Log to a run and, where one is given, to a logged model with the table that it was measured on."""
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    measured = (model, table.name, str(table.version)) if table else (model,)
    points = [Metric(name, value, now, step, *measured) for name, value, step in values]
    client.log_batch(run, params=[Param(key, str(value)) for key, value in params.items()])
    for start in range(0, len(points), 1000):  # the most that MLflow takes at once
        client.log_batch(run, metrics=points[start : start + 1000])


def _log_inputs(client: Any, run: str, tables: Sequence[Table], context: str) -> None:
    """Log Delta tables as dataset inputs of a run; `context` is "training" or "evaluation"."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    tag = InputTag("mlflow.data.context", context)
    inputs = []
    for table in tables:
        source = json.dumps({"path": table.location, "delta_table_version": table.version})
        inputs.append(DatasetInput(Dataset(table.name, str(table.version), "delta_table", source), [tag]))
    if inputs:
        client.log_inputs(run, inputs)


def _log_model(kind: Kind, folder: Path, rows: Any, outputs: Any) -> str:
    """Log a folder as a model for plain MLflow, with signature and example; returns the logged model's id."""
    import mlflow

    with warnings.catch_warnings():
        # A rank is never missing.
        warnings.filterwarnings("ignore", "Hint: Inferred schema contains integer")
        signature = mlflow.models.infer_signature(rows, outputs)
    with shipped(kind) as code:
        logged = mlflow.pyfunc.log_model(
            name=kind,
            loader_module=code.module,
            data_path=str(folder),
            code_paths=[str(code.code)],
            signature=signature,
            input_example=rows,
            pip_requirements=code.requirements,
        )
    return str(logged.model_id)
