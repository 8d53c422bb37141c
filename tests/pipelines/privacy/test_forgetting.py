"""A person is forgotten: of their id, and of its pseudonym, not a byte is left but in the source's own logs."""

import gzip
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines.cli.commands import app
from pipelines.deployment import Deployment
from pipelines.privacy.forgetting import SAW
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
    made = small_newsroom(tmp_path_factory.mktemp("home"), *SMALLER, PSEUDONYM_KEY=KEY)
    materialise(made, None, FIRST)
    return made


def content(path: Path) -> bytes:
    """What a file says, with what is packed in it unpacked."""
    found = path.read_bytes()
    if path.suffix == ".parquet":
        return found + pl.read_parquet(path, hive_partitioning=False).write_ndjson().encode()
    return found + gzip.decompress(found) if path.suffix == ".gz" else found


def naming(home: Path, *names: str) -> list[Path]:
    """Files under the home, but the source's logs, in which one of the names stands."""
    files = [path for path in home.rglob("*") if path.is_file() and home / "newsroom" not in path.parents]
    return [path for path in files if any(name.encode() in content(path) for name in names)]


def command(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setenv("MOMENTRANK_HOME", str(deployment.settings.home))
    monkeypatch.setenv("MOMENTRANK_PSEUDONYM_KEY", KEY)
    name, *options = words
    given = [f"--set={one}" for one in deployment.settings.overrides]
    project = str(deployment.settings.project)
    found = CliRunner().invoke(app, [name, project, *options, *given], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_a_forgotten_person_is_nowhere_and_stays_away(
    ran: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, lake = ran.settings.home, ran.lake
    people = {ran.privacy.stored(f"u-{number:05d}"): f"u-{number:05d}" for number in range(8)}
    pseudonym = lake.read("impressions", [FIRST])["user_id"].mode().sort()[0]
    user = people[pseudonym]
    others = lake.read("impressions").filter(pl.col("user_id") != pseudonym)

    # Before: the id is nowhere, its pseudonym in the tables and on the page, and in none of Dagster's records.
    assert naming(home, *people.values()) == []
    before = {path.relative_to(home).parts[0] for path in naming(home, *people)}
    assert {"lake"} <= before <= {"lake", "reports", "mlartifacts"}
    assert user in command(ran, monkeypatch, "rank", "--user", user, "-k", "3")

    # What an interrupted fit on a cluster leaves behind.
    left = Path(ran.scratch("fits", FIRST, "arrays"))
    left.mkdir(parents=True)
    (left / "users").write_text(pseudonym)

    told = command(ran, monkeypatch, "forget", "--user", user, "--yes")

    assert not left.exists()
    assert naming(home, user, pseudonym) == []
    assert "rows deleted" in told
    assert "logs still hold this person" in told
    assert "--from 2026-01-05" in told
    for kind in ("ranker", "interest"):
        assert [version["tags"].get(SAW) for version in ran.registry.versions(kind)] == ["1", "1"]
    assert lake.read("impressions").equals(others)

    # After: asking again changes nothing, and the next slice is run without them.
    again = command(ran, monkeypatch, "forget", "--user", user, "--yes")
    assert "0 rows deleted" in again
    assert [version["tags"][SAW] for version in ran.registry.versions("ranker")] == ["1", "1"]
    materialise(ran, LAST, LAST)
    assert naming(home, user, pseudonym) == []
    assert lake.read("ranking_dataset", [LAST]).height > 0
    assert [version["tags"].get(SAW) for version in ran.registry.versions("ranker")][2:] == [None]
