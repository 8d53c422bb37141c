"""What a person sees when something is wrong: one message that says what mends it, and no traceback."""

import sys
from pathlib import Path

import pytest

from pipelines import cli

NEWSROOM = str(Path(__file__).parents[2] / "projects" / "newsroom.toml")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "400")


def complaint(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["momentrank", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "missing.toml"], "name one, for example projects/newsroom.toml"),
        (["check", NEWSROOM, "--set", "ranker.leavs=3"], "did you mean 'leaves'?"),
        (["check", NEWSROOM, "--set", "name=shop"], "text needs quotes"),
        (["run", NEWSROOM, "--from", "yesterday"], "is not written as"),
        (["run", NEWSROOM, "--from", "2026-01-08", "--until", "2026-01-06"], "no slice lies between"),
        (["evaluate", NEWSROOM, "--frozen-after", "noon"], "is not an instant"),
        (["rank", NEWSROOM, "--user", "u-00001"], "no ranker is registered yet"),
        (["rollback", NEWSROOM], "champion"),
    ],
)
def test_a_mistake_is_one_message(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = complaint(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert said in message
    assert "Traceback" not in message


def test_a_missing_log_names_the_folders_searched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "check",
        NEWSROOM,
        "--set",
        'source.format="metarank"',
        "--set",
        'source.path="no/such/log.jsonl"',
    )
    message = complaint(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert "no/such/log.jsonl" in message
    assert "MOMENTRANK_DATA" in message


def test_an_unreachable_tracking_server_stops_a_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOMENTRANK_TRACKING_URI", "http://127.0.0.1:9")
    message = complaint("run", NEWSROOM, monkeypatch=monkeypatch, capsys=capsys)
    assert "http://127.0.0.1:9" in message
    assert not (tmp_path / "home" / "lake").exists()
