"""A small real space with candidates that are judged in microseconds, and a driver of it to start and kill."""

import argparse
import ctypes
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hrsearch
from hrsearch.arch import Arch
from hrsearch.candidate import Candidate, Judgement
from hrsearch.objective import Cost
from hrsearch.runner import Runner, Search
from hrsearch.search.driver import Event, Judging, drive
from hrsearch.space import Space
from hrsearch.storage import point_to
from hrsearch.study import Record, read_study

SPACE = """
task: segment
knobs:
  lift: [false, true]
  width1: [8, 16, 24, 32]
  width2: [8, 16, 32, 64]
  depth1: [1, 2, 3]
  depth2: [1, 2, 3, 4]
  extra: {from: 1, to: 4}
require:
  - $width1 <= $width2
net:
  blocks:
    plain: {kind: hr}
  stages:
    - {link: conv_stem, channels: 16, stride: 4}
    - {when: $lift, link: hrvit, channels: [$width1], depth: $extra, block: plain}
    - {link: hrvit, channels: [$width1, $width2], depth: [$depth1, $depth2], block: plain}
  head: {kind: segformer, width: 16}
"""


def cost_of(arch: Arch) -> Cost:
    """Made-up costs that grow with widths and depths."""
    size = sum(branch.channels * (1 + branch.depth) for stage in arch.stages for branch in stage.branches)
    return Cost(params=1000 * size, flops=1_000_000 * size)


def untrained(arch: Arch) -> float:
    """A made-up zero-cost proxy: says which networks score well, on a scale of its own."""
    return math.exp(cost_of(arch).flops / 1e8)


@dataclass(frozen=True)
class Toy:
    """A candidate's made-up judgement after some seconds; every call is written to the study's `calls`."""

    seconds: float = 0.0

    def __call__(self, candidate: Candidate) -> Judgement:
        with (candidate.folder / "calls").open("a") as calls:
            called = [candidate.number, candidate.digest, os.getpid(), time.time(), candidate.rung]
            calls.write(json.dumps(called) + "\n")
        time.sleep(self.seconds)
        return judgement(candidate)


@dataclass(frozen=True)
class Heavy:
    """The toy's candidate with weights; what begins and ends is noted on another disk."""

    notes: Path
    weight: int

    def __call__(self, candidate: Candidate) -> Judgement:
        self.note("begun", candidate)
        time.sleep(0.1)
        (candidate.folder / f"{candidate.number}.weights").write_bytes(bytes(self.weight))
        self.note("ended", candidate)
        return judgement(candidate)

    def note(self, what: str, candidate: Candidate) -> None:
        with (self.notes / what).open("a") as file:
            file.write(f"{candidate.number} {candidate.rung}\n")

    def noted(self, what: str) -> Counter[str]:
        return Counter((self.notes / what).read_text().splitlines())


