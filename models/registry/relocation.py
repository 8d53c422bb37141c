"""Updates the absolute artifact addresses in MLflow's database after a home was moved or copied."""

from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

_ADDRESSES = {
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Table → its column with artifact addresses."""


def relocate(database: str, old: str, new: str) -> None:
    """Make experiments at `old` write to `new`, and update the addresses of artifacts that are now under `new`.

    `database` is a SQLAlchemy address; `old` and `new` are URLs of folders. Artifacts that exist only under `old` keep
    their address.
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
