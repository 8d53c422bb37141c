"""After `momentrank forget`, only the source's own logs have the user's id or pseudonym."""

import gzip
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines.cli.commands import app
from pipelines.deployment import Deployment
from pipelines.privacy.forgetting import FORGOTTEN_TAG
from pipelines.running import materialise

KEY = "a key that only this test knows"
SMALLER = (
    "source.newsroom.users=8",
    "source.newsroom.articles_a_day=10",
    "source.newsroom.impressions_a_day=40",
    "source.newsroom.list_size=5",
    'features.half_lives=["1d", "none"]',
    'interest.tune="frozen"',
    "interest.width=16",
    "ranker.num_iterations=5",
    "ranker.folds=1",
    "promotion.resamples=100",
    "lists.pool=15",
)
FIRST, LAST = "2026-01-06", "2026-01-07"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, small_newsroom: Callable[..., Deployment]) -> Deployment:
    """A newsroom of three days under pseudonyms, run over the first two."""
    deployment = small_newsroom(tmp_path_factory.mktemp("home"), *SMALLER, PSEUDONYM_KEY=KEY)
    materialise(deployment, None, FIRST)
    return deployment


def content(path: Path) -> bytes:
    """The bytes of a file, and its decoded content if it is Parquet or gzip."""
    data = path.read_bytes()
    if path.suffix == ".parquet":
        return data + pl.read_parquet(path, hive_partitioning=False).write_ndjson().encode()
    return data + gzip.decompress(data) if path.suffix == ".gz" else data


def naming(home: Path, *names: str) -> list[Path]:
    """Files under the home, but the source's logs, that contain one of the names."""
    files = [path for path in home.rglob("*") if path.is_file() and home / "newsroom" not in path.parents]
    return [path for path in files if any(name.encode() in content(path) for name in names)]


def command(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setenv("MOMENTRANK_HOME", str(deployment.settings.home))
    monkeypatch.setenv("MOMENTRANK_PSEUDONYM_KEY", KEY)
    name, *options = words
    options_set = [f"--set={one}" for one in deployment.settings.overrides]
    project = str(deployment.settings.project)
    result = CliRunner().invoke(app, [name, project, *options, *options_set], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_no_file_names_a_forgotten_user(ran: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    home, lake = ran.settings.home, ran.lake
    users = {ran.privacy.stored(f"u-{number:05d}"): f"u-{number:05d}" for number in range(8)}
    pseudonym = lake.read("impressions", [FIRST])["user_id"].mode().sort()[0]
    user = users[pseudonym]
    others = lake.read("impressions").filter(pl.col("user_id") != pseudonym)

    # Before: the id is nowhere; its pseudonym is in tables and reports, and not in Dagster's records.
    assert naming(home, *users.values()) == []
    before = {path.relative_to(home).parts[0] for path in naming(home, *users)}
    assert {"lake"} <= before <= {"lake", "reports", "mlartifacts"}
    assert user in command(ran, monkeypatch, "rank", "--user", user, "-k", "3")

    # What an interrupted fit on a cluster leaves behind.
    left = Path(ran.scratch("fits", FIRST, "arrays").root)
    left.mkdir(parents=True)
    (left / "users").write_text(pseudonym)

    output = command(ran, monkeypatch, "forget", "--user", user, "--yes")

    assert not left.exists()
    assert naming(home, user, pseudonym) == []
    assert "rows deleted" in output
    assert "log files still contain this user" in output
    assert "--from 2026-01-05" in output
    for kind in ("ranker", "interest"):
        assert [version["tags"].get(FORGOTTEN_TAG) for version in ran.registry.versions(kind)] == ["1", "1"]
    assert lake.read("impressions").equals(others)

    # After: running it again changes nothing, and the next slice runs without the user.
    again = command(ran, monkeypatch, "forget", "--user", user, "--yes")
    assert "0 rows deleted" in again
    assert [version["tags"][FORGOTTEN_TAG] for version in ran.registry.versions("ranker")] == ["1", "1"]
    materialise(ran, LAST, LAST)
    assert naming(home, user, pseudonym) == []
    assert lake.read("ranking_dataset", [LAST]).height > 0
    assert [version["tags"].get(FORGOTTEN_TAG) for version in ran.registry.versions("ranker")][2:] == [None]
