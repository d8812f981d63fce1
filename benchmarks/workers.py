"""Does one driver keep a thousand workers busy? Simulated candidates, the real driver and a real study.

    python benchmarks/workers.py --workers 1000 --seconds 60 --filled 1000 --budget 1100

Candidates take 45 to 75 seconds of a clock that runs with the driver's own CPU time and jumps ahead where the driver
only waits: hours of a search are simulated in the time that the driver works, and a worker that waits for it is idle.
The first `--filled` candidates are drawn at random, before the clock starts, so that proposals at that size of a study
can be measured without making all before. FLOPs are made up: counting is overhead.py's business. Prints candidates a
second and the share of the workers' time that is idle, from when the first ones have ended to when the last proposal is
made.
"""

import argparse
import cProfile
import heapq
import math
import pstats
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hrsearch.arch import Arch
from hrsearch.candidate import Candidate, Judgement
from hrsearch.objective import Cost
from hrsearch.registry import WORKERS
from hrsearch.runner import Engine, load_runner
from hrsearch.search import driver
from hrsearch.search.driver import Judging, drive
from hrsearch.search.engines.setup import Workers
from hrsearch.space import load_space

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Simulated(Workers):
    """Answers at once, delivered when the simulated time has come."""

    def __init__(self, workers: int, seconds: float) -> None:
        self.workers = workers
        self._seconds = seconds
        self._random = random.Random(0)
        self._due: list[tuple[float, int, Future[Any], Any]] = []
        self._skipped = 0.0
        self.count = 0
        self._began = time.process_time()
        self._moments: list[tuple[float, int]] = []  # when something began, and how many workers were busy then
        self._last_new = 0

    def now(self) -> float:
        """Simulated seconds since the beginning: those that passed, and those that nobody waited for."""
        return time.process_time() - self._began + self._skipped

    def submit(self, function: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        """The future of a call that takes simulated seconds."""
        future: Future[Result] = Future()
        takes = self._seconds * self._random.uniform(0.75, 1.25)
        self.count += 1
        now = self.now()
        heapq.heappush(self._due, (now + takes, self.count, future, function(*args, **kwargs)))
        self._moments.append((now, sum(due > now for due, *_ in self._due)))
        if any(isinstance(given, Candidate) and given.rung == 0 for given in args):
            self._last_new = len(self._moments)
        return future

    def idle(self) -> float:
        """The share of the workers' time that was idle, from when the first may have ended to the last proposal; NaN
        where all was proposed before that."""
        among = [moment for moment in self._moments[: self._last_new] if moment[0] > 1.25 * self._seconds]
        if len(among) < 2:
            return math.nan
        busy = sum((after - now) * count for (now, count), (after, _) in pairwise(among))
        return 1 - busy / (self.workers * (among[-1][0] - among[0][0]))

    def wait(self, flights: Any, timeout: float, return_when: str) -> tuple[set[Future[Any]], set[Future[Any]]]:
        """Stands for `concurrent.futures.wait` in the driver: what is due by now is done; if nothing is, time jumps."""
        self._skipped += max(0.0, self._due[0][0] - self.now())
        now, done = self.now(), set()
        while self._due and self._due[0][0] <= now:
            _, _, future, result = heapq.heappop(self._due)
            future.set_result(result)
            done.add(future)
        return done, set(flights) - done


def judge(candidate: Candidate) -> Judgement:
    """A judgement that costs nothing; the score follows the digest, so that the front has some points."""
    score = int(candidate.digest[:6], 16) / 16**6
    latency = {"median_ms": 1 + score, "low_ms": 1 + score, "high_ms": 1 + score}
    return Judgement({"outcome": "trained", "score": {"value": score, "loss": -score}, "latency": latency})


def cost_of(arch: Arch) -> Cost:
    """Made-up costs that grow with widths and depths."""
    size = sum(branch.channels * (1 + branch.depth) for stage in arch.stages for branch in stage.branches)
    return Cost(params=1000 * size, flops=1_000_000 * size)


def simulate(options: argparse.Namespace, folder: Path, sampler: str, budget: int, workers: int) -> Simulated:
    """Search with the driver until the study in `folder` holds `budget` candidates."""
    runner = load_runner("laptop")
    asked = {"sampler": sampler, "limits": (), "draws": options.draws if sampler != "random" else 1}
    search = runner.search.model_copy(update=asked)
    pool = Simulated(workers, options.seconds)
    WORKERS.add("simulated")(lambda setup, workers, timeout_s: pool)
    runner = runner.model_copy(update={"engine": Engine(kind="simulated"), "search": search})
    driver.wait = pool.wait  # type: ignore[assignment,attr-defined]
    judging = Judging(cost_of, judge)
    drive(load_space(options.space), runner, judging, budget=budget, folder=folder, attributes={})
    return pool


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--filled", type=int, default=0)
    parser.add_argument("--budget", type=int, default=3000)
    parser.add_argument("--space", default="hrvit")
    parser.add_argument("--sampler", default="evolve")
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "workers"
        simulate(options, folder, "random", options.filled, 1)
        began = time.process_time()
        if options.profile:
            profile.enable()
        pool = simulate(options, folder, options.sampler, options.budget, options.workers)
        profile.disable()
        cpu = time.process_time() - began
    count = options.budget - options.filled
    print(f"{count} candidates after {options.filled}, {options.workers} workers: {pool.now():.0f} simulated seconds")
    print(f"driver: {cpu / count * 1e3:.0f} CPU-milliseconds a candidate, {count / cpu:.1f} candidates a second")
    print(f"trainings begun: {pool.count}; all workers busy need {options.workers / options.seconds:.1f} a second")
    idle = pool.idle()
    print(f"idle: {idle:.0%} of the workers' time" if idle == idle else "idle: too short to tell")
    if options.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
