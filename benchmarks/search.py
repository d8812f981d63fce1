"""Does the search find more than others in the same training time?

    python benchmarks/search.py run --world modelled --seeds 10 --to results.jsonl     # again: goes on
    python benchmarks/search.py table results.jsonl

Every way to search is run in a world of `replay.py`, ours through the real driver, Optuna as its users write it, until
the training seconds are spent. What is printed is the hypervolume of all that was trained by then, without the luck of
seeds, in the declared box `RANGES`: the mean over seeds and its 95 % interval.
"""

import argparse
import json
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import optuna
import torch
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from replay import Model, Outcome, World, modelled, read_table, recorded

from hrsearch.api import cost_counter
from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.candidate import Candidate, Judgement, weights_path
from hrsearch.front import Range, hypervolume_growth
from hrsearch.objective import Cost, Score
from hrsearch.proxy import proxy_data, train_proxy
from hrsearch.proxy.checkpoint import write_weights
from hrsearch.proxy.inheritance import inherit
from hrsearch.runner import Engine, Proxy, Runner, load_runner
from hrsearch.search.driver import Judging, drive
from hrsearch.space import load_space

DIRECTIONS = ("maximize", "minimize", "minimize")
RANGES = (Range(0.25, 0.5), Range(5e8, 1e8, log=True), Range(75.0, 18.0, log=True))  # likelihood, FLOPs, milliseconds
LIMIT = 5e8  # FLOPs, as they were recorded
HERE = Path(__file__).parent
RUNNER = HERE / "runner.yaml"  # of record.py
CLASSES = 7  # of hard_digits: with the background
UNTRAINED_S = 0.11  # to build a network and ask synflow of it
SHARES = (0.25, 1 / 3, 0.5, 1.0)  # of the training seconds, at which the hypervolume is told


@dataclass
class Clock:
    """Counts training seconds, and keeps what was trained."""

    world: World
    seconds: float
    spent: float = 0.0
    asked: set[str] = field(default_factory=set)
    trained: list[tuple[float, tuple[float, float, float]]] = field(default_factory=list)
    judged: int = 0  # at any rung

    def judge(self, digest: str, flops: float, rung: int | None = None, in_full: bool = True) -> Outcome:
        """What a search is told; KeyboardInterrupt when the seconds are spent. Only full training counts."""
        found = self.world.judge(digest, rung)
        self.spent += found.seconds
        if self.spent > self.seconds:
            raise KeyboardInterrupt
        self.judged += 1
        if in_full:
            self.trained.append((self.spent, (found.true_score, flops, found.latency_ms)))
        return found

    def untrained(self, arch: Arch) -> float:
        """What synflow says, which is paid for once."""
        self.spent += 0.0 if arch.digest() in self.asked else UNTRAINED_S
        self.asked.add(arch.digest())
        return self.world.untrained(arch)


Way = Callable[[World, Clock, int], None]


def ours(sampler: str, rungs: bool = False, inherits: bool = False, **search: Any) -> Way:
    """Our driver with this sampler.

    Where networks begin with weights of a relative no table knows what they score: they are trained. What they take,
    and what they count for in the end, trained from nothing, is the world's.
    """

    def way(world: World, clock: Clock, seed: int) -> None:
        settings = {"sampler": sampler, "seed": seed, "limits": (f"flops<={LIMIT / 1e6:g}M",)}
        settings |= {"draws": 1, "control": 0.0, "eta": 3.0, **search}
        recorded_by = load_runner(RUNNER).proxy
        proxy = recorded_by.model_copy(update={"inherit": inherits, **({} if rungs else {"rungs": ()})})
        asks = "zero_cost" in search
        runner = Runner.model_validate({"search": settings, "engine": Engine(kind="inline"), "proxy": proxy})

        def evaluate(candidate: Candidate) -> Judgement:
            flops = world.cost_of(candidate.arch).flops
            last = len(proxy.rungs)
            found = clock.judge(candidate.digest, flops, candidate.rung if rungs else None, candidate.rung == last)
            told = {
                "value": found.score,
                "loss": found.loss,
                "metric": proxy.score,
                "metrics": {"metric": found.metric},
            }
            score = asdict(from_relative(candidate, proxy, world.space.task)) if inherits else told
            return Judgement({"outcome": "trained", "score": score, "latency": {"median_ms": found.latency_ms}})

        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            drive(
                world.space,
                runner,
                Judging(world.cost_of, evaluate, untrained=clock.untrained if asks else None),
                budget=round(clock.seconds / 3),  # more than will be trained
                folder=Path(folder) / "study",
                attributes={},
            )

    return way


