"""The short form of the campaign: one SIGKILL and fuzzed lines. `make faults` runs all of it."""

import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).with_name("campaign.py")


def test_a_killed_run_ends_as_an_undisturbed_one_and_no_line_is_lost() -> None:
    quick = ["--kills", "1", "--only", "SIGKILL", "--lines", "5000"]

    done = subprocess.run(
        [sys.executable, str(CAMPAIGN), *quick], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
    assert "status -9 after" in done.stdout
    assert "rejected with a reason" in done.stdout
