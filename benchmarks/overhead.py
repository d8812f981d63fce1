"""CPU-seconds a candidate costs besides training and timing: propose, count, record; and build, in the worker.

    python benchmarks/overhead.py --trials 200

Fills a study with candidates that are judged in no time, so that what is left is the tool's own work, and prints the
mean over the last quarter of them, when the study is full and the counts are warm.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch

from hrsearch.api import cost_counter
from hrsearch.build import build
from hrsearch.candidate import Candidate, Judgement
from hrsearch.runner import Engine, load_runner
from hrsearch.search.driver import Event, Judging, drive
from hrsearch.space import load_space

LATENCY = {"median_ms": 1.0, "low_ms": 1.0, "high_ms": 1.0}


def judge(candidate: Candidate) -> Judgement:
    """A judgement that costs nothing; the score follows the digest, so that the front has some points."""
    score = int(candidate.digest[:6], 16) / 16**6
    return Judgement(
        {
            "outcome": "trained",
            "score": {"value": score, "metric": "none", "loss": 1.0},
            "latency": LATENCY | {"median_ms": 1 + score},
        }
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--space", default="hrvit")
    parser.add_argument("--runner", default="laptop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    space = load_space(options.space)
    runner = load_runner(options.runner).model_copy(update={"engine": Engine(kind="inline")})
    ends: list[float] = []

    def note(event: Event) -> None:
        if event.trial.state == "trained":
            ends.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        drive(
            space,
            runner,
            Judging(cost_counter(runner, 11), judge),
            budget=options.trials,
            folder=Path(folder) / "overhead",
            attributes={},
            on_event=note,
        )
    gaps = [after - before for before, after in itertools.pairwise(ends)]
    warm = gaps[-len(gaps) // 4 :]
    builds = [_build_seconds(space.sample(seed)[1]) for seed in range(20)]
    print(f"driver, per trained candidate: mean {statistics.mean(warm):.3f} s over the last {len(warm)}")
    print(f"  (refused proposals in between included; first quarter: {statistics.mean(gaps[: len(gaps) // 4]):.3f} s)")
    print(f"worker, building the network: median {statistics.median(builds):.3f} s")


def _build_seconds(arch: object) -> float:
    start = time.process_time()
    build(arch, classes=11)  # type: ignore[arg-type]
    return time.process_time() - start


if __name__ == "__main__":
    main()
