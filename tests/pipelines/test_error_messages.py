"""An unexpected error is one message, with the traceback in a file."""

import errno
import sqlite3
import sys
from pathlib import Path
from unittest.mock import Mock

import dagster as dg
import pytest

from features.errors import TrackingError
from pipelines import error_messages
from pipelines.cli import commands as cli
from pipelines.retries import transient
from pipelines.settings.settings import initialise_dagster, load, prepare

NEWSROOM = str(Path(__file__).parents[2] / "projects" / "newsroom.toml")
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def printed(error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command line prints if a command raises an error."""
    monkeypatch.setattr(cli, "_open", Mock(side_effect=error))
    monkeypatch.setattr(sys, "argv", ["momentrank", "history", NEWSROOM])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    return capsys.readouterr().err


class Panic(BaseException):
    """As Polars raises."""


@pytest.mark.parametrize("error", [KeyError("click_rate"), Panic("range end"), RuntimeError("one\ntwo")])
def test_the_traceback_of_an_unexpected_error_is_in_a_file(
    error: BaseException, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = printed(error, monkeypatch, capsys)

    (log,) = (home / "logs").iterdir()
    assert output.startswith(f"error {type(error).__name__}: {str(error).splitlines()[0]}. ")
    assert str(log) in output
    assert output.count("\n") == 1
    assert log.read_text(encoding="utf-8").startswith("Traceback")


@pytest.mark.parametrize("error", [FULL, sqlite3.OperationalError("database or disk is full")])
def test_a_full_device_is_recognized_inside_other_errors(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = TrackingError(f"the MLflow store could not be used: {error}")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        assert "no space is left on the device" in printed(one, monkeypatch, capsys)
        assert not transient(one)


def test_without_a_writable_home_the_traceback_is_printed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.write_text("a file")
    assert "Traceback" in printed(KeyError("x"), monkeypatch, capsys)


@pytest.mark.parametrize("text", ["nonsense: 3", "a: [1", "- 1"])
def test_a_wrong_dagster_yaml_names_the_file(text: str, home: Path) -> None:
    prepare(load())
    (home / "dagster" / "dagster.yaml").write_text(text)
    with pytest.raises(Exception) as wrong:  # noqa: PT011 (Dagster's and YAML's own)
        dg.DagsterInstance.get()
    assert error_messages.sentence(wrong.value, home).startswith(f"{home}/dagster/dagster.yaml is invalid: ")


def test_damaged_records_of_dagster_name_their_folder(home: Path) -> None:
    initialise_dagster(load())
    for file in (home / "dagster").rglob("*.db"):
        file.write_bytes(b"garbage" * 20)
    with pytest.raises(Exception) as wrong:  # noqa: PT011
        dg.DagsterInstance.get()
    assert error_messages.sentence(wrong.value, home).startswith(
        f"Dagster's records in {home}/dagster are damaged"
    )
