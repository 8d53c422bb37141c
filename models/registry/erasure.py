"""Erasure of logged HTML pages, which may show a user who must be forgotten."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from models.registry.mlflow_store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAGE = ".html"


class Erasures(Store):
    """The part of a registry that deletes HTML pages from runs. Runs, plots and versions stay."""

    def erase_pages(self, unwanted: Callable[[str, str], bool]) -> int:
        """Delete the logged pages for which `unwanted(slice of the run, HTML)` holds; return their number."""
        erased = 0
        with self._connected() as client:
            experiment = client.get_experiment_by_name(self.project)
            runs = client.search_runs([experiment.experiment_id], max_results=50_000) if experiment else []
            for run in runs:
                slice = run.data.tags.get("slice", "")
                for path in _pages(client, run.info.run_id):
                    html = Path(client.download_artifacts(run.info.run_id, path)).read_text(encoding="utf-8")
                    if unwanted(slice, html):
                        # MlflowClient cannot delete a single artifact.
                        client._tracking_client._get_artifact_repo(run.info.run_id).delete_artifacts(path)
                        erased += 1
        return erased


def _pages(client: "MlflowClient", run: str, folder: str | None = None) -> Iterator[str]:
    for file in client.list_artifacts(run, folder):
        if file.is_dir:
            yield from _pages(client, run, file.path)
        elif file.path.endswith(PAGE):
            yield file.path
