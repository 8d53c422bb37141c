"""The MLflow registry: registers, finds, loads, promotes and rolls back versions of both models, one per slice.

A version is created last, after its artifacts and with all tags: a version that exists is complete.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from models.ranker import Ranker, load
from models.ranker.served_ranker import FULL
from models.registry import tracking
from models.registry import versions as registered
from models.registry.champion import CHAMPION, Champions
from models.registry.erasure import Erasures
from models.registry.mlflow_store import Kind
from models.registry.quality import Table
from models.registry.ranker_card import shortened
from models.registry.shipping import shipped
from models.registry.versions import Version

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["CHALLENGER", "CHAMPION", "Kind", "Registry"]

CHALLENGER = "challenger"

Values = Sequence[tuple[str, float, int]]


class Registry(Champions, Erasures):
    """Tracked runs and model versions of one project. Errors: see `Store`."""

    def register_ranker(
        self,
        ranker: Ranker,
        slice: str,
        dagster_run: str,
        metrics: Mapping[str, float | None],
        tags: Mapping[str, object],
        params: Mapping[str, object],
        example: pl.DataFrame,
        figures: Mapping[str, bytes] = {},
        ablations: Mapping[str, Ranker] = {},
        card: str = "",
        trained_on: Sequence[Table] = (),
    ) -> str:
        """Log and register a fitted ranker with its ablations as `challenger`; return its version.

        `example`: a few rows with `impression_id`, `item_id` and the ranker's columns. `figures`: PNGs by name.
        `tags` go on the run and the version. `card`: the version's description (`models/registry/ranker_card.py`).
        `trained_on`: dataset inputs of the run. A retry (same slice and Dagster run) returns the existing version.
        """
        inputs, outputs = tracking.ranker_example(ranker, example)
        tags = {**tags, "slice": slice, "dagster_run": dagster_run}
        values = tracking.measures(metrics)
        with (
            tracking.ranker_folder({FULL: ranker, **ablations}) as folder,
            tracking.figures_folder(figures) as pngs,
        ):
            log_model = partial(_log_model, "ranker", folder, inputs, outputs)
            return self._register(
                "ranker", tags, values, params, log_model, {"figures": pngs}, card, trained_on
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
        """Log and register the interest model saved in `folder` as `challenger`; return its version.

        `params`: its configuration. `example`: a few input rows of `models.interest.serving`. `curves`: one mapping per
        training step, `step` and metrics. `card`: the version's description. `trained_on`: dataset inputs of the run. A
        retry (same slice and Dagster run) returns the existing version.
        """
        tags = {**tags, "slice": slice, "dagster_run": dagster_run}
        values = tracking.measures(metrics, curves)
        log_model = partial(_log_model, "interest", folder, *tracking.interest_example(example))
        return self._register("interest", tags, values, params, log_model, {}, card, trained_on)

    def load_ranker(self, version_or_alias: str, ablation: str = FULL) -> Ranker:
        """Load the ranker, or an ablation, of a version (`"3"`) or an alias (`"champion"`)."""
        return load(self._folder("ranker", version_or_alias) / ablation)

    def interest_folder(self, version_or_alias: str) -> Path:
        """Local folder with an interest model's files; downloads remote artifacts."""
        return self._folder("interest", version_or_alias)

    def latest(self, kind: Kind, before: str, dagster_run: str | None = None) -> Version | None:
        """The version fitted up to the latest slice before `before`, which it has not seen; or None.

        Of several versions of that slice it is the one of `dagster_run`, so that simultaneous runs do not mix; else the
        newest.
        """
        with self._connected() as client:
            version = registered.latest(client, self.name(kind), before, dagster_run)
            return Version(str(version.version), version.tags["slice"]) if version else None

    def serving(self, before: str) -> Version | None:
        """The champion; before the first promotion, the newest ranker fitted before a slice."""
        return self.champion() or self.latest("ranker", before)

    def versions(self, kind: Kind) -> list[dict[str, Any]]:
        """All versions, oldest first: `version, slice, aliases, tags, metrics`."""
        with self._connected() as client:
            versions = registered.every(client, self.name(kind))
            aliases = registered.aliases(client, self.name(kind))
            runs = client.search_runs(
                [self._experiment_id(client)], f"tags.kind = '{kind}'", max_results=50_000
            )
        metrics = {run.info.run_id: run.data.metrics for run in runs}
        return [registered.row(v, aliases, metrics.get(v.run_id, {})) for v in reversed(versions)]

    def tag(self, kind: Kind, version: str, key: str, value: object) -> None:
        """Set a tag of a version."""
        with self._connected() as client:
            registered.find(client, self.name(kind), version)
            client.set_model_version_tag(self.name(kind), version, key, str(value))

    def alias(self, kind: Kind, alias: str) -> str | None:
        """The version that an alias points to, or None."""
        with self._connected() as client:
            return registered.aliases(client, self.name(kind)).get(alias)

    def amend_card(self, version: str, heading: str, text: str) -> None:
        """Replace or add the section under a heading of a ranker version's card and description."""
        with self._connected() as client:
            registered.amend_card(client, self.name("ranker"), version, heading, text)

    def log_quality(self, version: str, step: int, metrics: Mapping[str, float], table: Table) -> None:
        """Log a ranker version's metrics on a slice (number `step`) and the table that they were measured on.

        The metrics go on the version's run and its logged model: the MLflow UI compares versions by either. Values that
        are already logged are left out; a changed value becomes a newer point of that step, which MLflow shows.
        """
        with self._connected() as client:
            registered_version = registered.find(client, self.name("ranker"), version)
            # `model_id` is empty when read from a database.
            run, model = registered_version.run_id, str(registered_version.source).rpartition("/")[2]
            points = sorted(client.get_logged_model(model).metrics or (), key=lambda point: point.timestamp)
            logged = {(point.key, point.step): point.value for point in points}
            changed = [
                (name, value, step) for name, value in metrics.items() if logged.get((name, step)) != value
            ]
            if changed:
                _log_inputs(client, run, [table], "evaluation")
                _log(client, run, changed, {}, model, table)

    @contextmanager
    def track(self, kind: str, slice: str, values: Values, params: Mapping[str, object]) -> Iterator[None]:
        """A run named `<kind> <slice>`; runs inside the context are its children."""
        with self._connected() as client, self._run(client, kind, {"slice": slice}) as run:
            _log(client, run, values, params)
            yield

    def log_report(self, page: Path, slice: str) -> str:
        """Log an HTML page to a run named `report <slice>`; return the run's id."""
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
        """Log a run with folders, card and model, then create the version."""
        text_tags = {key: str(value) for key, value in tags.items()}
        same_run = (
            f"and tags.slice = '{text_tags['slice']}' and tags.dagster_run = '{text_tags['dagster_run']}'"
        )
        with self._connected() as client:
            if existing := registered.search(client, self.name(kind), same_run):
                version = existing[0]
            else:
                with self._run(client, kind, text_tags) as run:
                    _log(client, run, values, params)
                    _log_inputs(client, run, trained_on, "training")
                    client.log_text(run, card, registered.CARD)
                    for path, folder in folders.items():
                        client.log_artifacts(run, str(folder), path)
                    model = log_model()
                    if not client.search_registered_models(f"name = '{self.name(kind)}'"):
                        client.create_registered_model(self.name(kind))
                    version = client.create_model_version(
                        self.name(kind),
                        f"models:/{model}",
                        run,
                        text_tags,
                        description=shortened(card),
                        model_id=model,
                    )
            # A late retry of an old slice leaves the alias on the newer version.
            if int(version.version) > int(registered.aliases(client, self.name(kind)).get(CHALLENGER, 0)):
                client.set_registered_model_alias(self.name(kind), CHALLENGER, str(version.version))
            return str(version.version)

    def _folder(self, kind: Kind, version_or_alias: str) -> Path:
        """Local folder with a version's files."""
        with self._connected() as client:
            import mlflow

            version = registered.find(client, self.name(kind), version_or_alias)
            uri = f"models:/{version.name}/{version.version}"
            data = mlflow.models.get_model_info(uri).flavors["python_function"]["data"]
            return Path(mlflow.artifacts.download_artifacts(f"{uri}/{data}"))


