"""The embedded engine, and the errors of a Ray engine without Ray or without a cluster."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from features.errors import ProjectError
from pipelines.compute.engine import Cluster, Engine
from pipelines.deployment import Deployment
from pipelines.settings import settings
from pipelines.settings import storage_check as storage
from pipelines.settings.settings import REPOSITORY, Settings


def append(file: Path) -> None:
    with file.open("a", encoding="utf-8") as handle:
        handle.write(f"{os.getpid()} {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}\n")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Settings]:
    """Load the settings of an empty home with these `MOMENTRANK_` variables."""
    for name in [name for name in os.environ if name.startswith("MOMENTRANK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOMENTRANK_PROJECT", str(REPOSITORY / "projects" / "newsroom.toml"))

    def load(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(f"MOMENTRANK_{name}", value)
        return settings.load()

    return load


def test_the_embedded_engine_loops_in_this_process() -> None:
    here = os.getpid()

    assert Engine().map(lambda task: (task * task, os.getpid()), range(3)) == [
        (0, here),
        (1, here),
        (4, here),
    ]


def test_a_single_embedded_training_worker_is_this_process(tmp_path: Path) -> None:
    Engine().train(append, tmp_path / "log", 1)

    assert (tmp_path / "log").read_text(encoding="utf-8") == f"{os.getpid()} None of None\n"


def test_the_setting_chooses_the_engine(here: Callable[..., Settings], tmp_path: Path) -> None:
    plain = here()
    cluster = here(ENGINE="ray", RAY_ADDRESS="head:6379", RAY_CORES="4", SCRATCH=str(tmp_path / "shared"))

    embedded, ray = (Deployment(loaded.open_project(), loaded) for loaded in (plain, cluster))

    assert embedded.engine == Engine()
    assert embedded.scratch("fits", "a").root == f"{tmp_path}/home/scratch/newsroom/fits/a"
    assert isinstance(ray.engine, Cluster)
    assert (ray.engine.address, ray.engine.cores) == ("head:6379", 4)
    assert ray.engine.environment["HF_HUB_OFFLINE"] == "1"
    assert ray.shared_folder("cache") == tmp_path / "shared" / "newsroom" / "cache"


def test_a_shared_folder_cannot_be_in_an_object_store(here: Callable[..., Settings]) -> None:
    loaded = here(ENGINE="ray", SCRATCH="s3://bucket/scratch")

    with pytest.raises(ProjectError, match="set it to one that all machines share"):
        Deployment(loaded.open_project(), loaded).shared_folder("cache")


def test_without_ray_the_error_says_how_to_install_it(
    here: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    loaded = here(ENGINE="ray")

    with pytest.raises(ProjectError, match=r"pip install -e '\.\[ray\]'"):
        Deployment(loaded.open_project(), loaded).engine.map(abs, [1])
    with pytest.raises(ProjectError, match=r"MOMENTRANK_ENGINE is ray.*pip install -e '\.\[ray\]'"):
        storage.check(loaded)
    storage.check(here(ENGINE="embedded"))


def test_a_head_that_does_not_answer_is_reported_at_once(
    here: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "find_spec", lambda name: name)

    with pytest.raises(
        ProjectError, match=r"MOMENTRANK_RAY_ADDRESS is 127\.0\.0\.1:9, and nothing answers there"
    ):
        storage.check(here(ENGINE="ray", RAY_ADDRESS="127.0.0.1:9"))
