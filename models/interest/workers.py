"""Several processes that fit one model: who they are, what they share, how they are started on one machine.

They find each other as under `torchrun`: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT in the
environment, or a process group that was made already, as Ray Train does. Without either, one works alone.
"""

import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

RESTARTS = 3
"""How often `launch` starts a group anew that lost a worker."""
_LONGEST_WAIT = timedelta(hours=2)
"""One worker may encode or score for long while the others wait; a lost one is noticed at once all the same."""
_MENDABLE = (RuntimeError, OSError, EOFError)
"""What another try may mend: with one worker lost, the others' collectives fail so."""

Config = TypeVar("Config")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Workers:
    """A group of workers as one of them sees it. Every worker calls the same methods in the same order."""

    rank: int = 0
    size: int = 1

    @classmethod
    @contextmanager
    def join(cls) -> Iterator["Workers"]:
        """The group that the environment describes; a group that was there before is not ended."""
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        if dist.is_initialized():
            yield cls(dist.get_rank(), dist.get_world_size())
        elif int(os.environ.get("WORLD_SIZE", "1")) == 1:
            yield cls()
        else:
            store, rank, size = next(rendezvous("env://", timeout=_LONGEST_WAIT))
            # A restarted group meets at the store of the one before: it must not take that one's addresses for its own.
            own = PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
            dist.init_process_group(_backend(), store=own, rank=rank, world_size=size, timeout=_LONGEST_WAIT)
            yield cls(dist.get_rank(), dist.get_world_size())
            # Not after an error: a group that has lost a worker may wait for it for ever.
            dist.destroy_process_group()

    def gather(self, value: Value) -> list[Value]:
        """Every worker's value, by rank; for small things that can be pickled."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share(self, things: Sequence[Value]) -> Sequence[Value]:
        """What this worker takes of `things`, which all workers have in the same order."""
        return things[self.rank :: self.size]

    def collect(self, own: Sequence[Value]) -> list[Value]:
        """What came of each thing that was shared out, in the order of the things; `own` is this worker's."""
        parts = self.gather(own)
        return [parts[n % self.size][n // self.size] for n in range(sum(map(len, parts)))]

    def barrier(self) -> None:
        """Wait until every worker is here."""
        self.gather(None)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the workers; `tensor` may be overwritten."""
        if self.size == 1:
            return tensor
        place = _reachable(tensor)
        dist.all_reduce(place)
        return place.to(tensor.device)

    def exchange(self, rows: Tensor) -> Tensor:
        """[size, n]: row w of each worker goes to worker w, who finds them by rank."""
        sent = _reachable(rows)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent)
        return received.to(rows.device)

    def assemble(self, row: Tensor) -> Tensor:
        """[size, n]: every worker's row [n], by rank, on each of them."""
        sent = _reachable(row)
        rows = sent.new_empty(self.size, len(sent))
        dist.all_gather(list(rows), sent)
        return rows.to(row.device)


def has_group() -> bool:
    """Whether this process belongs to a process group that has not ended."""
    return dist.is_initialized()


def _reachable(tensor: Tensor) -> Tensor:
    """Where the group can send it from: a group that Ray Train made knows one kind of memory only."""
    backend = dist.get_backend()
    return tensor.cpu() if backend == "gloo" else tensor.cuda() if backend == "nccl" else tensor


def _backend() -> str:
    """Several workers on one GPU are nothing for NCCL."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    each = torch.cuda.is_available() and local <= torch.cuda.device_count()
    return "cpu:gloo,cuda:nccl" if each else "gloo"


def launch(function: Callable[[Config], None], config: Config, workers: int) -> None:
    """Run `function(config)` in each of `workers` new processes of this machine, which `Workers.join` unites.

    A worker that dies, or fails with a RuntimeError or OSError, takes the others with it; all begin anew, up
    to RESTARTS times, and go on from what `function` has saved. Any other exception is raised here, with the
    worker's traceback as a note. Raises RuntimeError when the restarts are used up.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="workers-") as name:
        broken = Path(name) / "error.pickle"
        settings = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=workers,
            run_id=uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=RESTARTS,
            logs_specs=DefaultLogsSpecs(log_dir=name),
        )
        handlers = {number: signal.getsignal(number) for number in _handled(settings.signals_to_handle)}
        caught: int | None = None
        try:
            elastic_launch(settings, _work)(function, config, broken)
        except SignalException as error:
            caught = error.sigval
        except ChildFailedError as error:
            rank, _ = error.get_first_failure()
            raise RuntimeError(
                f"{workers} workers failed {1 + RESTARTS} times, worker {rank} first"
            ) from error
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if caught is not None:
            signal.raise_signal(
                caught
            )  # the workers are gone: whoever handled it before decides what follows
        if broken.exists():
            raise pickle.loads(broken.read_bytes())


def _handled(names: str) -> list[signal.Signals]:
    """Signals whose handlers torch replaces for good; it does so in the main thread only."""
    import threading

    inside = threading.current_thread() is threading.main_thread()
    return [signal.Signals[name] for name in names.split(",")] if inside else []


def _work(function: Callable[[Config], None], config: Config, broken: Path) -> None:
    """One worker's whole life. What no other try would mend is written down, and ends the group."""
    if broken.exists():
        return
    threads = max(1, len(_cores()) // int(os.environ["LOCAL_WORLD_SIZE"]))
    torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", str(threads))))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    try:
        function(config)
    except _MENDABLE:
        raise
    except Exception as error:
        error.add_note(f"in worker {os.environ['RANK']}:\n{traceback.format_exc()}")
        partial = broken.with_suffix(f".{os.environ['RANK']}")
        partial.write_bytes(_pickled(error))
        os.replace(partial, broken)
        raise


def _cores() -> set[int]:
    found = getattr(os, "sched_getaffinity", None)
    return found(0) if found else set(range(os.cpu_count() or 1))


def _pickled(error: Exception) -> bytes:
    try:
        return pickle.dumps(error)
    except Exception:  # an exception may hold anything
        return pickle.dumps(RuntimeError(repr(error)))
