"""Deaths in the middle of a search: nothing finished is lost or judged again, and the budget is kept."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_search import Toy, calls_of, search, start, states_of
from toy_workers import alive

from hrsearch.candidate import Candidate, Judgement
from hrsearch.study import read_study

PROCESSES = {"kind": "processes", "workers": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "toy"


def wait_until(condition: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for 60 s"
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.01)


def repeated(folder: Path) -> list[int]:
    """The numbers of the trials that were judged more than once."""
    return sorted(number for number, times in Counter(call[0] for call in calls_of(folder)).items() if times > 1)


def finish(folder: Path, budget: int) -> str:
    driver = start(folder, budget)
    said, _ = driver.communicate(timeout=60)
    assert driver.returncode == 0, said
    return said


def test_processes_find_what_was_asked_for(folder: Path) -> None:
    assert search(folder, 6, engine=PROCESSES, preload=["toy_search"]).startswith(
        "6 of 6 candidates are done: 6 trained"
    )
    assert not repeated(folder)
    assert os.getpid() not in {pid for _, _, pid, _ in calls_of(folder)}


def test_workers_overlap_and_finish_in_any_order(folder: Path) -> None:
    search(folder, 6, Toy(0.3), engine=PROCESSES, preload=["toy_search"])
    began = [when for *_, when in calls_of(folder)]
    assert began[1] - began[0] < 0.3
    assert states_of(folder)["trained"] == 6


def dies_once(candidate: Candidate) -> Judgement:
    """A worker that dies as under the kernel's out-of-memory killer, the first time that one is asked."""
    mark = candidate.folder / "killed"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Toy()(candidate)


def test_a_killed_worker_is_a_failed_trial(folder: Path) -> None:
    search(folder, 5, dies_once, engine=PROCESSES | {"workers": 1}, preload=["toy_search"])
    failed = [trial for trial in read_study(folder).trials if trial.state == "failed"]
    assert [trial.attributes["reason"] for trial in failed] == ["worker was killed by signal 9 (out of memory?)"]
    assert states_of(folder)["trained"] == 4


def test_a_killed_driver_is_followed_at_once(folder: Path) -> None:
    """kill -9 half-way, the same command again: the budget to the candidate, only what ran is judged again."""
    driver = start(folder, 8, "--seconds", "0.4")
    wait_until(lambda: len(calls_of(folder)) >= 5, driver)
    driver.kill()
    driver.communicate()
    running = [trial.number for trial in read_study(folder).trials if trial.state == "running"]
    done = states_of(folder).get("trained", 0)
    workers = {pid for _, _, pid, _ in calls_of(folder)}
    began = time.monotonic()
    said = finish(folder, 8)
    assert time.monotonic() - began < 55  # less than the lease of 60 s
    assert "8 of 8 candidates are done: 8 trained" in said
    assert 1 <= len(running) <= 2
    assert said.count("was left by a driver that is gone") == len(running)
    assert set(repeated(folder)) <= set(running)
    assert done >= 3
    assert not any(map(alive, workers))
    assert len({digest for _, digest, *_ in calls_of(folder)}) == 8


@pytest.mark.parametrize("when", ["while workers start", "while they judge"])
def test_ctrl_c_stops_cleanly(when: str, folder: Path) -> None:
    """Ctrl-C as the terminal sends it: to the driver, the fork server and the workers at once."""
    driver = start(folder, 8, "--seconds", "20")
    wait_until(lambda: (folder / "study.journal").exists(), driver)
    if when == "while they judge":
        wait_until(lambda: len(calls_of(folder)) == 2, driver)
    os.killpg(driver.pid, signal.SIGINT)
    said, _ = driver.communicate(timeout=15)
    assert driver.returncode == 130, said
    assert said.endswith("stopped\n")
    assert "Traceback" not in said
    assert not any(alive(pid) for _, _, pid, _ in calls_of(folder))
    left = [trial for trial in read_study(folder).trials if trial.state == "running"]
    assert all(trial.attributes["lease"] == 0 for trial in left)
    assert search(folder, 4).startswith("4 of 4 candidates are done: 4 trained")
    assert set(repeated(folder)) <= {trial.number for trial in left}
    assert not any(trial.attributes.get("losses") for trial in read_study(folder).trials)


def test_two_drivers_share_a_study(folder: Path) -> None:
    drivers = [start(folder, 12, "--seconds", "0.1") for _ in range(2)]
    said = [driver.communicate(timeout=60)[0] for driver in drivers]
    assert all("12 of 12 candidates are done: 12 trained" in text for text in said), said
    assert states_of(folder)["trained"] == len(calls_of(folder)) == 12
    assert not repeated(folder)
    assert len({digest for _, digest, *_ in calls_of(folder)}) == 12


def test_a_driver_takes_over_from_one_that_dies_beside_it(folder: Path) -> None:
    first = start(folder, 4, "--seconds", "1.5", "--workers", "2")
    wait_until(lambda: len(calls_of(folder)) == 2, first)
    second = start(folder, 4, "--seconds", "0.1", "--workers", "1")
    wait_until(lambda: len(calls_of(folder)) >= 3, second)
    first.kill()
    first.communicate()
    said, _ = second.communicate(timeout=60)
    assert "4 of 4 candidates are done: 4 trained" in said
    assert states_of(folder)["trained"] == 4
