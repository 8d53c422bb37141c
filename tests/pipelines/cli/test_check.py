"""`momentrank check`: whether a log can be trained on, and if not, the setting to change."""

import sys
from pathlib import Path

import pytest
from rich.console import Console

from features.errors import SourceError
from pipelines.cli import commands as cli

HEADER = "user_id,timestamp,item_id,clicked\n"
GOOD = "u1,2026-01-06 12:00:00+00,a b c,b\nu2,2026-01-06 12:05:00 UTC,b c,c\n"
CANDIDATES = "".join(
    f"u{n},2026-01-06 12:0{n}:00,{item},{clicked}\n"
    for n in range(4)
    for item, clicked in (("a", "True"), ("b", "no"))
)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(cli, "out", Console(highlight=False))  # reads its width when created


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Check":
    return Check(tmp_path, monkeypatch, capsys)


class Check:
    """Runs the command on a log; returns its exit status and output."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys

    def __call__(self, log: str, *sets: str, shape: str = "lists") -> tuple[int, str]:
        (self.folder / "log.csv").write_text(log)
        project = self.folder / "shop.toml"
        project.write_text(
            f'name = "shop"\n[source]\nformat = "tables"\npath = "log.csv"\n[source.tables]\nshape = "{shape}"\n'
            'clicked = "clicked"\n[slices]\nstart = 2026-01-05T00:00:00Z\n'
        )
        options = [word for text in sets for word in ("--set", text)]
        self.monkeypatch.setattr(sys, "argv", ["momentrank", "check", str(project), *options])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = self.capsys.readouterr()
        return int(stopped.value.code or 0), captured.out + captured.err


@pytest.mark.parametrize(("log", "shape"), [(HEADER + GOOD, "lists"), (HEADER + CANDIDATES, "candidates")])
def test_a_valid_log_names_the_next_command(check: Check, log: str, shape: str) -> None:
    status, output = check(log, shape=shape)

    assert status == 0
    assert "The project file is valid: momentrank run" in output


@pytest.mark.parametrize(
    ("rows", "sets", "shape", "expected"),
    [
        ("", (), "lists", ["The log is empty"]),
        (
            GOOD.replace("2026-01-06", "06/01/2026"),
            (),
            "lists",
            ["No impression was kept; 2 of 2 rows", "bad_timestamp", "log.csv line 2: ", "u1,06/01", "time_format"],
        ),
        (CANDIDATES.replace("True", "soon"), (), "candidates", ["bad_number:clicked", "true/false"]),
        (CANDIDATES.replace("True", "0"), (), "candidates", ["No interaction was kept", "tables.threshold"]),
        (
            GOOD,
            ("slices.start=2026-02-01T00:00:00Z",),
            "lists",
            ["2 of 2 impressions lie outside", "2026-01-06 12:00 to 2026-01-06 12:05", "Set slices.start"],
        ),
        (GOOD, ('slices={start="2025-01-01", end="2025-02-01"}',), "lists", ["and slices.end to match"]),
        (GOOD.replace(",b\n", ",z\n").replace(",c\n", ",z\n"), (), "lists", ["item_not_shown", "tables.clicked"]),
        (GOOD, ("labels.gains={cart=1.0}",), "lists", ["kinds are click", "labels.gains names cart"]),
        (GOOD.replace(" UTC,b c", " UTC,\"b,c\""), (), "lists", ["source.tables.separator"]),
        (
            GOOD,
            ('source.tables.items_path="items.csv"', 'source.tables.item_key="key"', 'items.title=""'),
            "lists",
            ["0 of 3 candidate ids", "look like 'a'", "the items' like 'sku-1'", "item_key"],
        ),
    ],
)  # fmt: skip
def test_an_unusable_log_fails_and_names_the_setting(
    tmp_path: Path, check: Check, rows: str, sets: tuple[str, ...], shape: str, expected: list[str]
) -> None:
    (tmp_path / "items.csv").write_text("key\nsku-1\n")

    status, output = check(HEADER + rows, *sets, shape=shape)

    assert status == 1
    assert [text for text in expected if text not in output] == []
    assert "The project file is valid" not in output


def test_many_rejected_rows_are_a_warning(check: Check) -> None:
    status, output = check(HEADER + GOOD + "u3,soon,a b,a\n" * 3)

    assert status == 0
    assert "warning 3 of 7 rows were refused" in output
    assert "see the warnings: momentrank run" in output


def test_impressions_of_one_candidate_are_a_warning(check: Check) -> None:
    status, output = check(
        HEADER + GOOD.replace("a b c", "a/b").replace(",b\n", ",a/b\n").replace("b c", "c")
    )

    assert status == 0
    assert "one candidate, for example 'a/b'" in output
    assert "source.tables.separator" in output


def test_without_a_readable_row_the_error_quotes_no_user(
    tmp_path: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(HEADER + "anna,soon,a b,a\n")
    monkeypatch.setenv("MOMENTRANK_PROJECT", str(tmp_path / "shop.toml"))
    deployment = cli._open(tmp_path / "shop.toml")

    with pytest.raises(SourceError, match=r"1 × bad_timestamp, the first in log\.csv line 2") as error:
        deployment.ingest()

    assert "anna" not in str(error.value)
    assert "time_format" in str(error.value)
