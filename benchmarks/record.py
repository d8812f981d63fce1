"""Records what random networks of a space score at every rung, for the search benchmark to replay.

    python benchmarks/record.py run --count 600 --to rows.jsonl              # again: goes on
    python benchmarks/record.py pack rows.jsonl     # into recorded.csv.gz, from where the next recording goes on
    python benchmarks/record.py zero                # adds what zero-cost proxies say of each to recorded.csv.gz
    python benchmarks/record.py again               # adds what other seeds give those near the front; again: goes on
    python benchmarks/record.py table               # what a rung and what they tell of the last score

Every network is trained by the runner's own proxy, from the seed that a search would give it, to each rung: what stands
before the decay of one rung is where the next goes on. Seconds are CPU seconds of one thread, so that a busy machine
does not change them: `seconds_0`, `seconds_1`, ... from one rung to the next, `seconds` for training in full at once.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from itertools import count, islice, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ranking
import torch

from hrsearch.build import build
from hrsearch.candidate import seed_of
from hrsearch.cost import cost, measure, reference_time
from hrsearch.objective import task_metric
from hrsearch.proxy import proxy_data, train_proxy
from hrsearch.proxy.zero import probe_of
from hrsearch.registry import ZERO_COST
from hrsearch.runner import Runner, load_runner, trunk_of
from hrsearch.space import Space, load_space

LATENCY_S = 1.0  # of a measurement
ROUNDED = ("score", "metric", "loss", "seconds", "latency")  # to four digits
SAME = 0.999  # rank correlation from which on two columns say the same, but for what rounding made equal
TABLE = Path(__file__).with_name("recorded.csv.gz")  # what is committed; a recording goes on from it


def drawn(space: Space, most: float, image: tuple[int, int], classes: int) -> Iterator[int]:
    """The seeds of different random networks of the space with at most so many FLOPs."""
    seen = set()
    for seed in count():
        arch = space.sample(seed)[1]
        if arch.digest() not in seen and cost(arch, image, classes).flops <= most:
            seen.add(arch.digest())
            yield seed


def recorded(space_path: str, runner: Runner, seed: int, reference_ms: float) -> dict[str, Any]:
    """The row of a network: its knobs, its costs, and its score, the task's metric, loss and seconds at each rung."""
    torch.set_num_threads(1)
    space, plan, how = load_space(space_path), runner.proxy, runner.measure
    setting, arch = space.sample(seed)
    data = proxy_data(plan, space.task)
    own = seed_of(runner.search.seed, arch.digest())
    torch.manual_seed(own)
    network = build(arch, classes=len(data.classes), drop_path=plan.drop_path)
    latency = measure(network, how.image, how.engine, seconds=LATENCY_S, reference_ms=reference_ms)
    counted = cost(arch, how.image, len(data.classes))
    row: dict[str, Any] = {"seed": seed, "digest": arch.digest(), "params": counted.params, "flops": counted.flops}
    row |= {"latency": latency.median_ms, **{f"knob.{name}": value for name, value in setting.items()}}
    with tempfile.TemporaryDirectory() as folder:
        for rung in range(len(plan.rungs) + 1):
            torch.manual_seed(own)
            network = build(arch, classes=len(data.classes), drop_path=plan.drop_path)
            began = time.process_time()
            score = train_proxy(network, data, plan, seed=own, rung=rung, checkpoint=Path(folder) / "0.pt")
            seconds = time.process_time() - began
            row |= {f"score_{rung}": score.value, f"metric_{rung}": task_metric(asdict(score))[1]}
            row |= {f"loss_{rung}": score.loss, f"seconds_{rung}": seconds}
    return row | {"seconds": in_full(row, (*plan.rungs, plan.steps))}


def judged_untrained(space_path: str, runner: Runner, seed: int) -> dict[str, float]:
    """What each zero-cost proxy says of a network as it is before its training, and the CPU seconds that this took."""
    torch.set_num_threads(1)
    space, plan = load_space(space_path), runner.proxy
    arch = space.sample(seed)[1]
    data = proxy_data(plan, space.task)
    own = seed_of(runner.search.seed, arch.digest())
    row = {"seed": float(seed)}
    for kind in ZERO_COST:
        torch.manual_seed(own)
        network = build(arch, classes=len(data.classes), drop_path=plan.drop_path)
        probe = probe_of(data, plan, own)
        began = time.process_time()
        row[kind] = ZERO_COST[kind](network, probe)
        row[f"seconds_{kind}"] = time.process_time() - began
    return row


