"""Does a latency come out the same twice? Ours and other tools' protocols, two rounds on the same candidates.

    python benchmarks/latency.py --out rounds/                       # hours; again: goes on where it was stopped
    python benchmarks/latency.py --out rounds/ --count 3 --runs 20   # to see that it works

Candidates are drawn from each family's space and kept if they have at most `--flops` at the deployment size. Each round
is a fresh process that measures every candidate with every engine, on one thread, under whatever load there is:

- ours: `hrsearch.measure`, scaled to the reference network's time at the round's start;
- the others: one series of `--runs` runs from a fresh engine, each by a stopwatch. A protocol is a slice of it, so many
  runs of warm-up and then the mean of so many samples, so that all of them see the same disturbances: Archai (0, 1),
  the mean of 10 without warm-up, mmrazor (5, 95, rounded to .1 ms), DyNAS-T (10, 50) and timm (10, 40). With fewer
  `--runs` those that need more take what there is, and are marked with *.

Which of the two comes first changes from candidate to candidate; each has an engine of its own. Seconds leave out
building and exporting, which stand apart. Writes `round1.jsonl` and `round2.jsonl`, a line per candidate and engine,
and `table.csv`; prints the table. Kendall's tau is scipy's, which comes with scikit-learn.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.cost import cost, measure, reference_time
from hrsearch.cost.machine import load
from hrsearch.objective import readable
from hrsearch.registry import ENGINES
from hrsearch.space import load_space

FAMILIES = ("hrvit", "hrformer", "hirivit", "hrnet")
CLASSES = 19
ROUNDS = (1, 2)
OURS = "hrsearch"
TARGETS = "targets: tau >= .95, median spread <= 5 %, at most 2 s for a network of 1 GFLOP at 512 x 512"
SAME = ("image", "flops", "seconds", "runs")  # options that a round is not resumed without
Run = Callable[[], object]
Row = dict[str, Any]  # a line of a round's file


class Protocol(NamedTuple):
    """Runs of warm-up, samples that the mean is taken of, and the digits of milliseconds that are kept."""

    warm_up: int
    samples: int
    digits: int | None = None


PROTOCOLS = {
    "Archai": Protocol(0, 1),
    "mean of 10": Protocol(0, 10),
    "mmrazor": Protocol(5, 95, 1),
    "DyNAS-T": Protocol(10, 50),
    "timm": Protocol(10, 40),
}


class Prepared(nn.Module):
    """An engine's run in the place of a network, so that `measure` times it without exporting again."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


@ENGINES.add("prepared")
def prepared(network: nn.Module, example: Tensor) -> Run:
    """The run that was prepared before."""
    assert isinstance(network, Prepared)
    return network.run


def candidates(family: str, image: tuple[int, int], flops: float) -> Iterator[tuple[int, Arch, int]]:
    """Seed, network and FLOPs of the draws of a family's space that have at most so many."""
    space = load_space(family)
    for seed in count():
        arch = space.sample(seed)[1]
        its = cost(arch, image, CLASSES).flops
        if its <= flops:
            yield seed, arch, its


def measured(network: nn.Module, engine: str, options: argparse.Namespace, reference_ms: float, first: bool) -> Row:
    """Ours and the series on one network, ours first or not: milliseconds, and the seconds that they took."""
    image = (options.image, options.image)
    example = torch.randn(1, 3, *image, generator=torch.Generator().manual_seed(0))
    row: Row = {}
    for which in ("ours", "series") if first else ("series", "ours"):
        start = time.perf_counter()
        run = ENGINES[engine](network, example)
        row["prepare_s"] = time.perf_counter() - start
        if which == "series":
            row["series"] = [_milliseconds(run) for _ in range(options.runs)]
            continue
        start = time.perf_counter()
        latency = measure(Prepared(run), image, "prepared", seconds=options.seconds, reference_ms=reference_ms)
        row |= {"ours_s": time.perf_counter() - start, "ours_ms": latency.median_ms, "cpu_ms": latency.cpu_ms}
        row |= {"low_ms": latency.low_ms, "high_ms": latency.high_ms, "steady": latency.steady}
        row |= {"samples": latency.runs, "tries": latency.tries}
    return row


def _milliseconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def measure_round(number: int, options: argparse.Namespace) -> None:
    """One round: append to its file what is not there yet."""
    torch.set_num_threads(1)
    path = options.out / f"round{number}.jsonl"
    head, rows = opened(path, options)
    done = {(row["family"], row["seed"], row["engine"]) for row in rows}
    image = (options.image, options.image)
    for family in options.families:
        drawn = islice(candidates(family, image, options.flops), options.count)
        for place, (seed, arch, flops) in enumerate(drawn):
            network = build(arch, CLASSES).eval()
            for engine in options.engines:
                if (family, seed, engine) in done:
                    continue
                row = {"family": family, "seed": seed, "engine": engine, "flops": flops, "load": load()}
                row |= measured(network, engine, options, head["reference_ms"], first=place % 2 == 0)
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                said = f"{row['ours_ms']:.1f} ms in {row['ours_s']:.1f} s, load {row['load']}"
                print(f"round {number}: {family} {seed}, {readable(flops)}, {engine}: {said}", file=sys.stderr)


