"""Does the proxy rank architectures, or luck? A dozen candidates of a study, trained again with other seeds.

    python benchmarks/ranking.py studies/hrvit --candidates 12 --seeds 3

Takes trained candidates at even distances through the study and trains each again, under the study's own protocol,
until there are `--seeds` scores of it, the study's own among them. Prints the spread between architectures over the
spread between seeds (standard deviations of the score; the seeds' own share of the former is taken out) and Kendall's
tau between seeds, of the task's metric and of the likelihood.

    python benchmarks/ranking.py studies/hrvit --truth 20 --set steps=240 --inherit

Takes the networks that `hrsearch calibrate --times 20` has trained instead, trains them with `--seeds` seeds (from
`--first` on) under the study's protocol but for what is set, and prints also what each order tells of the long
training's metric (the mean of its seeds), over all and over those of the study's best quarter, weighted as the trust
card weighs them. With `--inherit` each begins with the weights of its nearest relative among the study's kept ones, as
far as the two overlap.
"""

import argparse
import itertools
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.candidate import weights_path
from hrsearch.objective import Score, task_metric
from hrsearch.proxy import proxy_data, train_proxy
from hrsearch.proxy.inheritance import inherit, overlap
from hrsearch.ranking import kendall_tau
from hrsearch.runner import Proxy, Runner, proxy_of
from hrsearch.study import Record, Trial, read_study
from hrsearch.trust.card import quarters, stood_for
from hrsearch.trust.repeats import CALIBRATION, scores_of


def score(arch: dict[str, Any], runner: Runner, task: str, seed: int, donors: Sequence[Path]) -> Score:
    """Train one candidate as a search does; where there are donors, from the nearest one's weights."""
    torch.set_num_threads(1)
    network_of = Arch.from_dict(arch)
    proxy = proxy_of(runner, network_of)
    data = proxy_data(proxy, task)
    torch.manual_seed(seed)
    network = build(network_of, classes=len(data.classes), drop_path=proxy.drop_path)
    if donors:
        inherit(network, max(donors, key=lambda path: overlap(network, path)))
    return train_proxy(network, data, proxy, seed=seed, device=runner.device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="of these seeds, with --truth")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--truth", type=int, metavar="TIMES", help="hold it against calibrated networks")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the proxy")
    parser.add_argument("--inherit", action="store_true", help="begin with weights of the nearest relative")
    options = parser.parse_args()
    record = read_study(options.study)
    runner = changed(Runner.model_validate(record.attributes["runner"]), options.set)
    long = scores_of(record, CALIBRATION, options.truth) if options.truth else {}
    chosen = [trial for trial in record.trials if trial.number in long] or spread(record.contenders, options.candidates)
    seeds = range(options.first, options.first + options.seeds) if long else range(1, options.seeds)
    scores = trained(record, runner, chosen, seeds, options)
    truth = {number: statistics.mean(task_metric(one)[1] for one in each.values()) for number, each in long.items()}
    best, standing = [trial.number for trial in quarters(record)[0] if trial.number in long], stood_for(record, long)
    for metric in next(iter(scores.values())).metrics:
        own = [trial.attributes["score"] for trial in chosen]
        first = {"study": [one["value"] for one in own]} if not long and own[0]["metric"] == metric else {}
        columns = {f"seed {n}": [scores[trial.number, n].metrics[metric] for trial in chosen] for n in seeds}
        table = pd.DataFrame({**first, **columns}, index=[trial.number for trial in chosen])
        print(f"{metric}\n{table.assign(params=[trial.attributes['params'] for trial in chosen]).round(4).to_string()}")
        if len(table.columns) > 1:
            print(_words(table, [one.seconds for one in scores.values()]))
        if long:
            for numbers, which in ((list(table.index), "all"), (best, "the best quarter's")):
                told = _told(table.loc[numbers], [truth[one] for one in numbers], [standing[one] for one in numbers])
                print(f"{which} {len(numbers)}: {told}")


def changed(runner: Runner, settings: Sequence[str]) -> Runner:
    """The runner with other settings of its proxy, without rungs."""
    update = {key: yaml.safe_load(value) for key, _, value in (setting.partition("=") for setting in settings)}
    proxy = Proxy.model_validate({**runner.proxy.model_dump(), "rungs": (), **update})
    return runner.model_copy(update={"proxy": proxy})


def trained(
    record: Record, runner: Runner, trials: Sequence[Trial], seeds: Sequence[int], options: argparse.Namespace
) -> dict[tuple[int, int], Score]:
    """The score of each trial with each seed."""
    kept = {trial.number: weights_path(record.folder, trial.number) for trial in record.trials}
    donors = {number: path for number, path in kept.items() if options.inherit and path.is_file()}
    jobs = [(trial, seed) for seed in seeds for trial in trials]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        futures = []
        for trial, seed in jobs:
            others = [path for number, path in donors.items() if number != trial.number]
            futures.append(pool.submit(score, trial.attributes["arch"], runner, record.task, seed, others))
        return {(trial.number, seed): future.result() for (trial, seed), future in zip(jobs, futures, strict=True)}


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


def _told(table: pd.DataFrame, truth: Sequence[float], standing: Sequence[float]) -> str:
    """Kendall's tau of each seed's order to that of the long training, and of the seeds' mean, weighted as a card's."""
    known, weights = np.array(truth), np.array(standing)
    taus = [kendall_tau(table[name].to_numpy(), known, weights) for name in table]
    mean = kendall_tau(table.mean(axis=1).to_numpy(), known, weights)
    each = ", ".join(f"{tau:.2f}" for tau in taus)
    return f"Kendall tau to long training: {each}; mean {statistics.mean(taus):.2f}; of the seeds' mean {mean:.2f}"


if __name__ == "__main__":
    main()
