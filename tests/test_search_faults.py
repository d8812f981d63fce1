"""Deaths in the middle of a search: nothing finished is lost or judged again, and the budget is kept."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from toy_search import FAULTS, Toy, calls_of, rungs_called, search, start, states_of, troubled
from toy_workers import alive

from hrsearch.candidate import Candidate, Judgement
from hrsearch.report.words import outcomes
from hrsearch.runner import Search
from hrsearch.storage import storage_of
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
    search(folder, 4, Toy(1.5), engine=PROCESSES, preload=["toy_search"])
    began = [when for *_, when in calls_of(folder)]
    assert began[1] - began[0] < 1.5  # the second began before the first can have ended
    assert states_of(folder)["trained"] == 4


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


@pytest.mark.long
def test_two_drivers_share_a_study(folder: Path) -> None:
    drivers = [start(folder, 12, "--seconds", "0.1") for _ in range(2)]
    said = [driver.communicate(timeout=60)[0] for driver in drivers]
    assert all("12 of 12 candidates are done: 12 trained" in text for text in said), said
    assert states_of(folder)["trained"] == len(calls_of(folder)) == 12
    assert not repeated(folder)
    assert len({digest for _, digest, *_ in calls_of(folder)}) == 12


@pytest.mark.long
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


def test_each_fault_is_one_failed_candidate_with_its_reason(folder: Path) -> None:
    end = search(folder, 8, troubled, engine=PROCESSES | {"timeout_s": 5}, preload=["toy_search"])
    assert end.startswith("8 of 8 candidates are done: 3 trained, 5 failed")
    failed = {trial.attributes["reason"]: trial for trial in read_study(folder).trials if trial.state == "failed"}
    nan = next(reason for reason in failed if reason.startswith("its judgement cannot be stored"))
    assert set(failed) == {nan, *(reason for _, reason in FAULTS.values())}
    short = failed["out of memory"]
    assert short.attributes["violations"] == {"memory": 1.0}
    stored = storage_of(folder).get_all_trials(0)
    assert [trial.constraints for trial in stored if trial.number == short.number] == [{"memory": 1.0}]
    assert [(one.reason, len(one.numbers)) for one in outcomes(read_study(folder))].count(("out of memory", 1)) == 1


@pytest.mark.parametrize("jump", [86400.0, pytest.param(-86400.0, marks=pytest.mark.long)], ids=["ahead", "back"])
def test_a_clock_that_jumps_costs_nothing(jump: float, folder: Path) -> None:
    """Of two drivers one finds itself a day away: no trial is taken from the other, and no hours are spent by it."""
    options = ["--rungs", "10", "30", "--seconds", "0.2"]
    jumping = start(folder, 10, *options, "--jump", str(jump), "--hours", "5")
    steady = start(folder, 10, *options, "--hours", "5")
    for driver in (jumping, steady):
        said, _ = driver.communicate(timeout=100)
        assert "10 of 10 candidates are done" in said
        assert "hours" not in said
        assert "left by a driver" not in said
    called = Counter((number, rung) for number, rung, _ in rungs_called(folder))
    assert set(called.values()) == {1}
    assert sum(rung == 0 for _, rung in called) == 10


class Chaos:
    """Two drivers of one study with rungs; each time, one of them or one of their workers is killed while it works."""

    def __init__(self, folder: Path, budget: int, options: Sequence[str], seed: int) -> None:
        self.folder = folder
        self.budget = budget
        self.options = options
        self.random = random.Random(seed)
        self.drivers = [self.driver() for _ in range(2)]
        self.killed = 0  # drivers that ran a trial then
        self.stored: dict[tuple[int, int], float] = {}  # trial and rung: by when its score stood in the study

    def driver(self) -> subprocess.Popen[str]:
        return start(self.folder, self.budget, "--seconds", "0.4", *self.options)

    def strike_driver(self) -> None:
        wait_until(lambda: bool(self.workers() and self.busy()), self.drivers[0])
        time.sleep(0.3 * self.random.random())
        if busy := self.busy():
            driver = self.random.choice(busy)
            driver.kill()
            driver.communicate()
            self.killed += driver.returncode == -signal.SIGKILL
            self.drivers[self.drivers.index(driver)] = self.driver()
        self.note()

    def strike_worker(self) -> None:
        wait_until(lambda: bool(self.workers()), self.drivers[0])
        time.sleep(0.3 * self.random.random())
        if workers := self.workers():
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(workers), signal.SIGKILL)
        self.note()

    def workers(self) -> list[int]:
        return sorted(pid for pid in {pid for _, _, pid, _ in calls_of(self.folder)} - {os.getpid()} if alive(pid))

    def busy(self) -> list[subprocess.Popen[str]]:
        """The drivers that run a trial."""
        trials = [trial for trial in read_study(self.folder).trials if trial.state == "running"]
        owners = {trial.attributes["owner"]["pid"] for trial in trials if trial.attributes["lease"]}
        return [driver for driver in self.drivers if driver.pid in owners]

    def note(self) -> None:
        for trial in read_study(self.folder).trials:
            for rung, _ in enumerate(trial.attributes.get("rungs", ())):
                self.stored.setdefault((trial.number, rung), time.time())


@pytest.mark.long
@pytest.mark.parametrize(("rungs", "shipped"), [((10, 30), False), ((30,), True)], ids=["tpe", "shipped"])
def test_chaos(rungs: Sequence[int], shipped: bool, folder: Path) -> None:
    """Ten random kills, twenty in both: the budget to the candidate, no network twice, nothing stored judged again."""
    search(folder, 20, rungs=rungs, **(Search().model_dump() if shipped else {}))  # so many that the rest is forecast
    options = ["--rungs", *map(str, rungs), *(["--shipped"] if shipped else [])]
    chaos = Chaos(folder, 40, options, seed=0)
    for _ in range(5):
        chaos.strike_worker()
        chaos.strike_driver()
    said = [driver.communicate(timeout=120)[0] for driver in chaos.drivers]
    assert all("40 of 40 candidates are done" in text for text in said), said
    chaos.note()
    trials = [trial for trial in read_study(folder).trials if "digest" in trial.attributes]
    assert len(trials) == len({trial.attributes["digest"] for trial in trials}) == 40
    assert {trial.state for trial in trials} <= {"trained", "stopped", "failed"}
    assert sum(trial.state == "trained" for trial in trials) >= 1
    for trial in trials:
        scores = trial.attributes.get("rungs", ())
        assert [score["rung"] for score in scores] == list(range(len(scores)))
        assert len(scores) == len(rungs) + 1 or trial.state != "trained"
    assert not [call for call in rungs_called(folder) if call[2] > chaos.stored.get(call[:2], float("inf"))]
    assert chaos.killed >= 3
    traces = sum(trial.attributes.get("losses", 0) + (trial.state == "failed") for trial in trials)
    assert traces >= 5  # the kills struck while there was something to lose
