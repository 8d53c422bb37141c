"""Keeps MLflow's records with their artifacts when a home is moved or copied: they hold absolute addresses."""

from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

_ADDRESSES = {
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Columns of MLflow's tables that hold the address of an artifact."""


def relocate(database: str, old: str, new: str) -> None:
    """Let experiments at `old` write to `new`, and records follow the artifacts that are under `new` now.

    `database` is an address for SQLAlchemy, `old` and `new` are URLs of folders. A record whose artifacts are still
    under `old` alone stays as it is.
    """
    from sqlalchemy import create_engine, text

    engine = create_engine(database)
    try:
        with engine.begin() as connection:
            for table, column in _ADDRESSES.items():
                rows = connection.execute(text(f"SELECT DISTINCT {column} FROM {table}"))
                for address in [row[0] for row in rows if row[0] and row[0].startswith(f"{old}/")]:
                    moved = new + address.removeprefix(old)
                    if _is_there(moved) or not _is_there(address):
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


def _is_there(address: str) -> bool:
    """Whether a folder is there; one that is not on this machine is taken for there."""
    parsed = urlparse(address)
    return parsed.scheme != "file" or Path(url2pathname(parsed.path)).exists()