def with_zero_cost(rows: pd.DataFrame, asked: argparse.Namespace) -> pd.DataFrame:
    """The table with a column for each zero-cost proxy, to six digits; prints what they take."""
    space, runner = asked.space, load_runner(asked.runner)
    with ProcessPoolExecutor(asked.workers, get_context("spawn")) as pool:
        found = pd.DataFrame(pool.map(judged_untrained, repeat(space), repeat(runner), rows["seed"].tolist()))
    for kind in ZERO_COST:
        print(f"{kind}: {found[f'seconds_{kind}'].mean():.2f} CPU-seconds a network")
        rows = rows.assign(**{kind: [float(f"{value:.6g}") for value in found[kind]]})
    return rows


def repeated(space_path: str, runner: Runner, seed: int, turn: int) -> float:
    """The last score of a network that is trained in full from another seed, one for each turn."""
    space = load_space(space_path)
    arch = space.sample(seed)[1]
    other = seed_of(runner.search.seed, arch.digest(), "again", turn)
    return ranking.score(arch.to_dict(), ranking.changed(runner, ()), space.task, other, ()).value


def contested(rows: pd.DataFrame, score: "pd.Series[float]", within: float) -> list[int]:
    """The seeds of networks that score at most so much less than the best of those that cost no more: luck may have put
    them on the front, or kept them off it."""
    found, flops, latency = (column.to_numpy() for column in (score, rows["flops"], rows["latency"]))
    costs_no_more = (flops <= flops[:, None]) & (latency <= latency[:, None])
    best = np.where(costs_no_more, found, -np.inf).max(axis=1)
    return [int(seed) for seed in rows["seed"][best - found <= within]]


def again(rows: pd.DataFrame, asked: argparse.Namespace) -> pd.DataFrame:
    """The table with a column `again_1`, `again_2`, ... for each other seed; trains what `asked.to` does not hold.

    Each turn those are trained that are still near the front: by the score that was told the first, then by the
    mean of the others, which is as much nearer to the truth as it has more seeds.
    """
    told = rows[f"score_{last_of(rows)}"]
    columns: dict[str, pd.Series[float]] = {}
    for turn in range(1, asked.times + 1):
        so_far = pd.DataFrame(columns, rows.index).mean(axis=1).fillna(told)
        seeds = contested(rows, so_far, asked.within / turn**0.5)
        scores = repeated_by_all(seeds, turn, asked)
        columns[f"again_{turn}"] = rows["seed"].map(scores)
        print(f"again_{turn}: {len(seeds)} networks", flush=True)
    return pd.concat([rows.drop(columns=columns, errors="ignore"), pd.DataFrame(columns, rows.index)], axis=1)


def repeated_by_all(seeds: list[int], turn: int, asked: argparse.Namespace) -> dict[int, float]:
    """The score of each network with the seed of this turn, from `asked.to` or trained and noted there."""
    lines = asked.to.read_text().splitlines() if asked.to.exists() else []
    found = (json.loads(line) for line in lines if line.endswith("]"))  # a line cut short is dropped
    done = {seed: score for seed, at, score in found if at == turn and seed in seeds}
    runner = load_runner(asked.runner)
    with ProcessPoolExecutor(asked.workers, get_context("spawn")) as pool:
        left = [seed for seed in seeds if seed not in done]
        futures = {pool.submit(repeated, asked.space, runner, seed, turn): seed for seed in left}
        for future in as_completed(futures):
            seed = futures[future]
            done[seed] = round(future.result(), 4)
            with asked.to.open("a") as file:
                file.write(json.dumps([seed, turn, done[seed]]) + "\n")
    return done


def last_of(rows: pd.DataFrame) -> int:
    """The highest rung of a table."""
    return max(int(name.removeprefix("score_")) for name in rows.columns if name.startswith("score_"))


def in_full(row: dict[str, Any], ladder: tuple[int, ...]) -> float:
    """The seconds of training to the last rung at once: what rungs train a second time, or validate, left out.

    A rung of n steps after another of m takes n - trunk(m) steps and a validation: two rungs give both.
    """
    if len(ladder) == 1:
        return float(row["seconds_0"])
    first, last = row["seconds_0"], row[f"seconds_{len(ladder) - 1}"]
    trunk = trunk_of(ladder[-2])
    step = (last - first) / (ladder[-1] - trunk - ladder[0])
    return float(last + trunk * step)


def run(asked: argparse.Namespace) -> None:
    """Record what `asked.to` does not hold yet, a network a process."""
    space, runner = load_space(asked.space), load_runner(asked.runner)
    classes = len(proxy_data(runner.proxy, space.task).classes)
    lines = asked.to.read_text().splitlines() if asked.to.exists() else [json.dumps({"reference_ms": reference_time()})]
    asked.to.write_text("".join(line + "\n" for line in lines if line.endswith("}")))  # a line cut short is dropped
    head, *rows = (json.loads(line) for line in asked.to.read_text().splitlines())
    done = {row["seed"] for row in rows} | (set(pd.read_csv(TABLE)["seed"]) if TABLE.exists() else set())
    seeds = list(islice(drawn(space, asked.flops, runner.measure.image, classes), asked.count))
    with ProcessPoolExecutor(asked.workers, get_context("spawn")) as pool:
        futures = [
            pool.submit(recorded, asked.space, runner, seed, head["reference_ms"]) for seed in seeds if seed not in done
        ]
        for place, future in enumerate(as_completed(futures), 1):
            row = future.result()
            with asked.to.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{place} of {len(futures)}: {row['seed']}, {row['seconds']:.0f} s", flush=True)