def run_out_of_memory() -> None:
    """Ask for more than this process may have."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20), resource.RLIM_INFINITY))
    bytearray(256 << 20)


FAULTS: dict[str, tuple[Callable[[], object], str]] = {
    "segfault": (lambda: ctypes.string_at(0), "worker was killed by signal 11 (Segmentation fault)"),
    "abort": (os.abort, "worker was killed by signal 6 (Aborted)"),
    "hang": (lambda: time.sleep(60), "took longer than 5 s"),
    "memory": (run_out_of_memory, "out of memory"),
}


def troubled(candidate: Candidate) -> Judgement:
    """Each of the faults befalls one candidate, then one scores no number, then all goes well."""
    for name, (strike, _) in FAULTS.items():
        try:
            (candidate.folder / name).touch(exist_ok=False)
        except FileExistsError:
            continue
        strike()
    try:
        (candidate.folder / "nan").touch(exist_ok=False)
    except FileExistsError:
        return Toy()(candidate)
    return judgement(candidate, score={"value": float("nan")})


def judgement(candidate: Candidate, **attributes: Any) -> Judgement:
    """What a candidate is worth: larger networks score higher, with noise that its seed fixes."""
    noise = random.Random(candidate.seed)
    size = cost_of(candidate.arch).flops / 1e9
    value = size / (1 + size) + 0.05 * noise.random() + 0.1 * candidate.rung
    known: dict[str, Any] = {"score": {"value": value, "loss": 1 - value, "rung": candidate.rung}}
    known |= {} if candidate.rung else {"latency": {"median_ms": 100 * size * (1 + 0.1 * noise.random())}}
    return Judgement({**known, "outcome": "trained", **attributes})


def runner_of(engine: Mapping[str, Any] | None = None, **search: Any) -> Runner:
    """A runner with these settings, judging inline if nothing else is said; `rungs`, `inherit` belong to the proxy."""
    proxy = {"steps": 100, "warmup": 0, "rungs": search.pop("rungs", ()), "inherit": search.pop("inherit", False)}
    settings = {"sampler": "tpe", "draws": 1, "eta": 3.0, "rungs_by": "loss", **search}
    return Runner.model_validate({"proxy": proxy, "search": settings, "engine": engine or {"kind": "inline"}})


def search(folder: Path, budget: int | None, evaluate: Any = Toy(), space: str = SPACE, **options: Any) -> str:
    """Drive the toy's search; options go to the runner's search section, `engine` and `on_event` where they belong."""
    preload, forecast, earlier = options.pop("preload", ()), options.pop("forecast", None), options.pop("earlier", ())
    judging = Judging(options.pop("cost_of", cost_of), evaluate, preload, forecast=forecast, earlier=earlier)
    judging = replace(judging, untrained=options.pop("untrained", None))
    options |= {"zero_cost": "synflow"} if judging.untrained else {}
    told = {
        "hours": options.pop("hours", None),
        "attributes": options.pop("attributes", {}),
        "on_event": options.pop("on_event", lambda event: None),
    }
    runner = runner_of(options.pop("engine", None), **options)
    return drive(Space.parse(space), runner, judging, budget=budget, folder=folder, **told)


def calls_of(folder: Path) -> list[tuple[int, str, int, float]]:
    """Every call of `Toy` in the order in which they began: trial number, digest, process, time."""
    return [(number, digest, pid, when) for number, digest, pid, when, _ in _calls(folder)]


def rungs_called(folder: Path) -> list[tuple[int, int, float]]:
    """Every call of `Toy`: trial number, rung, time."""
    return [(number, rung, when) for number, _, _, when, rung in _calls(folder)]


def _calls(folder: Path) -> list[tuple[int, str, int, float, int]]:
    path = folder / "calls"
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def states_of(folder: Path) -> dict[str, int]:
    """How many trials of each state the study has."""
    states = [trial.state for trial in read_study(folder).trials]
    return {state: states.count(state) for state in dict.fromkeys(states)}


def rows_of(record: Record) -> list[tuple[Any, ...]]:
    """What a search decided and found, without when and by whom."""
    return [(trial.state, dict(trial.knobs), trial.attributes.get("digest"), trial.values) for trial in record.trials]


def start(folder: Path, budget: int, *options: str) -> subprocess.Popen[str]:
    """Start a driver in a process of its own."""
    home = Path(hrsearch.__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(home)])}
    command = [sys.executable, "-c", "import toy_search; toy_search.main()", str(folder), str(budget), *options]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def main() -> None:
    """Drive a search as the command line does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("budget", type=int)
    parser.add_argument("--engine", default="processes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--rungs", type=int, nargs="*", default=[])
    parser.add_argument("--shipped", action="store_true", help="search as a runner that says nothing of it")
    parser.add_argument("--storage")
    parser.add_argument("--hours", type=float)
    parser.add_argument("--jump", type=float, help="seconds by which the clock of the wall jumps after half a second")
    asked = parser.parse_args()
    if asked.storage:
        point_to(asked.folder, asked.storage)
    if asked.jump:
        make_clock_jump(asked.jump)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would have begun deaf to it
    engine = {"kind": asked.engine, "workers": asked.workers}
    told = {"engine": engine, "preload": ["toy_search"], "on_event": say, "rungs": asked.rungs, "hours": asked.hours}
    told |= Search().model_dump() if asked.shipped else {}
    try:
        print(search(asked.folder, asked.budget, Toy(asked.seconds), **told))
    except KeyboardInterrupt:
        print("stopped")
        sys.exit(130)


def make_clock_jump(seconds: float) -> None:
    """The clock of the wall, as this process sees it, is set anew in a moment."""
    right, when = time.time, time.monotonic() + 0.5
    time.time = lambda: right() + (seconds if time.monotonic() > when else 0.0)


def say(event: Event) -> None:
    """Print what has changed."""
    print(event.trial.number, event.trial.state, event.message or "", flush=True)
