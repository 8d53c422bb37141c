"""A Ray cluster of the tests' own: several nodes on loopback addresses, of which one can be killed or added."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.settings.settings import PROCESS_ENVIRONMENT

SECONDS = 60
"""How long the cluster may take to notice that a node came or went."""
CORES = 2
"""Logical cores of a node, however few the machine has."""
PATIENCE = 15
"""Seconds that a fit waits for room that a lost node took with it, before it takes what is left; else 60."""
_CURRENT = Path("/tmp/ray/ray_current_cluster")


class Machines:
    """The nodes of a cluster: a head, and workers that may be lost."""

    def __init__(self, folder: str) -> None:
        from ray.cluster_utils import Cluster

        # Not 127.0.0.1, which Ray takes for this machine's own address: all nodes would be one.
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "node_ip_address": "127.0.0.2",
                "num_cpus": CORES,
                "include_dashboard": False,
                "temp_dir": folder,
                # A dead node is noticed after 4 seconds, not 15; a slow one has as long as ever.
                "_system_config": {"health_check_period_ms": 1000, "health_check_failure_threshold": 4},
            },
        )
        self._count = 2

    @property
    def address(self) -> str:
        """What `MOMENTRANK_RAY_ADDRESS` is set to."""
        return str(self._cluster.address)

    @property
    def workers(self) -> list[Any]:
        """The nodes beside the head; each has a `node_id`."""
        return list(self._cluster.worker_nodes)

    def add(self) -> Any:
        """A new worker node, ready for work."""
        self._count += 1
        return self._cluster.add_node(node_ip_address=f"127.0.0.{self._count}", num_cpus=CORES)

    def kill(self, node: Any) -> None:
        """SIGKILL a worker node's processes, and wait until the cluster has noticed."""
        self._cluster.remove_node(node, allow_graceful=False)
        self._cluster.wait_for_nodes(SECONDS)

    def end(self) -> None:
        """Kill every process of the cluster."""
        address = self.address
        self._cluster.shutdown()
        # Else the next Ray on this machine tries to join what is gone.
        if _CURRENT.exists() and _CURRENT.read_text(encoding="utf-8").strip() == address:
            _CURRENT.unlink()


@pytest.fixture(scope="session")
def _machines() -> Iterator[Machines]:
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("a cluster wants the machine for itself: pytest tests/scale")
    os.environ.update(PROCESS_ENVIRONMENT, RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=str(PATIENCE))
    # Short: sockets lie in it, and their paths may not be long.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    try:
        machines = Machines(folder)
        try:
            yield machines
        finally:
            ray.shutdown()
            machines.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def machines(_machines: Machines, request: pytest.FixtureRequest) -> Iterator[Machines]:
    """A head and one worker node of two cores each; functions of the test's own file can be sent to them."""
    from ray import cloudpickle

    if not _machines.workers:
        _machines.add()
    cloudpickle.register_pickle_by_value(request.module)
    yield _machines
    cloudpickle.unregister_pickle_by_value(request.module)


def wait_for(happened: Any, seconds: float = SECONDS) -> None:
    """Wait until `happened()`, or fail."""
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, f"waited {seconds} s in vain"
        time.sleep(0.05)