def from_relative(candidate: Candidate, proxy: Proxy, task: str) -> Score:
    """The score of a network that begins, as in a search, with the weights of its relative, if it has one."""
    data = proxy_data(proxy, task)
    torch.manual_seed(candidate.seed)
    network = build(candidate.arch, classes=len(data.classes), drop_path=proxy.drop_path)
    if candidate.relative is not None:
        inherit(network, weights_path(candidate.folder, candidate.relative))
    score = train_proxy(network, data, proxy, seed=candidate.seed)
    write_weights(weights_path(candidate.folder, candidate.number), network, data)
    return score


def plain(make: Callable[[int], BaseSampler]) -> Way:
    """Optuna as its users write it: suggest, count, prune what is too large, train."""

    def way(world: World, clock: Clock, seed: int) -> None:
        def objective(trial: optuna.Trial) -> tuple[float, float, float]:
            draw = world.space.draw(lambda knob: trial.suggest_categorical(knob.name, knob.values))  # type: ignore[arg-type]
            if draw.arch is None:
                raise optuna.TrialPruned
            flops = world.cost_of(draw.arch).flops
            if flops > LIMIT:
                raise optuna.TrialPruned
            found = clock.judge(draw.arch.digest(), flops)
            return found.score, flops, found.latency_ms

        study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=make(seed))
        study.optimize(objective, n_trials=100_000)

    return way


WAYS: dict[str, Way] = {
    "Optuna TPE": plain(lambda seed: TPESampler(seed=seed)),
    "Optuna NSGA-II": plain(lambda seed: NSGAIISampler(seed=seed)),
    "random": ours("random"),
    "nsga2": ours("nsga2"),
    "nsga3": ours("nsga3"),
    "tpe": ours("tpe"),
    "gp": ours("gp"),
    "evolve": ours("evolve"),
    "tpe, 16 draws": ours("tpe", draws=16),
    "evolve, 16 draws": ours("evolve", draws=16),
    "evolve, 16 draws, synflow": ours("evolve", draws=16, zero_cost="synflow"),
    "evolve, 16 draws, synflow, inherit": ours("evolve", draws=16, zero_cost="synflow", inherits=True),
    "evolve, 64 draws": ours("evolve", draws=64),
    "random, 64 draws": ours("random", draws=64),
    "random, rungs": ours("random", rungs=True),
    "default": ours("evolve", rungs=True, draws=16, rungs_by="gain", eta=1.5),
    "default, synflow": ours("evolve", rungs=True, draws=16, rungs_by="gain", eta=1.5, zero_cost="synflow"),
    "default, one in two": ours("evolve", rungs=True, draws=16, rungs_by="gain", eta=2),
    "default, one in three": ours("evolve", rungs=True, draws=16, rungs_by="gain"),
    "default, tpe": ours("tpe", rungs=True, draws=16, rungs_by="gain", eta=1.5),
    "default, by loss": ours("evolve", rungs=True, draws=16, rungs_by="loss", eta=1.5),
    "default, by score": ours("evolve", rungs=True, draws=16, rungs_by="score", eta=1.5),
    "default, told what was measured": ours("evolve", rungs=True, draws=16, rungs_by="gain", eta=1.5, told="measured"),
    "default, told nothing": ours("evolve", rungs=True, draws=16, rungs_by="gain", eta=1.5, told="nothing"),
    "default, with control": ours("evolve", rungs=True, draws=16, rungs_by="gain", eta=1.5, control=0.1),
}


def grown(clock: Clock) -> list[float]:
    """The hypervolume at each of `SHARES` of the seconds."""
    growth = hypervolume_growth([point for _, point in clock.trained], DIRECTIONS, RANGES)
    ends = [sum(at <= share * clock.seconds for at, _ in clock.trained) for share in SHARES]
    return [growth[end - 1] if end else 0.0 for end in ends]


