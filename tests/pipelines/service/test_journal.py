"""What was acknowledged is on disk, once, whatever happens to the process."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.service.event_intake import Intake, Known, Receipt, Refused, Stamped
from pipelines.service.journal import Journal
from pipelines.service.wire import InteractionEvent, RankingEvent, instant_of

WRITER = """
import sys
from pathlib import Path
from pipelines.service.event_intake import Intake, Known
from pipelines.service.journal import Journal
from pipelines.service.wire import InteractionEvent

journal, known = Journal(Path(sys.argv[1]), Path(sys.argv[2]), most_bytes=4096), Known()
for block in journal.blocks():
    for line in block.decode().splitlines():
        known.first("interaction", __import__("json").loads(line)["id"])
intake = Intake(journal, known, lambda: 10**15, lambda: 0, lambda lines: None, 1000)
for n in range(int(sys.argv[3]), 10**6):
    event = InteractionEvent(event="interaction", id=str(n), user="u", item="i", type="click")
    intake.submit([event]).add_done_callback(lambda done, n=n: print(n, flush=True))
    if n % 50 == 0:
        journal.rotate()
"""


def ids(journal: Journal) -> list[str]:
    return [json.loads(line)["id"] for block in journal.blocks() for line in block.decode().splitlines()]


def click(name: str | None, **more: object) -> InteractionEvent:
    event = {"event": "interaction", "id": name, "user": "u", "item": "a", "type": "click"}
    return InteractionEvent.model_validate(event | more)


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    (tmp_path / "landing").mkdir()
    return tmp_path / "landing"


def test_nothing_acknowledged_is_lost_and_nothing_is_twice_where_the_process_is_killed(
    tmp_path: Path, landing: Path
) -> None:
    acknowledged = -1
    for _ in range(2):
        command = [
            sys.executable,
            "-c",
            WRITER,
            str(tmp_path / "journal"),
            str(landing),
            str(max(0, acknowledged - 20)),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                acknowledged = int(line)
                if acknowledged % 500 == 499:
                    break
            os.kill(writer.pid, signal.SIGKILL)
            acknowledged = max(
                [acknowledged, *(int(line) for line in writer.stdout if line.strip().isdigit())]
            )

    found = ids(Journal(tmp_path / "journal", landing))

    assert len(found) == len(set(found))
    assert {str(n) for n in range(acknowledged + 1)} <= set(found)
    landed = [json.loads(line)["id"] for path in landing.iterdir() for line in path.read_text().splitlines()]
    assert sorted(landed) == sorted(found)


def test_a_line_that_was_cut_short_is_dropped_and_the_file_lands_whole(tmp_path: Path, landing: Path) -> None:
    part = tmp_path / "journal" / "live-1.jsonl.part"
    part.parent.mkdir()
    part.write_text('{"id": "1"}\n{"id": "2"}\n{"id": "3')

    assert ids(Journal(tmp_path / "journal", landing)) == ["1", "2"]
    assert (landing / "live-1.jsonl").read_text() == '{"id": "1"}\n{"id": "2"}\n'


def test_a_file_that_landed_before_the_crash_does_not_land_again(tmp_path: Path, landing: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "live-1.jsonl.part").write_text('{"id": "1"}\n')
    (landing / "accepted").mkdir()
    (landing / "accepted" / "live-1.jsonl").write_text('{"id": "1"}\n')

    Journal(tmp_path / "journal", landing)

    assert not (landing / "live-1.jsonl").exists()


def test_lines_that_a_full_disk_cuts_short_are_not_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, None)
    journal.write(['{"id": "1"}'])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        with pytest.raises(OSError, match="No space"):
            journal.write(['{"id": "2"}'])
    journal.write(['{"id": "3"}'])

    assert ids(journal) == ["1", "3"]


def test_events_are_not_refused_after_they_are_on_disk(
    tmp_path: Path, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal", landing, most_bytes=1)

    def full(*_: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        journal.write(['{"id": "1"}'])
        with pytest.raises(OSError, match="No space"):
            journal.write(['{"id": "2"}'])
    journal.write(['{"id": "2"}'])

    assert ids(journal) == ["1", "2"]


def test_closed_files_are_deleted_once_the_stored_state_covers_them(tmp_path: Path) -> None:
    journal = Journal(tmp_path, None)
    for day in (5, 6):
        journal.write([f'{{"id": "{day}", "timestamp": "2026-01-0{day}T00:00:00.000000Z"}}'])
        journal.rotate()
    journal.write(['{"id": "open", "timestamp": "2026-01-06T00:00:00.000000Z"}'])

    journal.prune(instant_of("2026-01-06T00:00:00Z") or 0)

    assert ids(journal) == ["6", "open"]


@pytest.fixture
def clock() -> list[int]:
    return [1_000_000]


@pytest.fixture
def applied() -> list[Stamped]:
    return []


@pytest.fixture
def intake(tmp_path: Path, clock: list[int], applied: list[Stamped]) -> Intake:
    def newest() -> int:
        return max((one.at for one in applied), default=0)

    return Intake(Journal(tmp_path, None), Known(), lambda: clock[0], newest, applied.extend, 10)


def test_an_event_that_is_sent_again_is_known_and_not_written(intake: Intake, applied: list[Stamped]) -> None:
    assert intake.submit([click("1"), click("2")]).result() == Receipt(2, 0)
    assert intake.submit([click("2"), click("3")]).result() == Receipt(1, 1)
    assert [one.id for one in applied] == ["1", "2", "3"]


def test_an_interaction_must_agree_with_the_impression_that_it_names(intake: Intake) -> None:
    shown = RankingEvent.model_validate({"event": "ranking", "id": "r", "user": "u", "items": [{"id": "a"}]})
    intake.submit([shown]).result()

    with pytest.raises(Refused, match=r"0\.item is not in the impression"):
        intake.submit([click("1", ranking="r", item="b")]).result()
    with pytest.raises(Refused, match=r"0\.user is not the user"):
        intake.submit([click("1", ranking="r", user="v")]).result()
    assert intake.submit([click("1", ranking="r")]).result() == Receipt(1, 0)


def test_stamps_never_go_back_where_the_clock_does(
    intake: Intake, applied: list[Stamped], clock: list[int]
) -> None:
    intake.submit([click("1")]).result()
    clock[0] = 500_000
    intake.submit([click("2"), click("3", timestamp="1970-01-01T00:00:00.2Z")]).result()

    events = [json.loads(one.line()) for one in applied]
    assert [event["known_at"] for event in events] == ["1970-01-01T00:00:01.000000Z"] * 3
    assert events[2]["timestamp"] == "1970-01-01T00:00:00.200000Z"


def test_events_that_cannot_be_written_are_not_known_and_can_be_sent_again(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(OSError, match="Input/output"):
            intake.submit([click("1")]).result()
        assert "Input/output error" in intake.problem
    assert intake.submit([click("1")]).result() == Receipt(1, 0)
    assert not intake.problem


def test_events_on_disk_are_accepted_though_memory_lacks_them(tmp_path: Path) -> None:
    def broken(_: object) -> None:
        raise ValueError("no encoder")

    intake = Intake(Journal(tmp_path, None), Known(), lambda: 1_000_000, lambda: 0, broken, 10)

    assert intake.submit([click("1")]).result() == Receipt(1, 0)
    assert intake.submit([click("1")]).result() == Receipt(0, 1)
    assert "restart the service: ValueError: no encoder" in intake.problem
