"""Taking logged pages back: what was logged for people to look at may show a person who is to be forgotten.

Knows no MLflow: a registry's client does the deleting.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

PAGE = ".html"


class Erasures(ABC):
    """The part of a registry that deletes pages from its runs. Runs, their figures and versions stay."""

    project: str

    @abstractmethod
    def _connected(self) -> AbstractContextManager[Any]:
        """A client of the store."""

    def erase_pages(self, unwanted: Callable[[str, str], bool]) -> int:
        """Delete the logged pages that are unwanted, told by the slice of their run and their HTML; says how many."""
        erased = 0
        with self._connected() as client:
            experiment = client.get_experiment_by_name(self.project)
            runs = client.search_runs([experiment.experiment_id], max_results=50_000) if experiment else []
            for run in runs:
                slice = run.data.tags.get("slice", "")
                for path in _pages(client, run.info.run_id):
                    html = Path(client.download_artifacts(run.info.run_id, path)).read_text(encoding="utf-8")
                    if unwanted(slice, html):
                        # The client itself has no way to delete a single artifact.
                        client._tracking_client._get_artifact_repo(run.info.run_id).delete_artifacts(path)
                        erased += 1
        return erased


def _pages(client: Any, run: str, folder: str | None = None) -> Iterator[str]:
    for file in client.list_artifacts(run, folder):
        if file.is_dir:
            yield from _pages(client, run, file.path)
        elif file.path.endswith(PAGE):
            yield file.path
