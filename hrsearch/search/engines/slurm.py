"""The engine that gives every candidate a SLURM job of its own, by submitit."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

from hrsearch.errors import CandidateFailed, InputError, is_disk_full
from hrsearch.search.engines.setup import Elsewhere, Setup, Workers

Given = ParamSpec("Given")
Result = TypeVar("Result")

POLL_S = 1.0  # how often finished jobs are looked for; submitit asks SLURM itself less often
REAP_S = 5.0  # cancelled jobs get so long to end; SLURM ends them without us


class Slurm(Workers):
    """A job a call. One thread looks which have ended. Their scripts and logs lie in the study's folder, in `jobs`."""

    def __init__(self, cluster: str, workers: int, timeout_s: float, options: Mapping[str, Any], setup: Setup) -> None:
        """`options` are submitit's (`cpus_per_task`, `slurm_partition`); an InputError says what it does not take."""
        self.workers = workers
        self._elsewhere = Elsewhere(Path.cwd(), setup.prepare)
        logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns of what the trial's reason tells
        try:
            self._executor = submitit.AutoExecutor(folder=setup.folder.resolve() / "jobs", cluster=cluster)
            minutes = math.ceil(timeout_s / 60)
            self._executor.update_parameters(name="hrsearch", timeout_min=minutes, **options)
        except (RuntimeError, NameError, TypeError, AssertionError) as error:
            raise InputError(f"engine.kind slurm: {' '.join(str(error).split())[:300]}") from None
        self._jobs: dict[Future[Any], submitit.Job[Any]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="slurm", daemon=True)
        self._watcher.start()

    def submit(self, function: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        """The future of a call in a new job; CandidateFailed if that ends without an answer, OSError on a full disk."""
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()
        try:
            job = self._executor.submit(self._elsewhere, function, args, kwargs)
        except (FailedJobError, FailedSubmissionError, OSError) as error:  # SLURM takes no job now
            reason = CandidateFailed(" ".join(str(error).split())[:300])
            future.set_exception(error if is_disk_full(error) else reason)
            return future
        with self._lock:
            self._jobs[future] = job
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. With `cancel_futures` the jobs are cancelled, too; else they are waited for."""
        if cancel_futures:
            self._ended.set()
            self._watcher.join()
            for job in self._jobs.values():
                job.cancel(check=False)
            deadline = time.monotonic() + REAP_S
            while time.monotonic() < deadline and not all(job.done() for job in self._jobs.values()):
                time.sleep(0.05)
        while wait and self._jobs and not cancel_futures:
            self._ended.wait(POLL_S)
        self._ended.set()
        self._watcher.join()
        for future in self._jobs:
            future.set_exception(CandidateFailed("the search was stopped"))
        self._jobs.clear()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            with self._lock:
                jobs = list(self._jobs.items())
            for future, job in jobs:
                if job.done():
                    _settle(future, job)
                    with self._lock:
                        del self._jobs[future]


def _settle(future: Future[Any], job: "submitit.Job[Any]") -> None:
    try:
        future.set_result(job.result())
    except FailedJobError as error:  # it raised; the text is a traceback, and where the logs are
        trace = str(error).partition("You can check full logs")[0].rstrip("-\n ")
        future.set_exception(CandidateFailed(trace.splitlines()[-1]))
    except UncompletedJobError:
        reason = f"job {job.job_id} ended without an answer ({job.state}); its log is {job.paths.stdout}"
        future.set_exception(CandidateFailed(reason))
    except Exception as error:  # an answer that cannot be read
        future.set_exception(CandidateFailed(f"{type(error).__name__}: {error}"))
