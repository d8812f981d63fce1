"""Records what candidates score at every rung, for the search benchmark to replay.

    python benchmarks/record.py reports/hrvit-laptop --rungs 50 75 --to rungs.jsonl       # again: goes on

Every network that the study trained in full is trained again from its own seed to each of the shorter rungs, and
scored there as a search with rungs would: what stands before the decay of one rung is where the next goes on. The last
rung's score is the study's own; `--check N` trains N of them in full and compares.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

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


def main() -> None:
    """Record what is not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--rungs", type=int, nargs="+", default=[50, 75])
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--most", type=int, default=10_000, help="candidates")
    parser.add_argument("--check", type=int, default=0, help="candidates that are trained in full as well")
    asked = parser.parse_args()
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