def opened(path: Path, options: argparse.Namespace) -> tuple[Row, list[Row]]:
    """The head of a round's file, begun if there is none, and its rows; a line that a kill cut off is dropped."""
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    asked = {name: getattr(options, name) for name in SAME}
    if not whole:
        whole = json.dumps(asked | {"reference_ms": reference_time(threads=1), "load": load()}) + "\n"
    path.write_text(whole)
    head, *rows = map(json.loads, whole.splitlines())
    if any(head[name] != value for name, value in asked.items()):
        sys.exit(f"{path} was begun with { ({name: head[name] for name in SAME}) }; give the same, or another --out")
    return head, rows


def table(out: Path) -> list[dict[str, Any]]:
    """What both rounds say: a row per family, engine and protocol."""
    rounds = []
    for number in ROUNDS:
        rows = [json.loads(line) for line in (out / f"round{number}.jsonl").read_text().splitlines()[1:]]
        rounds.append({(row["family"], row["engine"], row["seed"]): row for row in rows})
    both = sorted(rounds[0].keys() & rounds[1].keys())
    cells = list(dict.fromkeys((family, engine) for family, engine, _ in both))
    return [
        {"family": family, "engine": engine, "protocol": name, **_agreement(pairs, name)}
        for family, engine in cells
        for pairs in [[(rounds[0][key], rounds[1][key]) for key in both if key[:2] == (family, engine)]]
        for name in (OURS, *PROTOCOLS)
    ]


def _agreement(pairs: list[tuple[Row, Row]], name: str) -> dict[str, Any]:
    """How well the rounds agree by a protocol, and what it takes."""
    told = [tuple(_told(row, name) for row in pair) for pair in pairs]
    spreads = [2 * abs(first[0] - second[0]) / (first[0] + second[0]) for first, second in told]
    seconds = [
        (took, row["flops"])
        for pair, said in zip(pairs, told, strict=True)
        for row, (_, took) in zip(pair, said, strict=True)
    ]
    return {
        "candidates": len(pairs),
        "tau": float(kendalltau([first[0] for first, _ in told], [second[0] for _, second in told]).statistic),
        "median_spread": statistics.median(spreads),
        "worst_spread": max(spreads),
        "seconds": statistics.median(took for took, _ in seconds),
        "seconds_per_gflop": statistics.median(took / flops * 1e9 for took, flops in seconds),
    }


def _told(row: Row, name: str) -> tuple[float, float]:
    """Milliseconds by a protocol, and the seconds that it took."""
    if name == OURS:
        return row["ours_ms"], row["ours_s"]
    warm_up, samples, digits = PROTOCOLS[name]
    taken = row["series"][: warm_up + samples]
    mean = statistics.mean(taken[warm_up:])
    return mean if digits is None else round(mean, digits), sum(taken) / 1e3


def show(rows: list[dict[str, Any]], runs: int) -> None:
    """Print the table."""
    print("| family | engine | protocol | candidates | tau | spread, median | worst | s, median | s per GFLOP |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        needed = sum(PROTOCOLS[row["protocol"]][:2]) if row["protocol"] != OURS else 0
        name = f"**{OURS}**" if not needed else row["protocol"] + "*" * (needed > runs)
        spread = f"{row['median_spread']:.1%} | {row['worst_spread']:.1%}"
        took = f"{row['seconds']:.2f} | {row['seconds_per_gflop']:.2f}"
        who = f"{row['family']} | {row['engine']} | {name} | {row['candidates']}"
        print(f"| {who} | {row['tau']:.3f} | {spread} | {took} |")
    print(f"\n{TARGETS}")


def surroundings(out: Path) -> Iterator[str]:
    """A line per round: the load, and how long the engines took to prepare."""
    for number in ROUNDS:
        head, *rows = map(json.loads, (out / f"round{number}.jsonl").read_text().splitlines())
        loads = [row["load"] for row in rows if row["load"] is not None] or [0.0]
        engines = dict.fromkeys(row["engine"] for row in rows)
        took = {each: statistics.median(row["prepare_s"] for row in rows if row["engine"] == each) for each in engines}
        prepare = [f"{engine} prepared in {seconds:.2f} s" for engine, seconds in took.items()]
        unsteady = sum(not row["steady"] for row in rows)
        told = f"load {min(loads)} to {max(loads)}, reference {head['reference_ms']:.2f} ms, {unsteady} not steady"
        scale = statistics.quantiles((row["ours_ms"] / row["cpu_ms"] for row in rows), n=20)
        told += f", told over CPU time {scale[9]:.2f} (nine in ten {scale[0]:.2f} to {scale[-1]:.2f})"
        yield f"round {number}: {told}, {', '.join(prepare)} (median)"


def _flops(text: str) -> float:
    """A number of FLOPs, such as 1G or 50M."""
    unit = {"G": 1e9, "M": 1e6}.get(text[-1:])
    return float(text[:-1]) * unit if unit else float(text)


def main() -> None:
    """Run both rounds, or one of them in this process, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--count", type=int, default=30, help="candidates of a family")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--engines", nargs="+", default=["eager", "onnx"])
    parser.add_argument("--image", type=int, default=512, help="side of the images")
    parser.add_argument("--flops", type=_flops, default=1e9, help="at most so many, such as 1G")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one try of ours")
    parser.add_argument("--runs", type=int, default=100, help="of the others' series")
    parser.add_argument("--round", type=int, choices=ROUNDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.round:
        return measure_round(options.round, options)
    for number in ROUNDS:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--round", str(number)], check=True)
    rows = table(options.out)
    with (options.out / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    show(rows, options.runs)
    print(*surroundings(options.out), sep="\n")


if __name__ == "__main__":
    main()