def _log(
    client: "MlflowClient",
    run: str,
    values: Values,
    params: Mapping[str, object],
    model: str | None = None,
    table: Table | None = None,
) -> None:
    """Log metrics and parameters to a run, and the metrics to a logged model with their table if given."""
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    source = (model, table.name, str(table.version)) if table else (model,)
    points = [Metric(name, value, now, step, *source) for name, value, step in values]
    client.log_batch(run, params=[Param(key, str(value)) for key, value in params.items()])
    for start in range(0, len(points), 1000):  # MLflow's limit per call
        client.log_batch(run, metrics=points[start : start + 1000])


def _log_inputs(client: "MlflowClient", run: str, tables: Sequence[Table], context: str) -> None:
    """Log Delta tables as dataset inputs of a run; `context` is "training" or "evaluation"."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    tag = InputTag("mlflow.data.context", context)
    inputs = []
    for table in tables:
        source = json.dumps({"path": table.location, "delta_table_version": table.version})
        inputs.append(DatasetInput(Dataset(table.name, str(table.version), "delta_table", source), [tag]))
    if inputs:
        client.log_inputs(run, inputs)


def _log_model(kind: Kind, folder: Path, inputs: Any, outputs: Any) -> str:
    """Log a folder as a plain MLflow model with signature and example; return the logged model's id."""
    import mlflow

    with warnings.catch_warnings():
        # Ranks are never missing.
        warnings.filterwarnings("ignore", "Hint: Inferred schema contains integer")
        signature = mlflow.models.infer_signature(inputs, outputs)
    with shipped(kind) as code:
        logged = mlflow.pyfunc.log_model(
            name=kind,
            loader_module=code.module,
            data_path=str(folder),
            code_paths=[str(code.code)],
            signature=signature,
            input_example=inputs,
            pip_requirements=code.requirements,
        )
    return str(logged.model_id)
