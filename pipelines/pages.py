"""`momentrank ui`: the Dagster and MLflow servers, started and stopped together."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

from features.errors import ProjectError
from pipelines.deployment import Deployment
from pipelines.settings.settings import Settings, environment

WORKSPACE = """\
load_from:
  - python_module:
      module_name: pipelines.definitions
      location_name: momentrank
      working_directory: {folder}
"""
_GRACE_SECONDS = 30
_GUARD = """
import os, signal, sys, time
sys.stdin.read()  # returns when the parent process ends, however it ends
for number, pause in (signal.SIGTERM, int(sys.argv[1])), (signal.SIGKILL, 0):
    for group in map(int, sys.argv[2:]):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            pass
    time.sleep(pause)
"""


def serve(
    deployments: Sequence[Deployment],
    host: str,
    say: Callable[[str], None],
    port: int | None = None,
    mlflow_port: int | None = None,
) -> None:
    """Start both servers on `host` and wait until Ctrl-C. All deployments share one home.

    `port` is Dagster's. By default the ports are those of `MOMENTRANK_DAGSTER_URL` and `MOMENTRANK_MLFLOW_URL`.
    Raises ProjectError if a port is in use, before either starts, or if a server exits.
    """
    settings = deployments[0].settings
    settings = settings.model_copy(
        update={
            "dagster_url": _with_port(settings.dagster_url, port),
            "mlflow_url": _with_port(settings.mlflow_url, mlflow_port),
        }
    )
    ports = (
        port or urlparse(settings.dagster_url).port or 3000,
        mlflow_port or urlparse(settings.mlflow_url).port or 5000,
    )
    _require_free(host, ports[0], "Dagster", "--port", "MOMENTRANK_DAGSTER_URL")
    _require_free(host, ports[1], "MLflow", "--mlflow-port", "MOMENTRANK_MLFLOW_URL")
    if ports[0] == ports[1]:
        raise ProjectError(
            f"Dagster and MLflow cannot both use port {ports[0]}: choose another with --mlflow-port"
        )
    for deployment in deployments:
        deployment.registry.prepare()
    say(f"Dagster  {settings.dagster_url}   assets, checks, runs, schedules")
    say(f"MLflow   {settings.mlflow_url}   model versions, metrics, reports")
    say(f"Logs     {settings.logs}")
    say("Ctrl-C stops both.")
    others = (deployment.settings for deployment in deployments[1:])
    _run(_commands(settings, host, *ports), settings, environment(settings, *others), say)


def _commands(settings: Settings, host: str, dagster: int, mlflow: int) -> dict[str, list[str]]:
    """Server name → command line."""
    workspace = _workspace(settings.dagster_home)
    return {
        "Dagster": [
            *(sys.executable, "-m", "dagster_dg_cli.cli", "dev", "--workspace", str(workspace)),
            *("--host", host, "--port", str(dagster)),
        ],
        "MLflow": [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--host", host, "--port", str(mlflow)),
        ],
    }  # fmt: skip


def _workspace(folder: Path) -> Path:
    """Write Dagster's workspace file. Its working directory, from which Dagster imports first, has no packages."""
    file = folder / "workspace.yaml"
    file.write_text(WORKSPACE.format(folder=json.dumps(str(folder))), encoding="utf-8")
    return file


def _run(
    commands: dict[str, list[str]], settings: Settings, env: dict[str, str], say: Callable[[str], None]
) -> None:
    settings.logs.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    servers = {name: _start(command, _log(settings, name), env) for name, command in commands.items()}
    guard = _guard(servers.values())
    try:
        while True:
            for name, server in servers.items():
                with suppress(subprocess.TimeoutExpired):
                    status = server.wait(timeout=1)
                    raise ProjectError(_exit_message(name, status, _log(settings, name)))
    except KeyboardInterrupt:
        say("stopping")
    finally:
        for server in servers.values():
            _signal(server, signal.SIGTERM)
        for server in servers.values():
            with suppress(subprocess.TimeoutExpired):
                server.wait(timeout=_GRACE_SECONDS)
            _signal(server, signal.SIGKILL)
        guard.kill()
        guard.wait()


def _guard(servers: Iterable[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Start a process that stops the servers if this one is killed."""
    groups = (str(server.pid) for server in servers)
    command = [sys.executable, "-c", _GUARD, str(_GRACE_SECONDS), *groups]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _start(command: list[str], log: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a server in its own process group, so that Ctrl-C reaches only us and we can stop all its children."""
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _log(settings: Settings, name: str) -> Path:
    return settings.logs / f"{name.lower()}.log"


def _exit_message(name: str, status: int, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
    return f"the {name} server exited with status {status}: {last}. See {log}"


def _signal(server: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a server and the processes that it started, if they are still alive."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, number)


def _require_free(host: str, port: int, name: str, option: str, variable: str) -> None:
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.socket(family) as probe:
            # As the servers do: a port that was just released counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ProjectError(
            f"{name} cannot open its page on port {port} of {host} ({error.strerror or error}): "
            f"choose another port with {option}, or in {variable}"
        ) from None


def _with_port(url: str, port: int | None) -> str:
    """`url` with another port. A URL without a port is unchanged: a proxy serves it."""
    parsed = urlparse(url)
    if not port or not parsed.port:
        return url
    host = parsed.netloc.removesuffix(f":{parsed.port}")
    return parsed._replace(netloc=f"{host}:{port}").geturl()
