"""Break runs in many ways, run them again, and check that nothing differs and nothing is lost.

`python tests/faults/campaign.py [--kills 12] [--lines 100000] [--seed 1]` runs a small newsroom undisturbed,
then once for each fault in a separate home: it breaks the run midway, runs it again, and compares every row of every
table with the undisturbed run. Prints a Markdown table; the exit status is the number of faults that left a trace.
"""

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

from home import SET_BACK, Home, differences, lines
from logs import broken_logs

_STEP = re.compile(r" *\d+/\d+ ")
"""Start of the line that reports a finished step."""

Fault = Callable[[Home, random.Random], str]
"""Breaks a run in a home and returns what happened."""


def killed(home: Home, draw: random.Random, share: float, steps: int) -> str:
    """Send SIGKILL after a share of a full run's `steps`, plus up to half a second: within the next asset."""
    running = home.start()
    *_, line = islice(filter(_STEP.match, lines(running)), int(share * steps) + 1)
    try:
        running.wait(draw.random() * 0.5)
    except subprocess.TimeoutExpired:
        running.kill()
    return f"status {running.wait()} after “{_short(line)}”"


def disk_full(home: Home, draw: random.Random) -> str:
    """Limit the size of files: writes fail as they do on a full disk."""
    running = home.start(largest_file=draw.randrange(700_000, 1_500_000))
    return _end(running)


def registry_gone(home: Home, _: random.Random) -> str:
    """Remove MLflow's database during the run and restore it for the rerun."""
    running, database, line = home.start(), home.folder / "mlflow.db", ""
    away = database.with_suffix(".away")
    for line in lines(running):
        if "interest_scores" in line and not away.exists():
            database.rename(away)
            database.mkdir()
    status = running.wait()
    if away.exists():
        database.rmdir()
        away.rename(database)
    return f"status {status}: {_short(line)}"


def two_at_once(home: Home, _: random.Random) -> str:
    """Start two runs of the same slices in one home at once."""
    runs = [home.start(), home.start()]
    return "; ".join(_end(run) for run in runs)


def clock_back(home: Home, _: random.Random) -> str:
    """Run once, then again with the clock set back, so that half of the logs lies in the future."""
    status, _ = home.run()
    return f"status {status}; then {_end(home.start(clock=SET_BACK))}"


def main(options: argparse.Namespace) -> int:
    """Try every fault; return how many left a trace."""
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        undisturbed = Home(Path(name) / "undisturbed")
        steps = [*filter(_STEP.match, lines(undisturbed.start()))]
        shares = [(kill + draw.random()) / options.kills for kill in range(options.kills)]
        faults: dict[str, Fault] = {
            f"SIGKILL {number}": partial(killed, share=share, steps=len(steps))
            for number, share in enumerate(shares, 1)
        }
        faults |= {"disk full": disk_full, "registry gone": registry_gone}
        faults |= {"two runs at once": two_at_once, "clock set back": clock_back}
        print("| fault | what happened | rerun | differences |\n|---|---|---|---|")
        traces = sum(
            _run_again(fault, inject, Home(Path(name) / fault.replace(" ", "_")), undisturbed, draw)
            for fault, inject in faults.items()
            if not options.only or options.only in fault
        )
        happened, lost = broken_logs(undisturbed.deployment, Path(name) / "logs", options.lines, draw)
        print(f"| broken logs | {happened} | | {lost or 'none'} |", flush=True)
    return traces + bool(lost)


def _run_again(fault: str, inject: Fault, home: Home, undisturbed: Home, draw: random.Random) -> bool:
    happened = inject(home, draw)
    status, last_line = home.run()
    traces = [f"the rerun failed: {_short(last_line)}"] if status else differences(home, undisturbed)
    print(f"| {fault} | {happened} | status {status} | {'; '.join(traces) or 'none'} |", flush=True)
    shutil.rmtree(home.folder)
    return bool(traces)


def _end(running: subprocess.Popen[str]) -> str:
    output = [*lines(running)]
    status = running.wait()
    return f"status {status}" + (f": {_short(output[-1])}" if status else "")


def _short(line: str) -> str:
    return " ".join(line.split())[:100].replace("|", "/")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=12, help="number of SIGKILLs, spread over the run")
    parser.add_argument("--lines", type=int, default=100_000, help="fuzzed lines among the logs")
    parser.add_argument("--only", default="", help="only faults whose name contains this")
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(main(parser.parse_args()))
