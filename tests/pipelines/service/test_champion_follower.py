"""Another champion serves once it is ready; one that cannot be loaded is refused, and the old one goes on."""

from types import SimpleNamespace
from typing import Any

from models.registry.versions import Version
from pipelines.service.champion_follower import Follower, Serving


def follower(named: list[Any], prepare: Any) -> tuple[Follower, list[Any]]:
    swapped: list[Any] = []
    one = Serving(Version("1", "2026-01-05"), None)
    return Follower(lambda: named[0], prepare, swapped.append, one, 60.0), swapped


def test_a_version_is_swapped_in_after_it_was_prepared() -> None:
    named: list[Any] = [Serving(Version("1", "2026-01-05"), None)]
    follow, swapped = follower(named, lambda versions: SimpleNamespace(versions=versions))
    follow.look_once()
    assert swapped == []

    named[0] = Serving(Version("2", "2026-01-06"), None)
    follow.look_once()
    follow.look_once()

    assert [champion.versions.ranker.version for champion in swapped] == ["2"]


def test_a_broken_version_is_refused_once_and_said() -> None:
    tries: list[str] = []

    def broken(versions: Any) -> Any:
        tries.append(versions.ranker.version)
        raise ValueError("no ranker can be read")

    named: list[Any] = [Serving(Version("2", "2026-01-06"), None)]
    follow, swapped = follower(named, broken)
    follow.look_once()
    follow.look_once()

    assert tries == ["2"]
    assert swapped == []
    assert follow.problem == (
        "ranker version 2 cannot serve, version 1 stays: ValueError: no ranker can be read"
    )
    named[0] = Serving(Version("1", "2026-01-05"), None)
    follow.look_once()
    assert not follow.problem


def test_a_registry_that_is_down_changes_nothing() -> None:
    def down() -> Any:
        raise OSError("connection refused")

    follow = Follower(down, lambda _: None, lambda _: None, Serving(Version("1", "2026-01-05"), None), 60.0)  # type: ignore[arg-type, return-value]
    follow.look_once()

    assert follow.problem == "the registry cannot be reached: OSError: connection refused"
