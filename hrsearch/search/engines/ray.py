"""The engine that places candidates on a Ray cluster: each gets its CPUs and its GPU, or a share of one."""

import logging
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

import ray
from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    TaskUnschedulableError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hrsearch.errors import CandidateFailed, InputError, OutOfMemory
from hrsearch.search.engines.setup import MOST_LOSSES, Elsewhere, Setup, Workers

Given = ParamSpec("Given")
Result = TypeVar("Result")

CONNECT_S = 10.0  # Ray itself tries for minutes to reach a cluster that is not there
PROBE_S = 60.0  # a node that has not answered by then is told of


class Ray(Workers):
    """A Ray task a call, `workers` at a time; what waits for room waits in Ray. A thread per call watches it.

    A worker that dies is one failed candidate. A node that dies is not: what ran there runs again on another.
    """

    def __init__(self, address: str | None, workers: int, cost: tuple[float, float], timeout_s: float, setup: Setup):
        """`cost` is the CPUs and GPUs of one candidate; `workers` 0 takes as many as fit the cluster now.

        An InputError says that there is no such cluster, that no node has room, or that one does not see the folder.
        """
        self._timeout_s = timeout_s
        self._elsewhere = Elsewhere(Path.cwd(), setup.prepare)
        self._ours = not ray.is_initialized()
        self._running: set[Any] = set()
        self._lock = threading.Lock()
        self._closed = False
        if self._ours:
            _connect(address)
        try:
            room = _room(*cost)
            self._check_folder(setup.folder.resolve())
        except BaseException:
            self._disconnect()
            raise
        self.workers = workers or room
        self._watchers = ThreadPoolExecutor(self.workers, thread_name_prefix="ray")
        self._remote = _task(_answers, num_cpus=cost[0], num_gpus=cost[1], num_returns="streaming")

    def submit(self, function: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        """The future of a call on some node; CandidateFailed if its worker dies, or it takes too long."""
        return self._watchers.submit(self._call, function, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. With `cancel_futures` the running ones are killed, too."""
        if cancel_futures:
            with self._lock:
                self._closed = True
                running = list(self._running)
            for task in running:
                _kill(task)
        self._watchers.shutdown(wait, cancel_futures=cancel_futures)
        self._disconnect()

    def _call(self, *call: Any) -> Any:
        for _ in range(MOST_LOSSES):
            with self._begun(*call) as task, suppress(_NodeLost):
                return self._awaited(task)
        raise CandidateFailed(f"{MOST_LOSSES} nodes died while they ran it")

    @contextmanager
    def _begun(self, *call: Any) -> Iterator[Any]:
        with self._lock:
            if self._closed:
                raise CandidateFailed("the search was stopped")
            task = self._remote.remote(self._elsewhere, *call)
            self._running.add(task)
        try:
            yield task
        finally:
            with self._lock:
                self._running.discard(task)

    def _awaited(self, task: Any) -> Any:
        node = None
        try:
            node = ray.get(next(task))  # it may wait for room: its time begins now
            if not ray.wait([task], timeout=self._timeout_s)[0]:
                _kill(task)
                raise CandidateFailed(f"took longer than {self._timeout_s:g} s")
            return ray.get(next(task))
        except NodeDiedError:
            raise _NodeLost from None
        except WorkerCrashedError:
            if node and node not in _nodes():
                raise _NodeLost from None
            raise CandidateFailed("worker was killed (out of memory?)") from None
        except OutOfMemoryError:
            raise OutOfMemory("out of memory (its node ran low, and Ray killed it)") from None
        except TaskCancelledError:
            raise CandidateFailed("the search was stopped") from None
        except RayTaskError as error:
            raise CandidateFailed(f"{type(error.cause).__name__}: {error.cause}") from None
        except RayError as error:
            raise CandidateFailed(_line(error)) from None

    def _check_folder(self, folder: Path) -> None:
        """Every node must see the study's folder: workers write weights into it. Told now, not after an hour."""
        mark = folder / f".seen-{uuid4().hex[:8]}"
        mark.touch()
        try:
            for name, reason in self._unreachable(mark).items():
                if reason:
                    how = f"{folder} must be a folder that all machines share, at the same path"
                    raise InputError(f"engine.kind ray: node {name} cannot use the study's folder ({reason}); {how}")
        finally:
            mark.unlink()

    def _unreachable(self, mark: Path) -> dict[str, str | None]:
        """Why nodes, by their address, do not see the mark."""
        asked = {}
        for node, about in _nodes().items():
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            probe = _task(_unreachable, num_cpus=0, scheduling_strategy=there)
            asked[f"{about['NodeManagerAddress']} ({node[:8]})"] = probe.remote(self._elsewhere, mark)
        return {name: _reason(answer) for name, answer in asked.items()}

    def _disconnect(self) -> None:
        if self._ours:
            ray.shutdown()


class _NodeLost(Exception):
    """The node died under a task."""


def _task(function: Callable[..., Any], **options: Any) -> Any:
    """The function as a Ray task that Ray itself never runs again: it could not tell a death of its own making."""
    return ray.remote(**options, max_retries=0)(function)


def _answers(elsewhere: Elsewhere, *call: Any) -> Generator[Any]:
    """Runs in the worker: says where it runs, then answers."""
    yield ray.get_runtime_context().get_node_id()
    yield elsewhere(*call)


def _unreachable(elsewhere: Elsewhere, mark: Path) -> str | None:
    return elsewhere.unreachable(mark)


def _reason(answer: Any) -> str | None:
    try:
        found: str | None = ray.get(answer, timeout=PROBE_S)
    except RayTaskError as error:
        return f"{type(error.cause).__name__}: {error.cause}"
    except (NodeDiedError, TaskUnschedulableError):
        return None  # it has died since: nothing will run there
    except RayError as error:
        return _line(error)
    return found


def _connect(address: str | None) -> None:
    """Join the cluster, or start a Ray on this machine alone. Ray takes SIGTERM for itself: it is given back."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        host, colon, port = (address or "").rpartition(":")
        if colon and port.isdecimal():
            socket.create_connection((host, int(port)), CONNECT_S).close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what future versions will do otherwise
            options: dict[str, Any] = {} if address else {"include_dashboard": False}
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        how = "start one with ray start --head, or leave address out to use this machine alone"
        raise InputError(f"engine.address: no Ray cluster at {address} ({_line(error)}); {how}") from None
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _nodes() -> dict[str, Mapping[str, Any]]:
    """The nodes that live, by id."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]


def _room(cpus: float, gpus: float) -> int:
    """How many candidates fit the cluster at a time; an InputError if none does."""
    room = 0
    for node in _nodes().values():
        has = node["Resources"]
        fits = [int(has.get(name, 0) / each) for name, each in (("CPU", cpus), ("GPU", gpus)) if each]
        room += min(fits)
    if not room:
        raise InputError(f"engine: no node of the cluster has the {cpus:g} CPUs and {gpus:g} GPUs of one candidate")
    return room


def _kill(task: Any) -> None:
    with suppress(RayError):
        ray.cancel(task, force=True)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
