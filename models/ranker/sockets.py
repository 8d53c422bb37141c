"""How the workers of one fit find each other, and LightGBM's own network between them.

LightGBM talks over plain sockets, unencrypted, and listens on every interface of the machine: for private
networks only.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np

from models.ranker.lightgbm_parameters import threads

Value = TypeVar("Value")

_LONGEST_WAIT = 120
"""Minutes that a worker waits for another's rows to be binned or counted."""


class Workers(Protocol):
    """What the fit needs of a group of workers: `models.interest.workers.Workers` is one."""

    @property
    def rank(self) -> int:
        """This worker's number, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather(self, value: Value, /) -> list[Value]:
        """Every worker's value, by rank."""


@contextmanager
def connected(workers: Workers, meeting: str) -> Iterator[dict[str, Any]]:
    """While it lasts, boosters trained with the parameters that it gives learn from all workers' rows together.

    `meeting` is an address that every worker reaches, such as torch's MASTER_ADDR. One worker needs no network.
    Raises ConnectionError when a worker cannot be reached, or is lost meanwhile.
    """
    if workers.size == 1:
        yield {}
        return
    import lightgbm

    machines, port, neighbours = _found(workers, meeting)
    # A booster is LightGBM's one door to its network; this one, of no account, holds it open for all others.
    quiet = {"verbosity": -1, "min_data_in_bin": 1, "min_data_in_leaf": 1}
    nothing = lightgbm.Dataset(np.array([[0.0], [1.0]]), label=[0.0, 1.0], params=quiet)
    holder = lightgbm.Booster(quiet, nothing)
    try:
        holder.set_network(machines, port, _LONGEST_WAIT, workers.size)
        yield {
            "tree_learner": "data",
            "pre_partition": True,
            "num_machines": workers.size,
            "num_threads": threads(neighbours),
        }
    except lightgbm.basic.LightGBMError as error:
        raise ConnectionError(
            f"worker {workers.rank} of {workers.size} could not go on, most often because another was lost ({error})"
        ) from error
    finally:
        holder.free_network()


def _found(workers: Workers, meeting: str) -> tuple[list[str], int, int]:
    """Every worker's `address:port` by rank, this one's port, and how many share its machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((meeting, 9))  # nothing is sent: it only asks which of our addresses leads there
        address = way.getsockname()[0]
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
        # Held until all have theirs, so that no two on a machine are given the same.
        held.bind(("", 0))
        port = held.getsockname()[1]
        found = workers.gather((address, port))
    return [f"{host}:{number}" for host, number in found], port, sum(host == address for host, _ in found)
