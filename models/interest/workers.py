"""Several processes that fit one model: their collectives, the sum of their gradients, and starting them.

They find each other as under `torchrun`, by RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT in the
environment, or in a process group that exists already, as with Ray Train. Without either there is one worker.
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
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn import functional as F

RESTARTS = 3
"""How often `launch` restarts a group that lost a worker."""
_LONGEST_WAIT = timedelta(hours=2)
"""One worker may encode for long while the others wait; a lost worker is noticed at once anyway."""
_RETRYABLE = (RuntimeError, OSError, EOFError)
"""What a retry may mend: the collectives of the other workers fail like this when one is lost."""

Config = TypeVar("Config")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Workers:
    """A group of workers, seen from one of them. All workers call the same methods in the same order."""

    rank: int = 0
    size: int = 1

    @classmethod
    @contextmanager
    def join(cls) -> Iterator["Workers"]:
        """Inside the context, the group that the environment describes; a group that existed before is not ended."""
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        if dist.is_initialized():
            yield cls(dist.get_rank(), dist.get_world_size())
        elif int(os.environ.get("WORLD_SIZE", "1")) == 1:
            yield cls()
        else:
            store, rank, size = next(rendezvous("env://", timeout=_LONGEST_WAIT))
            # A restarted group uses the previous group's store: a prefix keeps their addresses apart.
            own = PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
            dist.init_process_group(_backend(), store=own, rank=rank, world_size=size, timeout=_LONGEST_WAIT)
            yield cls(dist.get_rank(), dist.get_world_size())
            # Not after an error: a group that has lost a worker may wait for ever.
            dist.destroy_process_group()

    def gather(self, value: Value) -> list[Value]:
        """Every worker's value, by rank; for small values that can be pickled."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def shard(self, values: Sequence[Value]) -> Sequence[Value]:
        """This worker's part of `values`, which all workers have in the same order."""
        return values[self.rank :: self.size]

    def collect(self, own: Sequence[Value]) -> list[Value]:
        """Every worker's results, in the order of the values that `shard` divided; `own`: one per value."""
        parts = self.gather(own)
        return [parts[n % self.size][n // self.size] for n in range(sum(map(len, parts)))]

    def barrier(self) -> None:
        """Wait for all workers."""
        self.gather(None)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the workers; `tensor` may be overwritten."""
        if self.size == 1:
            return tensor
        place = _reachable(tensor)
        dist.all_reduce(place)
        return place.to(tensor.device)

    def exchange(self, rows: Tensor) -> Tensor:
        """All-to-all of `rows` [size, n]: row w goes to worker w; the result has one row per sender."""
        sent = _reachable(rows)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent)
        return received.to(rows.device)

    def assemble(self, row: Tensor) -> Tensor:
        """All-gather: every worker's row [n], by rank, as [size, n]."""
        sent = _reachable(row)
        rows = sent.new_empty(self.size, len(sent))
        dist.all_gather(list(rows), sent)
        return rows.to(row.device)


class GradientSum:
    """The gradient of a step: the sum over its passes in their order, on whichever workers they run.

    A sum's last bits depend on its order, and grow once weights are rounded to bf16 and Adam divides by small numbers.
    So no worker sums its own passes: each sums one part of the parameters over all passes. That moves as many bytes as
    an all-reduce if each worker has one pass.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], workers: Workers) -> None:
        self._parameters, self._workers = parameters, workers
        self._part: Tensor | None = None

    def add(self, passes: int) -> None:
        """Add the `grad` of the first `passes` workers, and clear it."""
        if self._workers.size == 1:
            return  # autograd adds to `grad` in this order
        for row in self._workers.exchange(self._line())[:passes]:
            self._part = row if self._part is None else self._part.add_(row)
        for parameter in self._parameters:
            parameter.grad = None

    def finish(self) -> None:
        """Set `grad` to the sum on every worker; None if no pass had a gradient."""
        if self._part is None:
            return
        line = self._workers.assemble(self._part).flatten()
        sizes = [*(p.numel() for p in self._parameters), len(self._parameters)]
        *parts, counts = torch.split(line[: sum(sizes)], sizes)
        for parameter, part, count in zip(self._parameters, parts, counts.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if count else None

    def _line(self) -> Tensor:
        """Gradients of all parameters, then whether each has one, as [size, n] with one row per worker."""
        own = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in self._parameters]
        counts = own[0].new_tensor([float(p.grad is not None) for p in self._parameters])
        line = torch.cat([*(gradient.flatten() for gradient in own), counts])
        return F.pad(line, (0, -len(line) % self._workers.size)).view(self._workers.size, -1)


def has_group() -> bool:
    """Whether this process belongs to a process group that has not ended."""
    return dist.is_initialized()


def _reachable(tensor: Tensor) -> Tensor:
    """The tensor in memory that the group's backend can send from; Ray Train's groups have one backend."""
    backend = dist.get_backend()
    return tensor.cpu() if backend == "gloo" else tensor.cuda() if backend == "nccl" else tensor


def _backend() -> str:
    """The backend; NCCL does not support several workers on one GPU."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    each = torch.cuda.is_available() and local <= torch.cuda.device_count()
    return "cpu:gloo,cuda:nccl" if each else "gloo"


def launch(function: Callable[[Config], None], config: Config, workers: int) -> None:
    """Run `function(config)` in `workers` new processes of this machine, which join by `Workers.join`.

    If a worker dies, or fails with a RuntimeError or OSError, all are restarted, up to RESTARTS times; `function`
    should resume from what it has saved. Other exceptions are raised here, with the worker's traceback as a note.
    Raises RuntimeError after the last restart.
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
            # The workers are gone: the handler from before `launch` decides what follows.
            signal.raise_signal(caught)
        if broken.exists():
            raise pickle.loads(broken.read_bytes())


def _handled(names: str) -> list[signal.Signals]:
    """Signals whose handlers torch replaces without restoring them; only in the main thread."""
    import threading

    inside = threading.current_thread() is threading.main_thread()
    return [signal.Signals[name] for name in names.split(",")] if inside else []


def _work(function: Callable[[Config], None], config: Config, broken: Path) -> None:
    """Run one worker. An exception that a retry would not mend is written to `broken` and ends the group."""
    if broken.exists():
        return
    threads = max(1, len(_cores()) // int(os.environ["LOCAL_WORLD_SIZE"]))
    torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", str(threads))))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    try:
        function(config)
    except _RETRYABLE:
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
