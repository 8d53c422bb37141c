"""With a pseudonym key, no file of a home contains a user id, for every kind of log."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.config.project import Project
from features.events.labels import attribute
from pipelines.deployment import Deployment
from pipelines.settings.settings import load as load_settings

PLANTED = ("anna-planted-0001", "bert-planted-0002")
DAY = datetime(2026, 1, 6, 12, tzinfo=UTC)


def events(user: str, n: int) -> list[str]:
    when = {"user": user, "timestamp": DAY.isoformat()}
    shown = {"event": "ranking", "id": f"r{n}", "items": [{"id": "a"}, {"id": "b"}], **when}
    click = {"event": "interaction", "id": f"c{n}", "ranking": f"r{n}", "item": "a", "type": "click", **when}
    return [json.dumps(line) for line in (shown, click, shown | {"timestamp": f"soon for {user}"}, when)]


def rows(cells: str) -> Callable[[str, int], list[str]]:
    return lambda user, n: [
        cells.format(user=user, at="2026-01-06 12:00"),
        cells.format(user=user, at=f"soon for {user}"),
    ]


TABLES = "user_id,timestamp,item_id,clicked"
SHAPES: dict[str, tuple[str, str, Callable[[str, int], list[str]]]] = {
    "metarank": ("log.jsonl", "", events),
    "mind": (
        "behaviors.tsv",
        "",
        lambda user, n: [f"{n}\t{user}\t1/6/2026 {hour}:00:00 PM\tN8 N9\tN1-0 N2-1" for hour in ("12", user)],
    ),
    "lists": ("log.csv", TABLES, rows("{user},{at},a b,b")),
    "candidates": ("log.csv", TABLES, rows("{user},{at},a,1")),
    "interactions": ("log.csv", TABLES, rows("{user},{at},a,1")),
    "ratings": ("log.csv", TABLES, rows("{user},{at},a,1")),
}


def project(folder: Path, shape: str) -> Project:
    mapping = {"shape": shape} | ({} if shape == "interactions" else {"clicked": "clicked"})
    mapped: dict[str, Any] = {"format": "tables", "tables": mapping}
    source = {"format": shape} if shape in ("metarank", "mind") else mapped
    slices = {"start": datetime(2026, 1, 5, tzinfo=UTC)}
    return Project.model_validate(
        {"name": "toy", "source": {"path": "logs", **source}, "slices": slices, "folder": folder}
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_no_byte_of_a_home_names_a_planted_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    name, header, lines = SHAPES[shape]
    log = [header] * bool(header) + [line for n, user in enumerate(PLANTED) for line in lines(user, n)]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / name).write_text("\n".join(log) + "\n")
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOMENTRANK_PSEUDONYM_KEY", "0123456789abcdef")
    deployment = Deployment(project(tmp_path, shape), load_settings())

    ingested = deployment.ingest()
    deployment.privacy.record_key()
    tables = {name: getattr(ingested, name) for name in ("impressions", "interactions", "rejects")}
    labelled = attribute(ingested.impressions, ingested.interactions, deployment.project.labels)
    days = ingested.impressions.select("impression_id", "slice")
    for name, table in {**tables, "candidates": labelled.join(days, on="impression_id")}.items():
        for (key,), part in table.group_by("slice"):
            deployment.lake.write(name, str(key), part.drop("slice"))

    assert ingested.impressions["user_id"].n_unique() == len(PLANTED)
    assert ingested.rejects.height >= len(PLANTED)
    assert labelled["clicked"].any()
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    tables_read = [pl.read_parquet(path).write_ndjson() for path in files if path.suffix == ".parquet"]
    assert len(tables_read) > len(SHAPES) - 2
    bytes_found = b"".join(path.read_bytes() for path in files) + "".join(tables_read).encode()
    assert [user for user in PLANTED if user.encode() in bytes_found] == []