def run(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One result per way and seed that `asked.to` does not hold yet."""
    present = {(row["world"], row["way"], row["seed"], row["seconds"]) for row in _rows(asked.to)}
    build, label = _world(asked), asked.world if asked.longer == 1 else f"{asked.world}, {asked.longer:g} times as long"
    for seed in range(asked.first, asked.first + asked.seeds):
        for name in asked.ways or [name for name in WAYS if not name.endswith("inherit")]:  # which takes hours
            if (label, name, seed, asked.seconds) in present:
                continue
            clock, began = Clock(longer(build(), asked.longer), asked.seconds), time.process_time()
            try:
                WAYS[name](clock.world, clock, seed)
            except KeyboardInterrupt:
                ended = "seconds"
            else:
                ended = "candidates"
            took = time.process_time() - began
            row = {"world": label, "way": name, "seed": seed, "seconds": asked.seconds, "ended": ended}
            yield row | {
                "volume": grown(clock),
                "judged": clock.judged,
                "trained": len(clock.trained),
                "cpu_s": round(took, 2),
            }


def _world(asked: argparse.Namespace) -> Callable[[], World]:
    """Makes the world anew for every run, so that none remembers another; the counts of parts stay warm."""
    space = load_space(asked.space)
    table = read_table(asked.table, space)
    if asked.world == "recorded":
        return lambda: recorded(space, table)
    model = Model(space, table, boosted=asked.world == "boosted")
    told = ", ".join(f"{name} {error:.2f}" for name, error in model.errors.items())
    print(f"model: share of the variance left in ten folds: {told}")
    cost_of = cost_counter(load_runner(RUNNER), CLASSES)
    costs: dict[str, Cost] = {}
    return lambda: modelled(space, model, cost_of, costs)


def longer(world: World, factor: float) -> World:
    """The world in which training in full takes `factor` times as long, all of that after the rung, and tells the same:
    what a rung costs where it is a smaller share of the steps than was recorded."""

    def judge(digest: str, rung: int | None) -> Outcome:
        found = world.judge(digest, rung)
        more = (factor - 1) * world.judge(digest, None).seconds if rung != 0 else 0.0
        return replace(found, seconds=found.seconds + more)

    return replace(world, judge=judge)


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A markdown table for each world."""
    for world, seconds in dict.fromkeys((row["world"], row["seconds"]) for row in rows):
        chosen = [row for row in rows if (row["world"], row["seconds"]) == (world, seconds)]
        ends = " | ".join(f"after {share * seconds:,.0f} s" for share in SHARES)
        yield f"\n{world}, hypervolume in percent of the box:\n"
        yield f"| {world} | seeds | {ends} | judged | in full | CPU-seconds each |"
        yield "|---" * (6 + len(SHARES) - 1) + "|"
        for way in dict.fromkeys(row["way"] for row in chosen):
            yield _line(way, [row for row in chosen if row["way"] == way])


def _line(way: str, rows: Sequence[dict[str, Any]]) -> str:
    columns = zip(*(row["volume"] for row in rows), strict=True)
    cells = " | ".join(_interval([100 * value for value in column]) for column in columns)
    trained = mean(row["trained"] for row in rows)
    judged = mean(row["judged"] for row in rows)
    spent = sum(row["cpu_s"] for row in rows) / max(sum(row["judged"] for row in rows), 1)
    return f"| {way} | {len(rows)} | {cells} | {judged:.0f} | {trained:.0f} | {spent:.2f} |"


def _interval(values: Sequence[float]) -> str:
    """The mean and, from three values on, its 95 % interval by Student's t."""
    if len(values) < 3:
        return f"{mean(values):.1f}"
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return f"{mean(values):.1f} ± {half:.1f}"


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, or print what was run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--world", choices=["recorded", "modelled", "boosted"], default="modelled")
    running.add_argument("--table", type=Path, default=HERE / "recorded.csv.gz", help="of record.py")
    running.add_argument("--space", default=str(HERE / "space.yaml"))
    running.add_argument("--seconds", type=float, default=1200.0, help="of training")
    running.add_argument("--longer", type=float, default=1.0, help="as if training in full took so many times as long")
    running.add_argument("--seeds", type=int, default=10)
    running.add_argument("--first", type=int, default=0, help="seed")
    running.add_argument("--ways", nargs="*", choices=list(WAYS))
    running.add_argument("--to", type=Path, default=Path("search.jsonl"))
    shown = commands.add_parser("table")
    shown.add_argument("results", type=Path, nargs="+")
    asked = parser.parse_args(arguments)
    if asked.command == "table":
        print("\n".join(table([row for path in asked.results for row in _rows(path)])))
        return
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samplers that are experimental, of kernels at their bounds
        for row in run(asked):
            with asked.to.open("a") as results:
                results.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
