"""Registered versions as a registry's client tells of them: found, aliased, described. Knows no MLflow."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import ModelError
from models.registry.ranker_card import shortened, with_section

CARD = "card.md"
"""File of a version's card among its run's artifacts."""


def search(client: Any, name: str, where: str = "", limit: int = 1) -> list[Any]:
    """Versions of a registered model, newest first."""
    return list(client.search_model_versions(f"name = '{name}' {where}", limit, ["version_number DESC"]))


def every(client: Any, name: str) -> list[Any]:
    """All versions of a registered model, newest first."""
    return search(client, name, limit=100_000)


def model(client: Any, name: str) -> Any | None:
    """The registered model, with its aliases and tags; None where nothing was registered yet."""
    found = client.search_registered_models(f"name = '{name}'")
    return found[0] if found else None


def aliases(client: Any, name: str) -> dict[str, str]:
    """Alias → version; empty where the model is not registered."""
    found = model(client, name)
    return {alias: str(version) for alias, version in found.aliases.items()} if found else {}


def find(client: Any, name: str, version_or_alias: str) -> Any:
    """The version of a number (`"3"`) or an alias (`"champion"`). Raises ModelError where there is none."""
    version = aliases(client, name).get(version_or_alias, version_or_alias)
    found = search(client, name, f"and version_number = {version}") if re.fullmatch("[0-9]+", version) else []
    if not found:
        newest = search(client, name)
        known = f"its versions go up to {newest[0].version}" if newest else "it has no version yet"
        raise ModelError(
            f"{name} has no version or alias {version_or_alias!r}: {known}. `momentrank run` registers one a slice"
        )
    return found[0]


def logged_model(version: Any) -> str:
    """Id of the logged model of a version; its `model_id` is empty when it comes out of a database."""
    return str(version.source).rpartition("/")[2]


def latest(client: Any, name: str, before: str, dagster_run: str | None) -> Any | None:
    """The version fitted on the latest slice before one; of several, that of a Dagster run, else the newest."""
    known = [one for one in every(client, name) if one.tags.get("slice", before) < before]
    return max(
        known,
        key=lambda one: (one.tags["slice"], one.tags.get("dagster_run") == dagster_run, int(one.version)),
        default=None,
    )


def row(version: Any, aliases: Mapping[str, str], metrics: Mapping[str, float]) -> dict[str, Any]:
    """One registered version as `version, slice, aliases, tags, metrics`, metrics by their own names."""
    number = str(version.version)
    return {
        "version": number,
        "slice": version.tags.get("slice"),
        "aliases": sorted(alias for alias, target in aliases.items() if target == number),
        "tags": dict(version.tags),
        # Names with a slash hold a slice's evaluation, a thousand figures (models/registry/quality.py).
        "metrics": {name.replace("_at_", "@"): value for name, value in metrics.items() if "/" not in name},
    }


def amend_card(client: Any, name: str, version: str, heading: str, text: str) -> None:
    """Put a section into a version's card, in place of the one under that heading."""
    found = find(client, name, version)
    kept = Path(client.download_artifacts(found.run_id, CARD)).read_text(encoding="utf-8")
    amended = with_section(kept, heading, text)
    client.log_text(found.run_id, amended, CARD)
    client.update_model_version(name, version, shortened(amended))
