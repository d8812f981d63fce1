"""The engine that gives every candidate a process of its own: what dies there is one candidate."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from hrsearch.errors import CandidateFailed
from hrsearch.search.engines.setup import Workers

Given = ParamSpec("Given")
Result = TypeVar("Result")

# Two threads of one process spin on each other where cores are shared: one thread a worker, workers for cores.
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
UNKNOWN = 255  # exit code of a process whose server was killed; it may live on
REAP_S = 10.0  # a worker that has delivered gets so long to end by itself


class Processes(Workers):
    """One process a call, `workers` at a time, forked from a server that has the heavy modules imported already.

    A thread per worker watches one process at a time. Workers die with the driver, however that dies. Each sees one of
    the `gpus` (names as in CUDA_VISIBLE_DEVICES) and no other; where there are more workers than these, some share one.
    """

    def __init__(
        self,
        workers: int,
        timeout_s: float,
        preload: Sequence[str] = (),
        prepare: Callable[[], None] | None = None,
        gpus: Sequence[str] = (),
    ) -> None:
        self.workers = workers
        self._gpus: SimpleQueue[str] = SimpleQueue()
        for index in range(workers if gpus else 0):
            self._gpus.put(gpus[index % len(gpus)])
        self._has_gpus = bool(gpus)
        self._timeout_s = timeout_s
        self._prepare = prepare
        self._watchers = ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._running: set[ForkServerProcess] = set()
        self._lock = threading.Lock()  # multiprocessing's processes are not safe to start and reap from many threads
        self._closed = False
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "hrsearch.search.judging", *_ours_in_main(), *preload])
        with _environment(dict.fromkeys(ONE_THREAD, "1")), _deaf_to_ctrl_c():
            forkserver.ensure_running()  # its imports go on while the driver makes its first proposals

    def submit(self, function: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        """The future of a call in a new process; CandidateFailed if that dies or takes too long."""
        return self._watchers.submit(self._call, function, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. With `cancel_futures` the running ones are killed, too."""
        if cancel_futures:
            with self._lock:
                self._closed = True
                for process in self._running:
                    process.kill()
        self._watchers.shutdown(wait, cancel_futures=cancel_futures)

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ours, theirs = self._context.Pipe()
        with ours, self._gpu() as gpu:
            with theirs:
                process = self._start(theirs, gpu, function, args, kwargs)
            try:
                return self._awaited(process, ours)
            finally:
                self._end(process)

    @contextmanager
    def _gpu(self) -> Iterator[dict[str, str]]:
        """The variable that shows a worker its GPU, which is nobody else's meanwhile; nothing without GPUs."""
        if not self._has_gpus:
            yield {}
            return
        gpu = self._gpus.get()
        try:
            yield {"CUDA_VISIBLE_DEVICES": gpu}
        finally:
            self._gpus.put(gpu)

    def _start(self, theirs: Connection, gpu: dict[str, str], *call: Any) -> ForkServerProcess:
        with self._lock, _environment(dict.fromkeys(ONE_THREAD, "1")):  # a server that died is started again here
            # The driver's variables of now: the server has those of when it was started, perhaps for another search.
            environment = {**os.environ, **gpu}
            process = self._context.Process(target=_serve, args=(theirs, self._prepare, environment, *call))
            if self._closed:
                raise CandidateFailed("the search was stopped")
            process.start()
            self._running.add(process)
        return process

    def _awaited(self, process: ForkServerProcess, ours: Connection) -> Any:
        if not wait([ours, process.sentinel], self._timeout_s):
            self._kill(process)
            raise CandidateFailed(f"took longer than {self._timeout_s:g} s")
        try:
            fine, result = ours.recv() if ours.poll() else (False, None)
        except (EOFError, OSError):  # it died, perhaps with its answer half sent
            fine, result = False, None
        if not fine:
            raise CandidateFailed(result or self._death_of(process))
        return result

    def _death_of(self, process: ForkServerProcess) -> str:
        wait([process.sentinel], REAP_S)
        with self._lock:
            return _cause(process.exitcode)

    def _kill(self, process: ForkServerProcess) -> None:
        with self._lock:
            process.kill()

    def _end(self, process: ForkServerProcess) -> None:
        if not wait([process.sentinel], REAP_S):
            self._kill(process)
            wait([process.sentinel])
        with self._lock:
            self._running.discard(process)
            if process.exitcode == UNKNOWN and process.pid:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            process.close()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def visible_gpus() -> list[str]:
    """This machine's NVIDIA GPUs, as CUDA_VISIBLE_DEVICES names them; no CUDA is loaded for it."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def _serve(
    answer: Connection,
    prepare: Callable[[], None] | None,
    environment: dict[str, str],
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Runs in the worker: answers (True, result) or (False, reason)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(environment)  # in time: CUDA looks at it when it is first used, and the fork server never did
    threading.Thread(target=_die_with_driver, daemon=True).start()
    try:
        if prepare:
            prepare()
        answer.send((True, function(*args, **kwargs)))
    except Exception as error:
        answer.send((False, f"{type(error).__name__}: {error}"))


def _die_with_driver() -> None:
    # The kernel's own signal for this (PR_SET_PDEATHSIG) tells of the fork server's death, which outlives the driver.
    driver = multiprocessing.parent_process()
    if driver:
        driver.join()
        os.kill(os.getpid(), signal.SIGKILL)


def _ours_in_main() -> list[str]:
    """What the main script imports of this package: multiprocessing has every worker run that script's imports again.

    Only of this package: a stranger's module may start threads when it is imported, and those do not survive a fork.
    """
    names = {getattr(value, "__module__", None) for value in vars(sys.modules["__main__"]).values()}
    return sorted(name for name in names if isinstance(name, str) and name.startswith("hrsearch."))


def _cause(code: int | None) -> str:
    """Why a worker that delivered nothing ended, by its exit code."""
    if code == -signal.SIGKILL:
        return "worker was killed by signal 9 (out of memory?)"
    if code is not None and code < 0:
        return f"worker was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"worker ended with exit code {code} and no answer"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What is started here never hears Ctrl-C, which reaches the whole terminal; the driver says who ends."""
    resource_tracker.ensure_running()  # the fork server starts it, and then it would end the deafness
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
