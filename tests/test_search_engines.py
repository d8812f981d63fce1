"""Engines with real processes: what dies is one candidate, and nothing outlives its driver."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import toy_slurm
import toy_workers as work
from toy_workers import alive

from hrsearch.errors import CandidateFailed, InputError, OutOfMemory
from hrsearch.registry import WORKERS
from hrsearch.runner import Engine
from hrsearch.search.engines import engine_of
from hrsearch.search.engines.processes import Processes
from hrsearch.search.engines.setup import Setup


@pytest.fixture(scope="module")
def engine() -> Iterator[Processes]:
    processes = Processes(2, 30.0, preload=["toy_workers"])
    yield processes
    processes.shutdown(cancel_futures=True)


def until(condition: Callable[[], bool], seconds: float = 90.0) -> bool:
    """Wait until the condition holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def pids_in(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.mark.parametrize("kind", [kind for kind in WORKERS if kind != "ray"])
def test_engines_call_and_raise(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray has a file of its own. SLURM's jobs are processes of this machine here, by submitit's own means."""
    if kind == "slurm":
        pytest.importorskip("submitit")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # a job finds what is installed; the tests are not
    setup = Setup(prepare=work.prepare, folder=tmp_path)
    options = {"cluster": "local"} if kind == "slurm" else {}
    with engine_of(Engine.model_validate({"kind": kind, "workers": 1, **options}), setup) as executor:
        assert executor.workers == 1
        assert executor.submit(work.add, 2, second=3).result() == 5
        with pytest.raises((CandidateFailed, ZeroDivisionError), match="division by zero"):
            executor.submit(work.divide).result()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs find the tests, and submitit waits a second, no more, for the answer of who has died."""
    submitit = pytest.importorskip("submitit")
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 1)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    submitit.SlurmJob.watcher.clear()  # of jobs of the same number


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Processes that are started take SIGINT, by which submitit cancels; those of a parallel test would inherit that it
    is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible", "at_once")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # submitit leaves its process unwaited
def test_jobs_that_die_and_jobs_that_are_cancelled(tmp_path: Path) -> None:
    engine = Engine(kind="slurm", cluster="local", workers=2, cpus=1)
    executor = engine_of(engine, Setup(prepare=work.prepare, folder=tmp_path))
    killed, staying = executor.submit(work.kill_self), executor.submit(work.stay, tmp_path / "pids")
    with pytest.raises(CandidateFailed, match=r"job \d+ ended without an answer"):
        killed.result()
    assert until(lambda: len(pids_in(tmp_path / "pids")) == 1)
    executor.shutdown(cancel_futures=True)
    with pytest.raises(CandidateFailed, match="the search was stopped"):
        staying.result()
    assert until(lambda: not any(map(alive, pids_in(tmp_path / "pids"))))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("fates", "lost"), [(["NODE_FAIL", "PREEMPTED"], ["1", "2"]), (["PREEMPTED"] * 4, ["1", "2", "3", "4"])]
)
def test_a_job_that_loses_its_node_is_submitted_again(
    fates: list[str], lost: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_slurm.install(tmp_path / "slurm", fates, monkeypatch)
    with engine_of(Engine(kind="slurm", workers=1), Setup(folder=tmp_path / "study")) as executor:
        assert executor.submit(work.add, 2, second=3).result() == 5
    assert (tmp_path / "slurm" / "cancelled").read_text().split() == lost


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("fates", "error", "reason"),
    [
        (["NODE_FAIL"] * 3, CandidateFailed, r"^3 nodes died while they ran it$"),
        (["OUT_OF_MEMORY"], OutOfMemory, r"^out of memory \(job 1; its log is .*\)$"),
        (["TIMEOUT"], CandidateFailed, r"^job 1 ended without an answer \(TIMEOUT\); its log is "),
    ],
)
def test_jobs_that_end_for_good(
    fates: list[str], error: type[Exception], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_slurm.install(tmp_path / "slurm", fates, monkeypatch)
    with engine_of(Engine(kind="slurm", workers=1), Setup(folder=tmp_path / "study")) as executor:
        ended = executor.submit(work.add, 2).exception()
    assert type(ended) is error
    assert re.search(reason, str(ended))


@pytest.mark.usefixtures("at_once")
def test_a_cluster_that_does_not_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from hrsearch.search.engines import slurm

    monkeypatch.setattr(slurm, "POLL_S", 0.1)
    monkeypatch.setattr(slurm, "REAP_S", 0.3)
    toy_slurm.install(tmp_path / "slurm", [], monkeypatch)
    away = tmp_path / "slurm" / "away"
    away.touch()
    executor = engine_of(Engine(kind="slurm", workers=1), Setup(folder=tmp_path / "study"))
    try:
        added = executor.submit(work.add, 2, second=3)
        assert until(lambda: bool(caplog.messages), 30.0)
        time.sleep(0.5)  # and is asked again, of which nothing more is told
        away.unlink()
        assert added.result(30.0) == 5
        assert caplog.messages == ["1 of 1 jobs cannot be looked at (KeyError: 'JobID'); that is tried again"]
    finally:
        away.touch()
        left = executor.submit(work.add, 2)
        executor.shutdown(cancel_futures=True)
    with pytest.raises(CandidateFailed, match="the search was stopped"):
        left.result(0.0)


@pytest.mark.long
@pytest.mark.usefixtures("at_once")
def test_jobs_end_with_a_killed_driver_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hrsearch.search.engines import slurm

    monkeypatch.setattr(slurm, "RENEW_S", 0.2)
    with engine_of(Engine(kind="slurm", cluster="local", workers=1), Setup(folder=tmp_path)) as executor:
        executor.submit(work.stay, tmp_path / "stayed", 0.2 * slurm.MOST_SILENT + 1).result()
    assert not list((tmp_path / "jobs").glob(".driver-*"))
    driver = subprocess.Popen([sys.executable, work.__file__, str(tmp_path / "pids"), "slurm"], env=os.environ)
    assert until(lambda: len(pids_in(tmp_path / "pids")) == 2)
    driver.kill()
    driver.wait()
    assert until(lambda: not any(map(alive, pids_in(tmp_path / "pids"))), 30.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cluster": "local", "options": {"slurm_partitions": "gpu"}}, "Unknown argument 'partitions'"),
        ({}, "Could not detect"),  # this machine has no SLURM
    ],
)
def test_what_slurm_does_not_take_is_one_line(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    engine = Engine.model_validate({"kind": "slurm", "workers": 1} | options)
    with pytest.raises(InputError, match=rf"^engine\.kind slurm: .*{message}"):
        engine_of(engine, Setup(folder=tmp_path))


def test_inline_lets_ctrl_c_through() -> None:
    def press() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine_of(Engine(kind="inline"), Setup()).submit(press)


@pytest.mark.parametrize(
    ("engine", "cuda", "workers"),
    [
        (Engine(kind="inline", workers=4), False, 1),
        (Engine(kind="processes", workers=4), False, 4),
        (Engine(kind="processes"), False, len(os.sched_getaffinity(0))),
        (Engine(kind="processes"), True, 3),
        (Engine(kind="processes", workers=5), True, 5),
    ],
)
def test_workers(engine: Engine, cuda: bool, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, 2,MIG-7")
    with engine_of(engine, Setup(cuda=cuda)) as executor:
        assert executor.workers == workers


def test_each_worker_sees_a_gpu_of_its_own(tmp_path: Path) -> None:
    """Three workers of two GPUs: one GPU is seen twice, and whoever comes later sees one that is free again."""
    with Processes(3, 30.0, gpus=["0", "MIG-7"]) as processes:
        seen = [future.result() for future in [processes.submit(work.gpu, 0.5) for _ in range(3)]]
        assert sorted(map(str, seen)) == ["0", "0", "MIG-7"]
        assert {processes.submit(work.gpu).result() for _ in range(4)} == {"0", "MIG-7"}
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_each_call_has_its_own_process(engine: Processes) -> None:
    processes = {engine.submit(work.process).result() for _ in range(3)}
    assert len(processes) == 3
    assert os.getpid() not in processes
    assert not any(map(alive, processes))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (work.kill_self, r"^worker was killed by signal 9 \(out of memory\?\)$"),
        (work.crash, r"^worker was killed by signal 11 \(Segmentation fault\)$"),
        (work.leave, r"^worker ended with exit code 3 and no answer$"),
        (work.divide, r"^ZeroDivisionError: division by zero$"),
        (work.unsendable, r"^TypeError: cannot pickle"),
    ],
)
def test_a_dead_worker_is_one_failed_candidate(call: Callable[[], object], reason: str, engine: Processes) -> None:
    others = [engine.submit(work.add, 1) for _ in range(2)]
    with pytest.raises(CandidateFailed, match=reason):
        engine.submit(call).result()
    assert [future.result() for future in others] == [1, 1]


