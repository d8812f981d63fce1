"""Does the proxy rank architectures, or luck? A dozen candidates of a study, trained again with other seeds.

    python benchmarks/ranking.py studies/hrvit --candidates 12 --seeds 3

Takes trained candidates at even distances through the study and trains each again, under the study's own protocol,
until there are `--seeds` scores of it, the study's own among them. Prints the spread between architectures over the
spread between seeds (standard deviations of the score; the seeds' own share of the former is taken out) and Kendall's
tau between seeds.
"""

import argparse
import itertools
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.objective import Score
from hrsearch.proxy import proxy_data, train_proxy
from hrsearch.runner import Runner, proxy_of
from hrsearch.study import Trial, read_study


def score(arch: dict[str, Any], runner: Runner, task: str, seed: int) -> Score:
    """Train one candidate as a search does."""
    torch.set_num_threads(1)
    network_of = Arch.from_dict(arch)
    proxy = proxy_of(runner, network_of)
    data = proxy_data(proxy, task)
    torch.manual_seed(seed)
    network = build(network_of, classes=len(data.classes), drop_path=proxy.drop_path)
    return train_proxy(network, data, proxy, seed=seed, device=runner.device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    record = read_study(options.study)
    runner = Runner.model_validate(record.attributes["runner"])
    chosen = spread(record.contenders, options.candidates)
    jobs = [(trial, seed) for seed in range(1, options.seeds) for trial in chosen]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(score, trial.attributes["arch"], runner, record.task, seed) for trial, seed in jobs]
        scores = {(trial.number, seed): future.result() for (trial, seed), future in zip(jobs, futures, strict=True)}
    table = pd.DataFrame(
        {
            "study": [trial.attributes["score"]["value"] for trial in chosen],
            **{f"seed {n}": [scores[trial.number, n].value for trial in chosen] for n in range(1, options.seeds)},
        },
        index=[trial.number for trial in chosen],
    )
    print(table.assign(params=[trial.attributes["params"] for trial in chosen]).round(4).to_string())
    print(_words(table, [one.seconds for one in scores.values()]))


def spread(trials: tuple[Trial, ...], count: int) -> list[Trial]:
    """`count` drawn candidates at even distances through the study."""
    drawn = [trial for trial in trials if not trial.attributes.get("known")]
    return [drawn[index * len(drawn) // count] for index in range(min(count, len(drawn)))]


def _words(table: pd.DataFrame, seconds: list[float]) -> str:
    seeds = len(table.columns)
    within = float(table.var(axis=1).mean())
    between = max(float(table.mean(axis=1).var()) - within / seeds, 0.0)
    taus = [float(table[a].corr(table[b], method="kendall")) for a, b in itertools.combinations(table.columns, 2)]
    return (
        f"spread between architectures / between seeds: {(between / within) ** 0.5:.2f}"
        f" ({between**0.5:.4f} / {within**0.5:.4f})\n"
        f"Kendall tau between seeds: {', '.join(f'{tau:.2f}' for tau in taus)}; median {statistics.median(taus):.2f}\n"
        f"seconds of training: mean {statistics.mean(seconds):.1f}, largest {max(seconds):.1f}"
    )


if __name__ == "__main__":
    main()
