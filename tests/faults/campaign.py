"""What can break a run, and what is left of it after a rerun: nothing may differ, and nothing may be lost.

`python tests/faults/campaign.py [--kills 12] [--lines 100000] [--seed 1]` runs a small newsroom undisturbed, then
once for each fault in a home of its own: it breaks the run while it works, runs it again, and compares every row of
every table with the undisturbed ones. Prints a Markdown table; the exit status is how many faults left a trace.
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

_STEP = re.compile(r"\d+\.\d s ")
"""How a line begins that tells of a step done."""

Fault = Callable[[Home, random.Random], str]
"""Breaks a run in a home and says what happened."""


def killed(home: Home, draw: random.Random, share: float, told: int) -> str:
    """SIGKILL after a share of the `told` steps of a whole run, and a moment: within the asset that follows."""
    running = home.start()
    *_, line = islice(filter(_STEP.match, lines(running)), int(share * told) + 1)
    try:
        running.wait(draw.random() * 0.5)
    except subprocess.TimeoutExpired:
        running.kill()
    return f"status {running.wait()} after “{_short(line)}”"


def disk_full(home: Home, draw: random.Random) -> str:
    """No file may grow beyond a size: the system refuses the write, as it does on a full disk."""
    running = home.start(largest_file=draw.randrange(700_000, 1_500_000))
    return _end(running)


def registry_gone(home: Home, _: random.Random) -> str:
    """MLflow's database goes away while the run works, and is back for the rerun."""
    running, database, said = home.start(), home.folder / "mlflow.db", ""
    away = database.with_suffix(".away")
    for said in lines(running):
        if "interest_scores" in said and not away.exists():
            database.rename(away)
            database.mkdir()
    status = running.wait()
    if away.exists():
        database.rmdir()
        away.rename(database)
    return f"status {status}: {_short(said)}"


def two_at_once(home: Home, _: random.Random) -> str:
    """Two runs of the same slices in one home, begun together."""
    both = [home.start(), home.start()]
    return "; ".join(_end(one) for one in both)


def clock_back(home: Home, _: random.Random) -> str:
    """A whole run, then one whose clock was set back: half of what the logs hold is then still to come."""
    status, _ = home.run()
    return f"status {status}; then {_end(home.start(clock=SET_BACK))}"


def main(asked: argparse.Namespace) -> int:
    """Run them all; the number of faults that left a trace."""
    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        undisturbed = Home(Path(name) / "undisturbed")
        told = [*filter(_STEP.match, lines(undisturbed.start()))]
        shares = [(kill + draw.random()) / asked.kills for kill in range(asked.kills)]
        faults: dict[str, Fault] = {
            f"SIGKILL {number}": partial(killed, share=share, told=len(told))
            for number, share in enumerate(shares, 1)
        }
        faults |= {"disk full": disk_full, "registry gone": registry_gone}
        faults |= {"two runs at once": two_at_once, "clock set back": clock_back}
        print("| fault | what happened | rerun | differences |\n|---|---|---|---|")
        traces = sum(
            _one(fault, breaks, Home(Path(name) / fault.replace(" ", "_")), undisturbed, draw)
            for fault, breaks in faults.items()
            if not asked.only or asked.only in fault
        )
        happened, lost = broken_logs(undisturbed.deployment, Path(name) / "logs", asked.lines, draw)
        print(f"| broken logs | {happened} | | {lost or 'none'} |", flush=True)
    return traces + bool(lost)


def _one(fault: str, breaks: Fault, home: Home, undisturbed: Home, draw: random.Random) -> bool:
    happened = breaks(home, draw)
    status, said = home.run()
    found = [f"the rerun failed: {_short(said)}"] if status else differences(home, undisturbed)
    print(f"| {fault} | {happened} | status {status} | {'; '.join(found) or 'none'} |", flush=True)
    shutil.rmtree(home.folder)
    return bool(found)


def _end(running: subprocess.Popen[str]) -> str:
    said = [*lines(running)]
    status = running.wait()
    return f"status {status}" + (f": {_short(said[-1])}" if status else "")


def _short(line: str) -> str:
    return " ".join(line.split())[:100].replace("|", "/")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=12, help="SIGKILLs, spread over the run")
    parser.add_argument("--lines", type=int, default=100_000, help="fuzzed lines among the logs")
    parser.add_argument("--only", default="", help="only faults whose name holds this")
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(main(parser.parse_args()))
