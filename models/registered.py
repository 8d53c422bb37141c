"""Registered versions as a registry's client tells of them: found, aliased, described. Knows no MLflow."""

from collections.abc import Mapping
from typing import Any

from features.errors import ModelError


def search(client: Any, name: str, where: str = "", limit: int = 1) -> list[Any]:
    """Versions of a registered model, newest first."""
    return list(client.search_model_versions(f"name = '{name}' {where}", limit, ["version_number DESC"]))


def aliases(client: Any, name: str) -> dict[str, str]:
    """Alias → version; empty where the model is not registered."""
    found = client.search_registered_models(f"name = '{name}'")
    return {alias: str(version) for alias, version in found[0].aliases.items()} if found else {}


def find(client: Any, name: str, version_or_alias: str) -> Any:
    """The version of a number (`"3"`) or an alias (`"champion"`). Raises ModelError where there is none."""
    version = aliases(client, name).get(version_or_alias, version_or_alias)
    found = search(client, name, f"and version_number = {version}") if version.isdigit() else []
    if not found:
        newest = search(client, name)
        known = f"its versions go up to {newest[0].version}" if newest else "it has no version yet"
        raise ModelError(
            f"{name} has no version or alias {version_or_alias!r}: {known}. `momentrank run` registers one a slice"
        )
    return found[0]


def row(version: Any, aliases: Mapping[str, str], metrics: Mapping[str, float]) -> dict[str, Any]:
    """One registered version as `version, slice, aliases, tags, metrics`, metrics by their own names."""
    number = str(version.version)
    return {
        "version": number,
        "slice": version.tags.get("slice"),
        "aliases": sorted(alias for alias, target in aliases.items() if target == number),
        "tags": dict(version.tags),
        "metrics": {name.replace("_at_", "@"): value for name, value in metrics.items()},
    }
