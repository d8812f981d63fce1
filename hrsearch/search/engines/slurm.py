"""The engine that gives every candidate a SLURM job of its own, by submitit."""

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

from hrsearch.errors import CandidateFailed, InputError, OutOfMemory, is_disk_full
from hrsearch.search.engines.setup import MOST_LOSSES, Elsewhere, Setup, Workers

LOG = logging.getLogger(__name__)

Given = ParamSpec("Given")
Result = TypeVar("Result")

POLL_S = 1.0  # how often finished jobs are looked for; submitit asks SLURM itself less often
REAP_S = 5.0  # cancelled jobs get so long to end; SLURM ends them without us
RENEW_S = 20.0  # how often a driver shows its jobs that it lives, and they look
MOST_SILENT = 15  # looks in a row that see nothing new, after which a job ends
PREEMPTED = "PREEMPTED"
LOST = ("NODE_FAIL", "BOOT_FAIL", PREEMPTED)  # states of a job whose node has died, or was taken from it


class Slurm(Workers):
    """A job a call. One thread looks which have ended. Their scripts and logs lie in the study's folder, in `jobs`.

    A job that loses its node is no failed candidate: another is submitted. Jobs end by themselves some minutes after
    their driver has died, for they see a file in `jobs` that it renews.
    """

    def __init__(self, cluster: str, workers: int, timeout_s: float, options: Mapping[str, Any], setup: Setup) -> None:
        """`options` are submitit's (`cpus_per_task`, `slurm_partition`); an InputError says what it does not take."""
        self.workers = workers
        jobs = setup.folder.resolve() / "jobs"
        self._call = _Driven(Elsewhere(Path.cwd(), setup.prepare), jobs / f".driver-{uuid4().hex[:8]}", RENEW_S)
        logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns of what the trial's reason tells
        try:
            self._executor = submitit.AutoExecutor(folder=jobs, cluster=cluster)
            minutes = math.ceil(timeout_s / 60)
            self._executor.update_parameters(name="hrsearch", timeout_min=minutes, **options)
        except (RuntimeError, NameError, TypeError, AssertionError) as error:
            raise InputError(f"engine.kind slurm: {' '.join(str(error).split())[:300]}") from None
        self._runs: dict[Future[Any], _Run] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        jobs.mkdir(parents=True, exist_ok=True)
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._watch, self._renew)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        """The future of a call in a new job; CandidateFailed if that ends without an answer, OSError on a full disk."""
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()
        self._begin(future, (function, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. With `cancel_futures` the jobs are cancelled, too; else they are waited for."""
        if cancel_futures:
            self._end()
            jobs = [run.job for run in self._runs.values()]
            for job in jobs:
                job.cancel(check=False)
            deadline = time.monotonic() + REAP_S
            while time.monotonic() < deadline and not all(map(_is_over, jobs)):
                time.sleep(0.05)
        while wait and self._runs and not cancel_futures:
            self._ended.wait(POLL_S)
        self._end()
        for future in self._runs:
            future.set_exception(CandidateFailed("the search was stopped"))
        self._runs.clear()

    def _end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        with suppress(OSError):
            self._call.sign.unlink(missing_ok=True)

    def _begin(self, future: Future[Any], call: tuple[Any, ...], losses: int = 0) -> None:
        """Submit a job for the call: its first, or another where the last one lost its node."""
        try:
            with self._lock:
                self._runs[future] = _Run(call, self._executor.submit(self._call, *call), losses)
        except (FailedJobError, FailedSubmissionError, OSError) as error:  # SLURM takes no job now
            self._forget(future)
            reason = CandidateFailed(" ".join(str(error).split())[:300])
            future.set_exception(error if is_disk_full(error) else reason)

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._runs.pop(future, None)

    def _watch(self) -> None:
        """Look which jobs have ended. What keeps from knowing that is told once, not every second while it lasts."""
        was_told = False
        while not self._ended.wait(POLL_S):
            with self._lock:
                runs = list(self._runs.items())
            errors = [error for future, run in runs if (error := self._looked_at(future, run))]
            if errors and not was_told:
                what = f"{type(errors[0]).__name__}: {errors[0]}"
                LOG.warning("%d of %d jobs cannot be looked at (%s); that is tried again", len(errors), len(runs), what)
            was_told = bool(errors)

    def _looked_at(self, future: Future[Any], run: "_Run") -> Exception | None:
        """Tell the end of a call whose job has ended; what kept from finding that out.

        A shared file system that hangs, or a word of sacct's that is no table, is over in a while. Nobody would ever
        hear of any job if it ended this thread.
        """
        try:
            if _is_lost(run.job):
                self._again(future, run)
            elif run.job.done():
                _settle(future, run.job)
                self._forget(future)
        except Exception as error:
            return error
        return None

    def _again(self, future: Future[Any], run: "_Run") -> None:
        """Submit another job for a call whose job was lost. That a job is preempted is never its candidate's fault."""
        losses = run.losses + (not run.job.state.startswith(PREEMPTED))
        run.job.cancel(check=False)  # SLURM may have put it back into the queue itself
        if losses < MOST_LOSSES:
            self._begin(future, run.call, losses)
        else:
            self._forget(future)
            future.set_exception(CandidateFailed(f"{MOST_LOSSES} nodes died while they ran it"))

    def _renew(self) -> None:
        """In a thread of its own: the other one waits for answers that are late."""
        while True:
            with suppress(OSError):
                self._call.sign.touch()
            if self._ended.wait(self._call.every_s):
                return


@dataclass(frozen=True)
class _Run:
    """A call, the job that runs it, and how many nodes have died under jobs of it."""

    call: tuple[Any, ...]
    job: "submitit.Job[Any]"
    losses: int


@dataclass(frozen=True)
class _Driven:
    """Calls elsewhere, in a job that ends when its driver no longer renews the file `sign`.

    Looks are counted, not seconds: a file system that hangs keeps the driver from renewing, too.
    """

    elsewhere: Elsewhere
    sign: Path
    every_s: float

    def __call__(self, *call: Any) -> Any:
        """Runs in the job."""
        threading.Thread(target=self._end_with_driver, daemon=True).start()
        return self.elsewhere(*call)

    def _end_with_driver(self) -> None:
        renewed, silent = None, 0
        while silent < MOST_SILENT:
            time.sleep(self.every_s)
            before, renewed = renewed, self._renewed()
            silent = silent + 1 if renewed == before else 0
        print("the driver of this search is gone: this job ends", flush=True)
        os._exit(1)

    def _renewed(self) -> float | None:
        try:
            return self.sign.stat().st_mtime
        except OSError:
            return None


def _is_over(job: "submitit.Job[Any]") -> bool:
    """Whether it has ended, as far as that can be told now."""
    with suppress(Exception):
        return job.done()
    return False


def _is_lost(job: "submitit.Job[Any]") -> bool:
    """Whether its node has died or was taken from it; submitit waits for ever for a preempted one to come back."""
    return job.state.startswith(LOST) and not job.paths.result_pickle.exists()


def _settle(future: Future[Any], job: "submitit.Job[Any]") -> None:
    try:
        future.set_result(job.result())
    except FailedJobError as error:  # it raised; the text is a traceback, and where the logs are
        trace = str(error).partition("You can check full logs")[0].rstrip("-\n ")
        future.set_exception(CandidateFailed(trace.splitlines()[-1]))
    except UncompletedJobError:
        log = f"its log is {job.paths.stdout}"
        if job.state.startswith("OUT_OF_MEMORY"):
            future.set_exception(OutOfMemory(f"out of memory (job {job.job_id}; {log})"))
        else:
            reason = f"job {job.job_id} ended without an answer ({job.state}); {log}"
            future.set_exception(CandidateFailed(reason))
    except Exception as error:  # an answer that cannot be read
        future.set_exception(CandidateFailed(f"{type(error).__name__}: {error}"))
