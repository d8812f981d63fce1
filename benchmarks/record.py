"""Records what candidates score at every rung, for the search benchmark to replay.

    python benchmarks/record.py reports/hrvit-laptop --rungs 50 75 --to rungs.jsonl       # again: goes on
    python benchmarks/record.py --table rungs.jsonl             # what a rung tells of the last one

Every network that the study trained in full is trained again from its own seed to each of the shorter rungs, and
scored there as a search with rungs would: what stands before the decay of one rung is where the next goes on. The last
rung's score is the study's own; `--check N` trains N of them in full and compares.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.candidate import seed_of
from hrsearch.proxy import proxy_data, train_proxy
from hrsearch.runner import Proxy, Runner, proxy_of
from hrsearch.study import Record, Trial, read_study


def recorded(record: Record, trial: Trial, rungs: tuple[int, ...], in_full: bool) -> dict[str, Any]:
    """The row of a candidate: what is known of it, and its score and seconds at each rung."""
    runner = Runner.model_validate(record.attributes["runner"])
    arch = Arch.from_dict(trial.attributes["arch"])
    plan = Proxy.model_validate(proxy_of(runner, arch).model_dump() | {"rungs": rungs})
    data = proxy_data(plan, record.task)
    seed = seed_of(runner.search.seed, trial.attributes["digest"])
    row: dict[str, Any] = {
        "number": trial.number,
        "digest": trial.attributes["digest"],
        "flops": trial.attributes["flops"],
        "params": trial.attributes["params"],
        "latency_ms": trial.attributes["latency"]["median_ms"],
    }
    with tempfile.TemporaryDirectory() as folder:
        for rung in range(len(rungs) + in_full):
            torch.manual_seed(seed)
            network = build(arch, classes=len(data.classes), drop_path=plan.drop_path)
            score = train_proxy(network, data, plan, seed=seed, rung=rung, checkpoint=Path(folder) / "0.pt")
            row |= {f"score_{rung}": score.value, f"loss_{rung}": score.loss, f"seconds_{rung}": score.seconds}
    last = len(rungs)
    stored = trial.attributes["score"]
    if in_full:
        row["again"] = row[f"score_{last}"]
    return row | {
        f"score_{last}": stored["value"],
        f"loss_{last}": stored["loss"],
        f"seconds_{last}": stored["seconds"],
    }


def table(rows: pd.DataFrame, eta: float = 3.0, resamples: int = 2000) -> Iterator[str]:
    """What an order at a rung tells of the last score: tau, its 95 % interval, and whom one in `eta` would keep."""
    names = list(map(str, rows.columns))
    last = rows[f"score_{sum(name.startswith('score_') for name in names) - 1}"]
    orders = {
        name: rows[name] * (-1 if name.startswith("loss") else 1) for name in names if name[:5] in ("score", "loss_")
    }
    orders |= {name: rows[name] for name in ("flops", "latency_ms", "params")}
    best = set(last.nlargest(len(rows) // 4).index)
    generator = np.random.default_rng(0)
    draws = [generator.integers(0, len(rows), len(rows)) for _ in range(resamples)]
    yield "| order by | tau to the last score | its 95 % interval | of the best quarter among one in three |"
    yield "|---|---|---|---|"
    for name, order in orders.items():
        if order.equals(last) or (name.startswith("loss") and name[5:] == str(last.name)[6:]):
            continue
        taus = [order.iloc[draw].corr(last.iloc[draw], method="kendall") for draw in draws]
        low, high = np.quantile(taus, (0.025, 0.975))
        kept = best & set(order.nlargest(int(len(rows) / eta)).index)
        tau = order.corr(last, method="kendall")
        yield f"| {name} | {tau:.2f} | {low:.2f} to {high:.2f} | {len(kept)} of {len(best)} |"


def main() -> None:
    """Record what is not recorded yet, or show what was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("--table", type=Path, help="what was recorded, to be summed up")
    parser.add_argument("--rungs", type=int, nargs="+", default=[50, 75])
    parser.add_argument("--to", type=Path, default=Path("rungs.jsonl"))
    parser.add_argument("--most", type=int, default=10_000, help="candidates")
    parser.add_argument("--check", type=int, default=0, help="candidates that are trained in full as well")
    asked = parser.parse_args()
    if asked.table:
        rows = pd.DataFrame([json.loads(line) for line in asked.table.read_text().splitlines()])
        print(f"{len(rows)} candidates", *table(rows), sep="\n")
        return
    torch.set_num_threads(1)
    record = read_study(asked.study)
    done = {json.loads(line)["number"] for line in asked.to.read_text().splitlines()} if asked.to.exists() else set()
    drawn = [trial for trial in record.trained if not trial.attributes.get("known")]
    random.Random(0).shuffle(drawn)  # a recording that ends early has early and late candidates alike
    for place, trial in enumerate(drawn[: asked.most]):
        if trial.number in done:
            continue
        row = recorded(record, trial, tuple(asked.rungs), place < asked.check)
        with asked.to.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row["number"], *(f"{row[f'score_{rung}']:.3f}" for rung in range(len(asked.rungs) + 1)), flush=True)


if __name__ == "__main__":
    main()
