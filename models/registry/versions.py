"""Find, list and describe registered versions through an MLflow client."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from features.errors import ModelError
from models.registry.ranker_card import shortened, with_section

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CARD = "card.md"
"""A version's card in its run's artifacts."""


class Version(NamedTuple):
    """A registered model version and the last slice that it was fitted on."""

    version: str
    slice: str


def search(client: "MlflowClient", name: str, condition: str = "", limit: int = 1) -> list["ModelVersion"]:
    """The newest versions of a registered model that meet an MLflow filter condition, newest first."""
    return list(client.search_model_versions(f"name = '{name}' {condition}", limit, ["version_number DESC"]))


def every(client: "MlflowClient", name: str) -> list["ModelVersion"]:
    """All versions of a registered model, newest first."""
    return search(client, name, limit=100_000)


def model(client: "MlflowClient", name: str) -> "RegisteredModel | None":
    """The registered model with its aliases and tags; None before the first version."""
    models = client.search_registered_models(f"name = '{name}'")
    return models[0] if models else None


def aliases(client: "MlflowClient", name: str) -> dict[str, str]:
    """Alias → version; empty before the first version."""
    registered = model(client, name)
    return {alias: str(version) for alias, version in registered.aliases.items()} if registered else {}


def find(client: "MlflowClient", name: str, version_or_alias: str) -> "ModelVersion":
    """The version with a number (`"3"`) or an alias (`"champion"`). Raises ModelError if there is none."""
    version = aliases(client, name).get(version_or_alias, version_or_alias)
    is_number = re.fullmatch("[0-9]+", version)
    matches = search(client, name, f"and version_number = {version}") if is_number else []
    if not matches:
        newest = search(client, name)
        existing = f"its latest version is {newest[0].version}" if newest else "it has no version yet"
        raise ModelError(
            f"{name} has no version or alias {version_or_alias!r}: {existing}. `momentrank run` registers one per slice"
        )
    return matches[0]


def latest(client: "MlflowClient", name: str, before: str, dagster_run: str | None) -> "ModelVersion | None":
    """The version of the latest slice before `before`; of several, the one of this Dagster run, else the newest."""
    earlier = [version for version in every(client, name) if version.tags.get("slice", before) < before]
    return max(
        earlier,
        key=lambda v: (v.tags["slice"], v.tags.get("dagster_run") == dagster_run, int(v.version)),
        default=None,
    )


def row(version: "ModelVersion", aliases: Mapping[str, str], metrics: Mapping[str, float]) -> dict[str, Any]:
    """A version as `version, slice, aliases, tags, metrics`; metric names with `@`."""
    number = str(version.version)
    return {
        "version": number,
        "slice": version.tags.get("slice"),
        "aliases": sorted(alias for alias, target in aliases.items() if target == number),
        "tags": dict(version.tags),
        # Names with a slash are the thousand metrics of a slice's evaluation (models/registry/quality.py).
        "metrics": {name.replace("_at_", "@"): value for name, value in metrics.items() if "/" not in name},
    }


def amend_card(client: "MlflowClient", name: str, version: str, heading: str, text: str) -> None:
    """Replace or add the section under a heading of a version's card."""
    run = find(client, name, version).run_id
    card = Path(client.download_artifacts(run, CARD)).read_text(encoding="utf-8")
    amended = with_section(card, heading, text)
    client.log_text(run, amended, CARD)
    client.update_model_version(name, version, shortened(amended))