def test_large_answers_arrive(engine: Processes) -> None:
    assert len(engine.submit(work.large, 3_000_000).result()) == 3_000_000


def test_a_hang_is_ended(tmp_path: Path) -> None:
    processes = Processes(1, 0.5)
    with pytest.raises(CandidateFailed, match=r"^took longer than 0.5 s$"):
        processes.submit(work.stay, tmp_path / "pids").result()
    assert not any(map(alive, pids_in(tmp_path / "pids")))
    processes.shutdown()


def test_only_so_many_at_a_time(engine: Processes, tmp_path: Path) -> None:
    began = time.monotonic()
    for future in [engine.submit(work.stay, tmp_path / "pids", 0.3) for _ in range(4)]:
        future.result()
    assert time.monotonic() - began >= 0.6
    assert len(pids_in(tmp_path / "pids")) == 4


def test_one_thread_each_and_prepared() -> None:
    before = dict(os.environ)
    processes = Processes(1, 30.0, prepare=work.prepare)
    assert processes.submit(work.threads).result() == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert processes.submit(work.prepared).result()
    processes.shutdown()
    assert dict(os.environ) == before


def test_workers_see_the_variables_that_their_driver_has_now(
    engine: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork server has those of the first search of this process; the second may have another HRSEARCH_CACHE."""
    monkeypatch.setenv("HRSEARCH_TOY", "first")
    assert engine.submit(work.variable, "HRSEARCH_TOY").result() == "first"
    monkeypatch.delenv("HRSEARCH_TOY")
    monkeypatch.delenv("HOME")
    assert [engine.submit(work.variable, name).result() for name in ("HRSEARCH_TOY", "HOME")] == [None, None]


def test_shutdown_kills(tmp_path: Path) -> None:
    processes = Processes(2, 60.0)
    futures = [processes.submit(work.stay, tmp_path / "pids") for _ in range(3)]
    assert until(lambda: len(pids_in(tmp_path / "pids")) == 2)
    processes.shutdown(cancel_futures=True)
    assert not any(map(alive, pids_in(tmp_path / "pids")))
    assert all(future.done() for future in futures)
    assert len(pids_in(tmp_path / "pids")) == 2


def test_workers_die_with_a_killed_driver(tmp_path: Path) -> None:
    driver = subprocess.Popen([sys.executable, work.__file__, str(tmp_path / "pids")], env=os.environ)
    assert until(lambda: len(pids_in(tmp_path / "pids")) == 2)
    driver.kill()
    driver.wait()
    assert until(lambda: not any(map(alive, pids_in(tmp_path / "pids"))), 5.0)
