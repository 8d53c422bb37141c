"""How fast live ranking is: requests at a rate with events beside them, restarts, kills, a soak, a larger state.

`python tests/benchmarks/live.py PROJECT [--set …]` after `momentrank run PROJECT` with the same settings. Client and
server share the machine's cores. `mlflow models serve` of the same ranker, and LightGBM's predict alone, are measured
beside it. Prints Markdown, with the machine's load before it began.
"""

import argparse
import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import psutil

from pipelines.deployment import Deployment
from pipelines.lake import STATE, Lake
from pipelines.settings import settings as settings_of

CANDIDATES = 100
PATIENCE_MS = 50.0


def click(body: dict[str, Any], **more: str) -> dict[str, Any]:
    """A click of a request's user on its first candidate."""
    item = body["candidates"][0]
    return {"event": "interaction", "user": body["user_id"], "item": item, "type": "click", **more}


class Server:
    """`momentrank serve` in a process of its own."""

    def __init__(
        self, project: str, overrides: list[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        command = [sys.executable, "-c", "from pipelines.cli.commands import main; main()", "serve", project]
        given = [f"--set={one}" for one in overrides]
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), *given], stdout=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        while not self._is_ready():
            time.sleep(0.05)
        self.seconds = time.perf_counter() - began
        self.watched = psutil.Process(self.process.pid)

    @property
    def cpu(self) -> float:
        """Processor seconds so far."""
        times = self.watched.cpu_times()
        return float(times.user + times.system)

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        return float(self.watched.memory_info().rss) / 2**20

    def entries(self) -> float:
        """Entries of all counters."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        link.request("GET", "/metrics")
        return float(link.getresponse().read().decode().rpartition("momentrank_state_entries ")[2])

    def call(self, path: str, body: object, link: http.client.HTTPConnection | None = None) -> Any:
        """One POST; what is answered."""
        link = link or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        link.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = link.getresponse()
        content = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {content}")
        return content

    def kill(self) -> None:
        """End the process without a warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _is_ready(self) -> bool:
        try:
            link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            link.request("GET", "/ready")
            return link.getresponse().status == 200
        except OSError:
            return False


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def at_rate(server: Server, rate: float, seconds: float, bodies: list[dict[str, Any]]) -> np.ndarray:
    """Milliseconds from when each request was due to its answer, infinite where it was refused.

    A tenth of as many clicks are sent beside them.
    """
    links: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    took: list[float] = []

    async def send(path: str, body: object) -> bool:
        reader, writer = links.pop() if links else await asyncio.open_connection("127.0.0.1", server.port)
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
        writer.write(head.encode() + b"\r\n\r\n" + content)
        answered = await reader.readuntil(b"\r\n\r\n")
        size = int(answered.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(size)
        links.append((reader, writer))
        return answered.startswith(b"HTTP/1.1 200")

    async def one(due: float, body: dict[str, Any]) -> None:
        answered = await send("/rank", body)
        took.append(1000 * (time.perf_counter() - due) if answered else np.inf)

    began, tasks = time.perf_counter(), []
    for n in range(int(rate * seconds)):
        due = began + n / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        body = bodies[n % len(bodies)]
        tasks.append(asyncio.create_task(one(due, body)))
        if n % 10 == 0:
            tasks.append(asyncio.create_task(send("/events", click(body))))
    await asyncio.gather(*tasks)
    return np.array(took)


def visible(server: Server, body: dict[str, Any], times: int) -> np.ndarray:
    """Milliseconds from a click's acknowledgement to the answer of a request that knows it."""
    took = []
    for _ in range(times):
        probe = body | {"candidates": body["candidates"][:1], "features": True}
        before = server.call("/rank", probe)["items"][0]["features"]
        server.call("/events", click(body))
        began = time.perf_counter()
        after = server.call("/rank", probe)["items"][0]["features"]
        took.append(1000 * (time.perf_counter() - began))
        assert after != before, "a click that was acknowledged is not known"
    return np.array(took)


def kills(project: str, overrides: list[str], body: dict[str, Any], times: int, journal: Path) -> str:
    """Kill the server while events arrive, `times` times; what is lost and what is there twice."""
    acknowledged: set[str] = set()
    server = Server(project, overrides)
    for round_ in range(times):
        stop = time.monotonic() + 1.0

        def send(worker: int, server: Server = server, round_: int = round_, stop: float = stop) -> None:
            link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            n = 0
            while time.monotonic() < stop + 1:
                names = [f"k{round_}-{worker}-{n}-{m}" for m in range(50)]
                n += 1
                try:
                    server.call("/events", [click(body, id=name) for name in names], link)
                except (OSError, http.client.HTTPException, ValueError):
                    return
                acknowledged.update(names)

        senders = [threading.Thread(target=send, args=(n,)) for n in range(4)]
        for sender in senders:
            sender.start()
        time.sleep(max(0.0, stop - time.monotonic()))
        server.kill()
        for sender in senders:
            sender.join()
        server = Server(project, overrides)
    server.kill()
    written = [
        json.loads(line)["id"]
        for path in sorted(journal.glob("live-*"))
        for line in path.read_bytes().rpartition(b"\n")[0].splitlines()
    ]
    ours = [name for name in written if name.startswith("k")]
    lost, twice = len(acknowledged - set(ours)), len(ours) - len(set(ours))
    return f"{len(acknowledged):,} acknowledged, {lost} lost, {twice} twice"


def floor(made: Deployment) -> np.ndarray:
    """Milliseconds of LightGBM's predict alone, on as many rows."""
    ranker, rows = ranker_rows(made)
    return timed(lambda: ranker.score_rows(rows), 300)


def ranker_rows(made: Deployment) -> tuple[Any, np.ndarray]:
    """The ranker, and drawn rows of its columns."""
    serving = made.registry.serving("9999")
    assert serving is not None
    ranker = made.registry.load_ranker(serving.version)
    shape = (CANDIDATES, len(ranker.columns))
    return ranker, np.random.default_rng(1).normal(size=shape).astype(np.float32)


def timed(function: Callable[[], object], times: int) -> np.ndarray:
    """Milliseconds of each call."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        took.append(1000 * (time.perf_counter() - began))
    return np.array(took)


def mlflow_serve(made: Deployment, times: int) -> np.ndarray:
    """Milliseconds of `mlflow models serve` for ready-made columns, one request at a time."""
    serving = made.registry.serving("9999")
    assert serving is not None
    ranker, rows = ranker_rows(made)
    columns = ["impression_id", "item_id", *ranker.columns]
    data = [["i", str(n), *map(float, row)] for n, row in enumerate(rows)]
    body = json.dumps({"dataframe_split": {"columns": columns, "data": data}})
    port, uri = free_port(), f"models:/{made.registry.name('ranker')}/{serving.version}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        uri,
        "-p",
        str(port),
        "--env-manager",
        "local",
    ]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": made.settings.tracking_uri,
        # MLflow starts uvicorn by name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, start_new_session=True)

    def call() -> int:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        link.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = link.getresponse()
        answer.read()
        return answer.status

    def is_ready() -> bool:
        if server.poll() is not None:
            raise RuntimeError(f"`mlflow models serve` exited with {server.returncode}")
        try:
            return call() == 200
        except OSError:
            return False

    try:
        while not is_ready():
            time.sleep(0.2)
        return timed(call, times)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def larger(
    made: Deployment, project: str, overrides: list[str], times: int, body: dict[str, Any]
) -> list[str]:
    """Start to ready, and memory, with each user's state repeated under other ids."""
    slice = made.lake.slices(f"{STATE}/items")[-1]
    lines = []
    for copies in (1, times):
        with TemporaryDirectory() as folder:
            shutil.copytree(made.settings.lake, folder, dirs_exist_ok=True)
            lake = Lake(f"{folder}/{made.project.name}", {})
            for table in (name for name in lake.tables() if name.startswith(STATE)):
                rows = lake.read(table, [slice])
                if "user_id" in rows.columns:
                    users = [pl.col("user_id") + f"~{n}" if n else pl.col("user_id") for n in range(copies)]
                    lake.write(
                        table, slice, pl.concat([rows.with_columns(user) for user in users]).drop("slice")
                    )
            server = Server(project, overrides, {"MOMENTRANK_LAKE": folder})
            server.call("/rank", body)
            lines.append(
                f"{server.entries():,.0f} entries: {server.seconds:.1f} s, {server.megabytes:,.0f} MB"
            )
            server.kill()
    return lines


def main(project: str, overrides: list[str], seconds: float, times: int, soak: float, copies: int) -> None:
    """Measure and print."""
    load = os.getloadavg()[0]
    settings = settings_of.load().model_copy(
        update={"project": settings_of.find_project(Path(project)), "overrides": tuple(overrides)}
    )
    settings_of.prepare(settings)
    made = Deployment(settings.open_project(), settings)
    items = made.lake.read("items", columns=["item_id"])["item_id"].unique().sort().to_list()[-CANDIDATES:]
    users = made.lake.read("impressions", columns=["user_id"])["user_id"].value_counts(sort=True)["user_id"]
    bodies = [{"user_id": user, "candidates": items, "k": 10} for user in users.head(200)]
    print("| what | measured |\n|---|---|")

    def tell(what: str, measured: str) -> None:
        print(f"| {what} | {measured} |", flush=True)

    tell("load of the machine before", f"{load:.1f} on {os.cpu_count()} cores")
    server = Server(project, overrides)
    tell("start to ready", f"{server.seconds:.1f} s")
    for body in bodies:
        server.call("/rank", body)
    for rate in (10, 20, 50, 100, 150, 200):
        before = server.cpu
        took = asyncio.run(at_rate(server, rate, seconds, bodies))
        half, most = np.percentile(took, (50, 99), method="lower")
        refused = f", {np.isinf(took).mean():.0%} refused" if np.isinf(took).any() else ""
        cpu = 1000 * (server.cpu - before) / took.size
        tell(
            f"{rate} requests/s, p50 / p99",
            f"{half:.1f} / {most:.1f} ms{refused}, {cpu:.1f} ms of CPU a request",
        )
        if most > 20 * PATIENCE_MS:
            break
    tell("acknowledged → visible, p50 / p99", _quantiles(visible(server, bodies[0], 50)))
    if soak:
        sizes = [server.megabytes]
        for _ in range(int(soak / 30)):
            asyncio.run(at_rate(server, 20, 30, bodies))
            sizes.append(server.megabytes)
        tell(f"memory over {soak:.0f} s at 20 requests/s", " ".join(f"{size:,.0f}" for size in sizes) + " MB")
    server.process.send_signal(signal.SIGINT)
    server.process.wait()
    tell("LightGBM's predict alone, p50 / p99", _quantiles(floor(made)))
    tell("`mlflow models serve`, ready-made columns, p50 / p99", _quantiles(mlflow_serve(made, 100)))
    if copies > 1:
        for line in larger(made, project, overrides, copies, bodies[0]):
            tell("start to ready", line)
    if times:
        journal = settings.home / "journal" / made.project.name
        tell(f"kill -9, {times} times", kills(project, overrides, bodies[0], times, journal))


def _quantiles(took: np.ndarray) -> str:
    half, most = np.percentile(took, (50, 99))
    return f"{half:.2f} / {most:.2f} ms"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--soak", type=float, default=0.0, help="Seconds.")
    parser.add_argument("--copies", type=int, default=1, help="Times that each user's state is repeated.")
    given = parser.parse_args()
    main(given.project, given.overrides, given.seconds, given.kills, given.soak, given.copies)
