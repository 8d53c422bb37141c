"""LightGBM's network between the workers of one fit.

LightGBM uses unencrypted sockets and listens on every interface: run it on private networks only.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from models.ranker.lightgbm_parameters import threads

if TYPE_CHECKING:
    from models.interest.workers import Workers

_TIMEOUT = 120
"""Minutes that a worker waits for the others."""


@contextmanager
def connected(workers: "Workers", coordinator: str) -> Iterator[dict[str, Any]]:
    """Parameters with which boosters learn from all workers' rows, while the context lasts.

    `coordinator` is an address that every worker can reach, such as torch's MASTER_ADDR. One worker needs no network.
    Raises ConnectionError if a worker cannot be reached or is lost.
    """
    if workers.size == 1:
        yield {}
        return
    import lightgbm

    machines, port, local_workers = _addresses(workers, coordinator)
    # LightGBM opens its network through a booster: this empty one keeps it open for the others.
    quiet = {"verbosity": -1, "min_data_in_bin": 1, "min_data_in_leaf": 1}
    dummy = lightgbm.Dataset(np.array([[0.0], [1.0]]), label=[0.0, 1.0], params=quiet)
    holder = lightgbm.Booster(quiet, dummy)
    try:
        holder.set_network(machines, port, _TIMEOUT, workers.size)
        yield {
            "tree_learner": "data",
            "pre_partition": True,
            "num_machines": workers.size,
            "num_threads": threads(local_workers),
        }
    except lightgbm.basic.LightGBMError as error:
        raise ConnectionError(
            f"worker {workers.rank} of {workers.size} stopped ({error}); usually another worker was lost: "
            "see its log, then run again"
        ) from error
    finally:
        holder.free_network()


def _addresses(workers: "Workers", coordinator: str) -> tuple[list[str], int, int]:
    """Every worker's `address:port` by rank, this one's port, and how many share its machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((coordinator, 9))  # sends nothing: selects the local address that routes there
        address = probe.getsockname()[0]
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as reserved:
        # Reserved until every worker has a port, so that no two on one machine get the same.
        reserved.bind(("", 0))
        port = reserved.getsockname()[1]
        addresses = workers.gather((address, port))
    return (
        [f"{host}:{number}" for host, number in addresses],
        port,
        sum(host == address for host, _ in addresses),
    )
