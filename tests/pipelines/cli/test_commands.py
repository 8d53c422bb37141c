"""Commands: errors are one message that names the remedy, without a traceback."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

from models.evaluation.seed_variance import GAIN
from models.registry.champion_history import Move
from pipelines.cli import commands as cli
from pipelines.terminal import Terminal

NEWSROOM = str(Path(__file__).parents[3] / "projects" / "newsroom.toml")

NOON = "2026-01-06T12:00:00Z"
SMALL = ("--set", "source.newsroom.days=2", "--set", "source.newsroom.impressions_a_day=20")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(cli, "out", Terminal())  # reads its width when created


def error_of(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["momentrank", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check", "missing.toml"], "give a path such as projects/newsroom.toml"),
        (["check", NEWSROOM, "--set", "ranker.num_leavs=3"], "did you mean 'num_leaves'?"),
        (["check", NEWSROOM, "--set", "name=shop"], "text needs quotes"),
        (["check", NEWSROOM, "--set", 'features.select=["item_click"]'], "no feature is called 'item_click'"),
        (["check", NEWSROOM, "--set", 'interest.encoder="none"'], "encoder 'none' is neither packaged"),
        (
            ["check", NEWSROOM, "--set", "interest.width=97"],
            "set it to a multiple of interest.heads, such as 100",
        ),
        (["run", NEWSROOM, "--set", 'interest.encoder="none"'], "encoder 'none' is neither packaged"),
        (["run", NEWSROOM, "--set", 'slices.every="45m"'], 'slices.every is "45m"'),
        (["run", NEWSROOM, "--from", "yesterday"], "is not written as"),
        (["run", NEWSROOM, "--until", "2099-01-08"], "--until 2099-01-08 is after slices.end"),
        (
            ["run", NEWSROOM, "--from", "2026-01-08", "--until", "2026-01-06"],
            "--from 2026-01-08 is after --until",
        ),
        (["backtest", NEWSROOM, "--after", "noon"], "is not an instant"),
        (["backtest", NEWSROOM, "--after", NOON, "--new-items", "30", *SMALL], "between 0 and 1"),
        (["rank", NEWSROOM, "--user", "u-00001"], "no ranker is registered yet"),
        (["explain", NEWSROOM], "either --impression ID or --user ID"),
        (["explain", NEWSROOM, "--impression", "r", "--at", NOON], "either --impression ID or --user ID"),
        (["explain", NEWSROOM, "--user", "u-00001", "--at", NOON], "no ranker is registered yet"),
        (["rank", NEWSROOM, "--user", ""], "--user is empty"),
        (["explain", NEWSROOM, "--user", " "], "--user is empty"),
        (["forget", NEWSROOM, "--user", "", "--yes"], "--user is empty"),
        (["forget", NEWSROOM, "--user", "u-00001", "--yes"], "nothing was changed"),
        (["rollback", NEWSROOM], "no version or alias 'champion'"),
        (["promote", NEWSROOM, "7"], "no version or alias '7': it has no version yet"),
    ],
)
def test_a_mistake_is_one_message(
    words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = error_of(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert expected in message
    assert "Traceback" not in message


def test_a_negative_k_is_an_error() -> None:
    result = CliRunner().invoke(cli.app, ["rank", NEWSROOM, "--user", "u-00001", "-k", "-5"])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_overrides_of_the_environment_apply_to_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOMENTRANK_SET", "ranker.num_leavs=3")

    assert "did you mean 'num_leaves'?" in error_of("check", NEWSROOM, monkeypatch=monkeypatch, capsys=capsys)


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
    message = error_of(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert "no/such/log.jsonl" in message
    assert "MOMENTRANK_DATA" in message


def test_check_warns_of_too_many_slices_and_wide_gaps() -> None:
    year = ("--set", "slices.end=2026-10-05T00:00:00Z", "--set", 'slices.every="1m"', *SMALL)
    result = CliRunner().invoke(cli.app, ["check", NEWSROOM, *year], catch_exceptions=False)
    assert "warning: slices.every makes 393,120 slices in total" in result.output
    assert "slices in a row, " in result.output
    assert "The project file is valid" in result.output


def test_an_unreachable_tracking_server_stops_a_run_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOMENTRANK_TRACKING_URI", "http://127.0.0.1:9")
    message = error_of("run", NEWSROOM, monkeypatch=monkeypatch, capsys=capsys)
    assert "http://127.0.0.1:9" in message
    assert not (tmp_path / "home" / "lake").exists()


def test_backtest_passes_its_options_on_and_shows_the_seed_variance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interval = {"mean": 0.5, "low": 0.4, "high": 0.6}
    random = {"mean": 0.2, "low": 0.1, "high": 0.3}
    gain = {"mean": 0.05, "low": 0.02, "high": 0.08}
    over_seeds = {"mean": 0.0123, "deviation": 0.0045, "values": [0.01, 0.02]}
    metrics = ("ndcg@5", "ndcg@10", "mrr", "auc")
    figures = {
        "impressions": 7,
        "headline": "ndcg@10",
        "scorers": {
            "full": dict.fromkeys(metrics, interval),
            "random": dict.fromkeys(metrics, random),
        },
        "gain": dict.fromkeys(metrics, gain),
        "seed_variance": {name: dict.fromkeys(metrics, over_seeds) for name in ("full", GAIN)},
    }
    evaluated = Mock(return_value=figures)
    monkeypatch.setattr("pipelines.backtest.backtest", evaluated)
    options = ["--new-items", "0.3", "--seed", "5", "--seeds", "2", "--json", str(tmp_path / "figures.json")]

    result = CliRunner().invoke(
        cli.app, ["backtest", NEWSROOM, "--after", NOON, *options], catch_exceptions=False
    )

    assert evaluated.call_args.kwargs == {"static": False, "new_items": 0.3, "seeds": range(5, 7)}
    assert "random order 0.200, perfect order 1: 37.5% of the attainable gain" in result.output
    assert "auc 0.050 (0.020–0.080)" in result.output
    assert "0.0123 ± 0.0045" in result.output
    assert GAIN in result.output
    assert json.loads((tmp_path / "figures.json").read_text()) == figures


def test_changes_of_the_champion_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, registry = CliRunner(), Mock()
    registry.name.return_value = "newsroom-ranker"
    registry.promote.return_value = "3"
    registry.rollback.return_value = "2"
    registry.champion.return_value = ("2", "2026-01-06")
    moment = datetime(2026, 1, 8, 9, 30, tzinfo=UTC)
    registry.history.return_value = [
        Move(moment, "3", "2026-01-07", "promoted by hand", "2", "a demo [on Friday]"),
        Move(moment, "2", "2026-01-06", "rolled back", "3", ""),
    ]
    lake = Mock(slices=Mock(return_value=[]))
    monkeypatch.setattr(cli, "_open", Mock(return_value=Mock(registry=registry, lake=lake)))

    promoted = runner.invoke(cli.app, ["promote", NEWSROOM, "challenger", "--reason", "a demo"])
    back = runner.invoke(cli.app, ["rollback", NEWSROOM, "--reason", "it is over"])
    listed = runner.invoke(cli.app, ["history", NEWSROOM])

    registry.promote.assert_called_once_with("challenger", "a demo")
    registry.rollback.assert_called_once_with("it is over")
    assert "newsroom-ranker version 3 is champion" in promoted.output
    assert "newsroom-ranker version 2 is champion again" in back.output
    rows = [line.split("│") for line in listed.output.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row[1:-1]] for row in rows] == [
        ["2026-01-08 09:30:00", "3", "2026-01-07", "promoted by hand", "2", "a demo [on Friday]"],
        ["2026-01-08 09:30:00", "2", "2026-01-06", "rolled back", "3", ""],
    ]
    assert "version 2 (2026-01-06) is champion" in listed.output