def table(rows: pd.DataFrame, eta: float = 3.0, resamples: int = 2000) -> Iterator[str]:
    """What an order at a rung tells of the last score: tau, its 95 % interval, and whom one in `eta` would keep."""
    orders = _orders(rows)
    last = orders.pop(max(name for name in orders if name.startswith("score_")))
    best = set(last.nlargest(len(rows) // 4).index)
    generator = np.random.default_rng(0)
    draws = [generator.integers(0, len(rows), len(rows)) for _ in range(resamples)]
    yield "| order by | tau to the last score | its 95 % interval | of the best quarter among one in three |"
    yield "|---|---|---|---|"
    for name, order in orders.items():
        taus = [order.iloc[draw].corr(last.iloc[draw], method="kendall") for draw in draws]
        low, high = np.quantile(taus, (0.025, 0.975))
        kept = best & set(order.nlargest(int(len(rows) / eta)).index)
        tau = order.corr(last, method="kendall")
        yield f"| {name} | {tau:.2f} | {low:.2f} to {high:.2f} | {len(kept)} of {len(best)} |"


def _orders(rows: pd.DataFrame) -> dict[str, "pd.Series[float]"]:
    """What may order the networks, higher is better, by name; a loss that a score is the exponential of says nothing
    more."""
    names = list(map(str, rows.columns))
    found = {name: rows[name] for name in names if name.startswith(("score_", "metric_"))}
    losses = {name: -rows[name] for name in names if name.startswith("loss_")}
    told = {name: found[name.replace("loss", "score")].corr(loss, method="spearman") for name, loss in losses.items()}
    found |= {name: loss for name, loss in losses.items() if told[name] < SAME}
    return found | {name: rows[name] for name in ("flops", "latency", "params", *ZERO_COST) if name in names}


def packed(path: Path, earlier: Path) -> pd.DataFrame:
    """What was recorded, and what a table holds already, by seeds, with the digits that mean something."""
    _, *rows = (json.loads(line) for line in path.read_text().splitlines())
    tables = [pd.read_csv(earlier)] if earlier.exists() else []
    frame = pd.concat([*tables, pd.DataFrame(rows)]).drop_duplicates("seed").sort_values("seed")
    return frame.round({name: 4 for name in frame.columns if name.startswith(ROUNDED)})


def main() -> None:
    """Record, pack or sum up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running, judging, repeating = (commands.add_parser(name) for name in ("run", "zero", "again"))
    for one in (running, judging, repeating):
        one.add_argument("--space", default=str(Path(__file__).with_name("space.yaml")))
        one.add_argument("--runner", default=str(Path(__file__).with_name("runner.yaml")))
        one.add_argument("--workers", type=int, default=os.cpu_count())
    running.add_argument("--flops", type=float, default=5e8, help="at most so many")
    running.add_argument("--count", type=int, default=600, help="networks")
    running.add_argument("--to", type=Path, default=Path("rows.jsonl"))
    packing = commands.add_parser("pack")
    packing.add_argument("rows", type=Path)
    packing.add_argument("--to", type=Path, default=TABLE)
    for one in (judging, repeating):
        one.add_argument("table", type=Path, nargs="?", default=TABLE)
    repeating.add_argument("--within", type=float, default=0.05, help="so much of the front's score, the first time")
    repeating.add_argument("--times", type=int, default=3, help="other seeds")
    repeating.add_argument("--to", type=Path, default=Path("again.jsonl"))
    summing = commands.add_parser("table")
    summing.add_argument("table", type=Path, nargs="?", default=TABLE)
    asked = parser.parse_args()
    if asked.command == "run":
        run(asked)
    elif asked.command == "pack":
        packed(asked.rows, asked.to).to_csv(asked.to, index=False)
    elif asked.command == "zero":
        with_zero_cost(pd.read_csv(asked.table), asked).to_csv(asked.table, index=False)
    elif asked.command == "again":
        again(pd.read_csv(asked.table), asked).to_csv(asked.table, index=False)
    else:
        rows = pd.read_csv(asked.table)
        print(f"{len(rows)} networks", *table(rows), sep="\n")


if __name__ == "__main__":
    main()
