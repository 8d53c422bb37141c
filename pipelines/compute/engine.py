"""Engines: work runs in this process by default, or on a Ray cluster.

The only file that uses Ray. Pass functions, `functools.partial`s or callable dataclasses of an installed package.
Arguments and results are small; data is exchanged through files in a shared folder or object store.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from threading import current_thread, main_thread
from typing import Any, TypeVar

from features.errors import ProjectError

RETRIES = 3
"""How often a lost task or group of training workers is restarted."""
NAMESPACE = "momentrank"
INSTALL = "pip install -e '.[ray]'"
# Errors that a restart may fix: when one worker is lost, the collectives of the others raise these.
_RETRYABLE = (RuntimeError, OSError, EOFError)
# For a local Ray: only locations and counts pass through it.
_OBJECT_STORE_BYTES = 256 << 20
_MIN_CORES = 16
"""Assumed size of a smaller cluster: autoscaling needs queued tasks to grow it."""

Task = TypeVar("Task")
Result = TypeVar("Result")
Config = TypeVar("Config")


@dataclass(frozen=True)
class Engine:
    """Runs work in this process, which already uses every core; several training workers are subprocesses.

    Exceptions of the functions are raised to the caller unchanged.
    """

    def map(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], at_once: int | None = None
    ) -> list[Result]:
        """Results of `function` for each task, in order. A task may run twice, so it must write atomically.

        `at_once`: the most tasks that a cluster runs at a time; by default as many as it has room for.
        """
        return [function(task) for task in tasks]

    def train(
        self, function: Callable[[Config], None], config: Config, workers: int, gpus: bool = False
    ) -> None:
        """Run `function(config)` in every worker of a group, with the environment variables that `torchrun` sets.

        If a worker is lost, all restart and resume from what `function` saved. A single worker is this process.
        `gpus`: one for each worker of a cluster; this machine's are used if present.
        """
        if workers == 1:
            function(config)
        else:
            from models.interest.workers import launch

            launch(function, config, workers)


@dataclass(frozen=True)
class Cluster(Engine):
    """Runs work on a Ray cluster. Connects once per process, on first use; raises ProjectError if that fails."""

    address: str = ""
    """`HOST:PORT` of the head, or `auto`; empty starts a local Ray that ends with this process."""
    cores: int = 1
    """Cores per task and training worker."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the cluster's processes. No secrets: Ray displays them."""

    def map(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], at_once: int | None = None
    ) -> list[Result]:
        """See `Engine.map`. A task whose process or node is lost is retried, if necessary on another node."""
        ray = self._ray()
        # Exceptions come from the data: not retryable.
        remote = ray.remote(num_cpus=self.cores, max_retries=RETRIES, retry_exceptions=False)(_call)
        shared, queue = ray.put(function), deque(enumerate(tasks))
        # Submit few tasks ahead, because those running when one fails cannot be stopped: `ray.cancel` of a task that
        # is being retried may abort this process (Ray 2.60).
        ahead = at_once or 2 * max(_MIN_CORES, int(ray.cluster_resources().get("CPU", 0)))
        running: dict[Any, int] = {}
        results: dict[int, Result] = {}
        while queue or running:
            while queue and len(running) < ahead:
                number, task = queue.popleft()
                running[remote.remote(shared, task)] = number
            (done,), _ = ray.wait([*running])
            results[running.pop(done)] = _result(ray, done)
        return [results[number] for number in range(len(tasks))]

    def train(
        self, function: Callable[[Config], None], config: Config, workers: int, gpus: bool = False
    ) -> None:
        """See `Engine.train`. After the loss of a node, training continues with as many workers as fit.

        Raises RuntimeError once the restarts are used up.
        """
        ray = self._ray()
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError

        fatal = _on_this_node(ray, _FatalError).remote()
        # Holds only Ray's own records of the run; `function` decides where workers save.
        with TemporaryDirectory(prefix="train-") as folder:
            trainer = TorchTrainer(
                _run_worker,
                train_loop_config={"function": function, "config": config, "fatal": fatal},
                scaling_config=ScalingConfig(
                    num_workers=(1, workers) if workers > 1 else 1,
                    use_gpu=gpus,
                    resources_per_worker={"CPU": self.cores} | ({"GPU": 1} if gpus else {}),
                ),
                run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(max_failures=RETRIES)),
            )
            handler = signal.getsignal(signal.SIGINT)
            try:
                trainer.fit()
            except TrainingFailedError as error:
                raise RuntimeError(f"{workers} workers failed {1 + RETRIES} times: {error}") from error
            finally:
                # Restore our handler: Ray's own would call a controller that has ended.
                if current_thread() is main_thread():
                    signal.signal(signal.SIGINT, handler)
        if fatal_error := ray.get(fatal.get.remote()):
            raise fatal_error

    def _ray(self) -> Any:
        """The connected `ray` module."""
        # Before the import, which reads them; they also switch telemetry off.
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError:
            raise ProjectError(
                f"MOMENTRANK_ENGINE is ray, but Ray is not installed: run {INSTALL}, or unset it to use this machine"
            ) from None
        if ray.is_initialized():
            return ray
        local = (
            {} if self.address else {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        )
        try:
            ray.init(
                address=self.address or "local",
                namespace=NAMESPACE,
                runtime_env={"env_vars": {**self.environment, "POLARS_MAX_THREADS": str(self.cores)}},
                log_to_driver=False,
                logging_level="error",
                **local,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ProjectError(
                f"MOMENTRANK_RAY_ADDRESS is {self.address or 'not set'}, but connecting to Ray failed: {error}. "
                "Set it to HOST:PORT of the head and join this machine: ray start --address=HOST:PORT --num-cpus=0"
            ) from None
        return ray


def _call(function: Callable[[Task], Result], task: Task) -> Result:
    return function(task)


def _result(ray: Any, reference: Any) -> Any:
    """A task's result. Raises the task's own exception, chained to Ray's."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


class _FatalError:
    """The exception of a training worker that a restart would not fix."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    def set(self, error: Exception) -> None:
        self._error = error

    def get(self) -> Exception | None:
        return self._error


def _on_this_node(ray: Any, actor: type) -> Any:
    """An actor class pinned to this process's node, so that it lives as long as the node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=strategy)(actor)


def _run_worker(config: dict[str, Any]) -> None:
    """Run one training worker. An exception that a restart would not fix is recorded and stops the group."""
    import ray

    from models.interest.workers import has_group

    fatal = config["fatal"]
    if ray.get(fatal.get.remote()):
        return
    try:
        config["function"](config["config"])
    except _RETRYABLE:
        raise
    except Exception as error:
        # Ray ends the group when a worker is lost; whatever the others raise after that is a consequence.
        if has_group():
            ray.get(fatal.set.remote(error))
        raise
