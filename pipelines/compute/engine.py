"""Where work runs: in this process by default, on a Ray cluster where it outgrows one machine.

The only file that knows Ray. What runs there is a function, a `functools.partial` or a callable dataclass of an
installed package; arguments and results are small, data travels through files of a shared folder or object store.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from tempfile import TemporaryDirectory
from threading import current_thread, main_thread
from typing import Any, Protocol, TypeVar

from features.errors import ProjectError

RETRIES = 3
"""How often a task, an actor or a group of training workers that was lost is started anew."""
NAMESPACE = "momentrank"
INSTALL = "pip install -e '.[ray]'"
# What another try may mend: with one worker lost, the others' collectives fail so.
_MENDABLE = (RuntimeError, OSError, EOFError)
# Of the Ray that we start ourselves: only locations and counts travel through it.
_OBJECT_STORE_BYTES = 256 << 20
_FEWEST_CORES = 16
"""Taken to be there: a cluster that grows with its queue must see one, however small it is now."""

Task = TypeVar("Task")
Result = TypeVar("Result")
Config = TypeVar("Config")


class Engine(Protocol):
    """The three ways in which work is spread out. What a function raises is raised here, whole."""

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """`function` of each task, in the order of the tasks. A task may run again: it writes atomically."""
        ...

    def map_actors(
        self, make: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task], actors: int
    ) -> list[Result]:
        """The same by at most `actors` callables, each made once where it works: they hold what is slow to load."""
        ...

    def train(
        self, function: Callable[[Config], None], config: Config, workers: int, gpus: bool = False
    ) -> None:
        """`function(config)` in every worker of a group, which learn who they are as under `torchrun`.

        With one lost, all begin anew and go on from what `function` saved. `gpus`: one for each worker.
        """
        ...


@dataclass(frozen=True)
class Embedded:
    """Work in this process, which uses every core already; several training workers are processes beside it."""

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """See `Engine.map`."""
        return [function(task) for task in tasks]

    def map_actors(
        self, make: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task], actors: int
    ) -> list[Result]:
        """See `Engine.map_actors`; one callable does it all."""
        return self.map(make(), tasks) if tasks else []

    def train(
        self, function: Callable[[Config], None], config: Config, workers: int, gpus: bool = False
    ) -> None:
        """See `Engine.train`. One worker is this process; GPUs are used where there are any."""
        if workers == 1:
            function(config)
        else:
            from models.interest.workers import launch

            launch(function, config, workers)


@dataclass(frozen=True)
class Cluster:
    """Work on a Ray cluster. Connects with the first piece of work, once a process. Raises ProjectError."""

    address: str = ""
    """`HOST:PORT` of the head, or `auto`; empty: a Ray of this machine that ends with this process."""
    cores: int = 1
    """Cores that each task, actor and training worker holds."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the processes of the cluster; no secrets, Ray shows them."""

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """See `Engine.map`. A task whose process or node was lost runs again, elsewhere if need be."""
        ray = self._ray()
        # What a task raises is the data's fault, and is not tried again.
        remote = ray.remote(num_cpus=self.cores, max_retries=RETRIES, retry_exceptions=False)(_call)
        shared, queue = ray.put(function), deque(enumerate(tasks))
        # Few ahead, since those that are under way when one fails run on: `ray.cancel` of a task that is being
        # tried again may abort this process (Ray 2.60).
        ahead = 2 * max(_FEWEST_CORES, int(ray.cluster_resources().get("CPU", 0)))
        running: dict[Any, int] = {}
        results: dict[int, Result] = {}
        while queue or running:
            while queue and len(running) < ahead:
                number, task = queue.popleft()
                running[remote.remote(shared, task)] = number
            (done,), _ = ray.wait([*running])
            results[running.pop(done)] = _result(ray, done)
        return [results[number] for number in range(len(tasks))]

    def map_actors(
        self, make: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task], actors: int
    ) -> list[Result]:
        """See `Engine.map_actors`. A lost actor's task goes to the next that is free, and another actor is made."""
        ray = self._ray()
        hire = partial(ray.remote(num_cpus=self.cores)(_Actor).remote, make)
        hired: list[Any] = []
        try:
            return _share_out(ray, hire, hired, tasks, actors)
        finally:
            for actor in hired:
                ray.kill(actor)

    def train(
        self, function: Callable[[Config], None], config: Config, workers: int, gpus: bool = False
    ) -> None:
        """See `Engine.train`. With a node lost, as many workers go on as there is room for.

        Raises RuntimeError when the restarts are used up.
        """
        ray = self._ray()
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError

        verdict = _here(ray, _Verdict).remote()
        # Only what Ray notes down of the run itself lies here: workers save where `function` does.
        with TemporaryDirectory(prefix="train-") as folder:
            trainer = TorchTrainer(
                _work,
                train_loop_config={"function": function, "config": config, "verdict": verdict},
                scaling_config=ScalingConfig(
                    num_workers=(1, workers) if workers > 1 else 1,
                    use_gpu=gpus,
                    resources_per_worker={"CPU": self.cores} | ({"GPU": 1} if gpus else {}),
                ),
                run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(max_failures=RETRIES)),
            )
            interrupted = signal.getsignal(signal.SIGINT)
            try:
                trainer.fit()
            except TrainingFailedError as error:
                raise RuntimeError(f"{workers} workers failed {1 + RETRIES} times: {error}") from error
            finally:
                # Ray leaves its own in place, which would ask a controller that has ended.
                if current_thread() is main_thread():
                    signal.signal(signal.SIGINT, interrupted)
        if broken := ray.get(verdict.heard.remote()):
            raise broken

    def _ray(self) -> Any:
        """Ray, connected."""
        # Read at import; and nothing calls home.
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError:
            raise ProjectError(
                f"MOMENTRANK_ENGINE is ray, and Ray is not installed: {INSTALL}, or unset it to work on this machine"
            ) from None
        if ray.is_initialized():
            return ray
        own = {} if self.address else {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        try:
            ray.init(
                address=self.address or "local",
                namespace=NAMESPACE,
                runtime_env={"env_vars": {**self.environment, "POLARS_MAX_THREADS": str(self.cores)}},
                log_to_driver=False,
                logging_level="error",
                **own,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ProjectError(
                f"MOMENTRANK_RAY_ADDRESS is {self.address or 'not set'}, and Ray cannot be used from here: {error}. "
                "Write HOST:PORT of its head, and join this machine to it: ray start --address=HOST:PORT --num-cpus=0"
            ) from None
        return ray


def _call(function: Callable[[Task], Result], task: Task) -> Result:
    return function(task)


def _result(ray: Any, reference: Any) -> Any:
    """What a task returned. What it raised is raised as it was, after Ray's account of where."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


class _Actor:
    """A process that makes its callable once."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self._make = make

    def prepare(self) -> None:
        # Not at once: what `__init__` raises, Ray hands on as text only.
        self._function = self._make()

    def call(self, task: Any) -> Any:
        return self._function(task)


def _share_out(
    ray: Any, hire: Callable[[], Any], hired: list[Any], tasks: Sequence[Any], actors: int
) -> list[Any]:
    """What actors made of the tasks, in order. Whoever was hired is in `hired`.

    Ray could restart an actor and keep its task for it; but where a node was lost there may be no room for
    another before the others are done, so that both would wait for ever.
    """
    queue = deque(enumerate(tasks))
    busy: dict[Any, tuple[Any, tuple[int, Any] | None]] = {}
    results: dict[int, Any] = {}
    lost: Exception | None = None
    while len(results) < len(tasks):
        while len(busy) < min(actors, len(tasks) - len(results)):
            if len(hired) == actors * (1 + RETRIES):
                raise RuntimeError(f"one actor after another was lost, the last one so: {lost}") from lost
            hired.append(hire())
            busy[hired[-1].prepare.remote()] = (hired[-1], None)
        (done,), _ = ray.wait([*busy])
        actor, task = busy.pop(done)
        try:
            result = _result(ray, done)
        except ray.exceptions.RayActorError as error:
            lost = error
            if task:
                queue.appendleft(task)
            continue
        if task:
            results[task[0]] = result
        if queue:
            task = queue.popleft()
            busy[actor.call.remote(task[1])] = (actor, task)
        else:
            ray.kill(actor)
    return [results[number] for number in range(len(tasks))]


class _Verdict:
    """What a training worker raised that no other try would mend."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    def say(self, error: Exception) -> None:
        self._error = error

    def heard(self) -> Exception | None:
        return self._error


def _here(ray: Any, actor: type) -> Any:
    """An actor that lies on this process's node: it is not lost unless that is."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(actor)


def _work(given: dict[str, Any]) -> None:
    """One training worker's whole life. A fault that no other try would mend is told and ends the group."""
    import ray

    verdict = given["verdict"]
    if ray.get(verdict.heard.remote()):
        return
    try:
        given["function"](given["config"])
    except _MENDABLE:
        raise
    except Exception as error:
        ray.get(verdict.say.remote(error))
        raise
