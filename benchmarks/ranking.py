"""Does the proxy rank architectures, or luck? A dozen candidates, several seeds each, under a runner's own schedule.

    python benchmarks/ranking.py --runner laptop --candidates 12 --seeds 3

Prints the spread between architectures over the spread between seeds (standard deviations of the score; the seeds'
own contribution to the former is taken out) and Kendall's tau between seeds. One process a core.
"""

import argparse
import itertools
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pandas as pd
import torch

from hrsearch.api import cost_counter
from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.objective import Score, parse_limit
from hrsearch.proxy import train_proxy
from hrsearch.proxy.data import load_dataset
from hrsearch.runner import Runner, load_runner
from hrsearch.search.verdict import broken
from hrsearch.space import Space, load_space


def candidates(space: Space, runner: Runner, count: int, classes: int) -> list[tuple[int, Arch]]:
    """The first random candidates that keep the runner's limits: (params, architecture)."""
    limits = [limit for limit in map(parse_limit, runner.search.limits) if limit.objective in ("flops", "params")]
    cost_of = cost_counter(runner, classes)
    found: list[tuple[int, Arch]] = []
    for seed in itertools.count():
        arch = space.sample(seed)[1]
        cost = cost_of(arch)
        if not broken(limits, {"flops": cost.flops, "params": cost.params}):
            found.append((cost.params, arch))
        if len(found) == count:
            return found
    raise AssertionError


def score(arch: Arch, runner: Runner, seed: int) -> Score:
    """Train one candidate as a search would."""
    torch.set_num_threads(1)
    proxy = runner.proxy
    data = load_dataset(proxy.data, image=proxy.image, train_images=proxy.train_images, val_images=proxy.val_images)
    torch.manual_seed(seed)
    network = build(arch, classes=len(data.classes), drop_path=proxy.drop_path)
    return train_proxy(network, data, proxy, seed=seed, device=runner.device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="hrvit")
    parser.add_argument("--runner", default="laptop")
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    runner = load_runner(options.runner)
    proxy = runner.proxy
    data = load_dataset(proxy.data, image=proxy.image, train_images=proxy.train_images, val_images=proxy.val_images)
    chosen = candidates(load_space(options.space), runner, options.candidates, len(data.classes))
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        futures = {
            (index, seed): pool.submit(score, arch, runner, seed)
            for seed in range(options.seeds)
            for index, (_, arch) in enumerate(chosen)
        }
        scores = {key: future.result() for key, future in futures.items()}
    table = pd.DataFrame(
        {seed: [scores[index, seed].value for index in range(len(chosen))] for seed in range(options.seeds)}
    )
    print(table.assign(params=[params for params, _ in chosen]).round(4).to_string())
    print(_words(table, [one.seconds for one in scores.values()]))


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
