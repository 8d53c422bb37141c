"""Fixture: a Ray cluster of several nodes on loopback addresses; nodes can be killed and added."""

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
"""Seconds for the cluster to notice that a node joined or left."""
CORES = 2
"""Logical cores of a node, whatever the machine has."""
PATIENCE = 15
"""Seconds that a fit waits to replace a lost node before it continues with the rest; Ray's default is 60."""
_CURRENT = Path("/tmp/ray/ray_current_cluster")


class Machines:
    """The nodes of a cluster: a head and worker nodes."""

    def __init__(self, folder: str) -> None:
        from ray.cluster_utils import Cluster

        # Not 127.0.0.1: Ray replaces it by the machine's address, so all nodes would be one.
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "node_ip_address": "127.0.0.2",
                "num_cpus": CORES,
                "include_dashboard": False,
                "temp_dir": folder,
                # Notice a dead node after 4 seconds instead of 15; slow nodes keep their time limit.
                "_system_config": {"health_check_period_ms": 1000, "health_check_failure_threshold": 4},
            },
        )
        self._count = 2

    @property
    def address(self) -> str:
        """The value for `MOMENTRANK_RAY_ADDRESS`."""
        return str(self._cluster.address)

    @property
    def workers(self) -> list[Any]:
        """The worker nodes; each has a `node_id`."""
        return list(self._cluster.worker_nodes)

    def add(self) -> Any:
        """Add a worker node and wait until it is ready."""
        self._count += 1
        return self._cluster.add_node(node_ip_address=f"127.0.0.{self._count}", num_cpus=CORES)

    def kill(self, node: Any) -> None:
        """Send SIGKILL to a worker node's processes and wait until the cluster notices."""
        self._cluster.remove_node(node, allow_graceful=False)
        self._cluster.wait_for_nodes(SECONDS)

    def end(self) -> None:
        """Kill every process of the cluster."""
        address = self.address
        self._cluster.shutdown()
        # Otherwise the next Ray on this machine tries to join the dead cluster.
        if _CURRENT.exists() and _CURRENT.read_text(encoding="utf-8").strip() == address:
            _CURRENT.unlink()


@pytest.fixture(scope="session")
def _machines() -> Iterator[Machines]:
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("a cluster wants the machine for itself: pytest tests/scale")
    os.environ.update(PROCESS_ENVIRONMENT, RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=str(PATIENCE))
    # A short path, because socket paths are limited in length.
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
    """A head and one worker node with two cores each, which can run functions of the test's module."""
    from ray import cloudpickle

    if not _machines.workers:
        _machines.add()
    cloudpickle.register_pickle_by_value(request.module)
    yield _machines
    cloudpickle.unregister_pickle_by_value(request.module)


def wait_for(condition: Any, seconds: float = SECONDS) -> None:
    """Wait until `condition()` is true, or fail."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s in vain"
        time.sleep(0.05)
