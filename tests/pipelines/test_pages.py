"""The Dagster and MLflow servers: ports in use, and a common end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

from features.errors import ProjectError
from pipelines import pages
from pipelines.settings import settings
from pipelines.settings.settings import REPOSITORY


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOMENTRANK_PROJECT", str(REPOSITORY / "projects" / "newsroom.toml"))
    for name, port in zip(("DAGSTER", "MLFLOW"), free_ports(2), strict=True):
        monkeypatch.setenv(f"MOMENTRANK_{name}_URL", f"http://127.0.0.1:{port}")
    for variable in ("DAGSTER_HOME", *settings.PROCESS_ENVIRONMENT):
        monkeypatch.setenv(variable, os.environ.get(variable, ""))
    loaded = settings.load()
    settings.prepare(loaded)
    before = signal.getsignal(signal.SIGTERM)
    yield SimpleNamespace(settings=loaded, registry=Mock())
    signal.signal(signal.SIGTERM, before)


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.mark.parametrize(
    ("which", "words"),
    [
        (0, ("Dagster", "--port", "MOMENTRANK_DAGSTER_URL")),
        (1, ("MLflow", "--mlflow-port", "MOMENTRANK_MLFLOW_URL")),
    ],
)
def test_a_port_in_use_is_an_error_before_anything_starts(
    deployment: Any, monkeypatch: pytest.MonkeyPatch, which: int, words: tuple[str, ...]
) -> None:
    started, lines = Mock(), Mock()
    monkeypatch.setattr(subprocess, "Popen", started)
    ports = free_ports(2)
    with socket.create_server(("127.0.0.1", ports[which])), pytest.raises(ProjectError) as caught:
        pages.serve([deployment], "127.0.0.1", lines, *ports)

    for word in (*words, str(ports[which])):
        assert word in str(caught.value)
    assert not started.called
    assert not lines.called


def test_ports_of_the_command_line_reach_servers_and_links(
    deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, lines = Mock(), Mock()
    monkeypatch.setattr(pages, "_run", ran)
    ports = free_ports(2)

    pages.serve([deployment], "127.0.0.1", lines, *ports)

    commands, served, *_ = ran.call_args.args
    assert [command[-1] for command in commands.values()] == [str(port) for port in ports]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    assert [served.dagster_url, served.mlflow_url] == urls
    assert all(url in str(lines.call_args_list) for url in urls)


def test_a_server_that_exits_is_an_error_and_stops_the_other(
    deployment: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stays = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    wait = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(0.01)\n"
    commands = {
        "Dagster": [sys.executable, "-c", stays],
        "MLflow": [sys.executable, "-c", wait + "raise SystemExit('no such table: runs')"],
    }
    monkeypatch.setattr(pages, "_commands", lambda *_: commands)

    with pytest.raises(ProjectError, match="MLflow server exited with status 1: no such table: runs"):
        pages.serve([deployment], "127.0.0.1", Mock())

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_servers_stop_when_their_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys, types\n"
        "from pipelines import pages\n"
        "settings = types.SimpleNamespace(logs=pathlib.Path(sys.argv[1]))\n"
        "stays = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "pages._run({'Dagster': stays}, settings, dict(os.environ), print)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as started:
        while len(children := psutil.Process(started.pid).children()) < 2:
            time.sleep(0.05)
        server = min(children, key=psutil.Process.create_time)
        started.kill()

    server.wait(timeout=60)


def test_the_definitions_load_from_a_folder_with_packages_of_the_same_names(
    deployment: Any, tmp_path: Path
) -> None:
    for name in ("features", "models", "pipelines"):
        (tmp_path / "own" / name).mkdir(parents=True)
        (tmp_path / "own" / name / "__init__.py").write_text("raise ImportError('another package')")
    workspace = pages._workspace(deployment.settings.dagster_home)

    loaded = subprocess.run(
        [
            sys.executable,
            "-m",
            "dagster",
            "definitions",
            "validate",
            "--load-with-grpc",
            "--workspace",
            str(workspace),
        ],
        check=False,
        cwd=tmp_path / "own",
        env=settings.environment(deployment.settings),
        capture_output=True,
        text=True,
    )

    assert loaded.returncode == 0, loaded.stderr
