"""A small real space with candidates that are judged in microseconds, and a driver of it to start and kill."""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hrsearch
from hrsearch.arch import Arch
from hrsearch.candidate import Candidate, Judgement
from hrsearch.objective import Cost
from hrsearch.runner import Runner
from hrsearch.search.driver import Event, Judging, drive
from hrsearch.space import Space
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


@dataclass(frozen=True)
class Toy:
    """A candidate's made-up judgement after some seconds; every call is written to the study's `calls`."""

    seconds: float = 0.0

    def __call__(self, candidate: Candidate) -> Judgement:
        with (candidate.folder / "calls").open("a") as calls:
            calls.write(json.dumps([candidate.number, candidate.digest, os.getpid(), time.time()]) + "\n")
        time.sleep(self.seconds)
        return judgement(candidate)


def judgement(candidate: Candidate, **attributes: Any) -> Judgement:
    """What a candidate is worth: larger networks score higher, with noise that its seed fixes."""
    noise = random.Random(candidate.seed)
    size = cost_of(candidate.arch).flops / 1e9
    known = {"score": {"value": size / (1 + size) + 0.05 * noise.random()}}
    known |= {"latency": {"median_ms": 100 * size * (1 + 0.1 * noise.random())}}
    return Judgement({**known, "outcome": "trained", **attributes})


def runner_of(engine: Mapping[str, Any] | None = None, **search: Any) -> Runner:
    """A runner with these settings, judging inline if nothing else is said."""
    settings = {"sampler": "tpe", "draws": 1, **search}
    return Runner.model_validate({"search": settings, "engine": engine or {"kind": "inline"}})


def search(folder: Path, budget: int, evaluate: Any = Toy(), space: str = SPACE, **options: Any) -> str:
    """Drive the toy's search; options go to the runner's search section, `engine` and `on_event` where they belong."""
    preload, forecast, earlier = options.pop("preload", ()), options.pop("forecast", None), options.pop("earlier", ())
    judging = Judging(options.pop("cost_of", cost_of), evaluate, preload, forecast=forecast, earlier=earlier)
    told = {"attributes": options.pop("attributes", {}), "on_event": options.pop("on_event", lambda event: None)}
    runner = runner_of(options.pop("engine", None), **options)
    return drive(Space.parse(space), runner, judging, budget=budget, folder=folder, **told)


def calls_of(folder: Path) -> list[tuple[int, str, int, float]]:
    """Every call of `Toy` in the order in which they began: trial number, digest, process, time."""
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
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would have begun deaf to it
    engine = {"kind": asked.engine, "workers": asked.workers}
    try:
        print(
            search(asked.folder, asked.budget, Toy(asked.seconds), engine=engine, preload=["toy_search"], on_event=say)
        )
    except KeyboardInterrupt:
        print("stopped")
        sys.exit(130)


def say(event: Event) -> None:
    """Print what has changed."""
    print(event.trial.number, event.trial.state, event.message or "", flush=True)
