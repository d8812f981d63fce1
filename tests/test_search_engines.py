"""Engines with real processes: what dies is one candidate, and nothing outlives its driver."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import toy_workers as work
from toy_workers import alive

from hrsearch.errors import CandidateFailed
from hrsearch.runner import Engine
from hrsearch.search.engines import ENGINES, engine_of, workers_of
from hrsearch.search.engines.processes import Processes


@pytest.fixture(scope="module")
def engine() -> Iterator[Processes]:
    processes = Processes(2, 30.0, preload=["toy_workers"])
    yield processes
    processes.shutdown(cancel_futures=True)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Wait until the condition holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def pids_in(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.mark.parametrize("kind", sorted(ENGINES))
def test_engines_call_and_raise(kind: str) -> None:
    with engine_of(Engine.model_validate({"kind": kind, "workers": 1})) as executor:
        assert executor.submit(work.add, 2, second=3).result() == 5
        with pytest.raises((CandidateFailed, ZeroDivisionError), match="division by zero"):
            executor.submit(work.divide).result()


def test_inline_lets_ctrl_c_through() -> None:
    def press() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine_of(Engine(kind="inline")).submit(press)


def test_workers() -> None:
    assert workers_of(Engine(kind="inline", workers=4)) == 1
    assert workers_of(Engine(kind="processes", workers=4)) == 4
    assert workers_of(Engine(kind="processes")) == len(os.sched_getaffinity(0))


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
