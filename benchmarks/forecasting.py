"""What forecasts the last score of a network that was not trained, or only to a rung?

    python benchmarks/forecasting.py
    python benchmarks/forecasting.py reports/hrvit-laptop reports/hrformer-laptop

Of the recorded networks, so many are known; of the others each way tells the order (tau, Kendall) and leaves a share of
the variance open. Means over several choices of those that are known. Of a study, what is forecast is what all its
candidates have: the latency, and the loss at the first rung.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from replay import Table, read_table
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import BayesianRidge
from sklearn.preprocessing import StandardScaler

from hrsearch.search.rungs import WEIGHT
from hrsearch.search.surrogate import UNTRAINED, Row, features, forecast, weights_of
from hrsearch.space import load_space
from hrsearch.study import Trial, read_study

HERE = Path(__file__).parent
COSTS = 2  # the last columns of a row
KNOWN = (12, 25, 50, 100, 200, 400)
Way = Callable[[Sequence[Row], Sequence[float], Sequence[Row]], Sequence[float]]


def forest(known: Sequence[Row], values: Sequence[float], asked: Sequence[Row]) -> Sequence[float]:
    """A forest, as it weighed the draws before."""
    found = ExtraTreesRegressor(40, min_samples_leaf=2, max_features=0.5, random_state=0).fit(known, values)
    return list(found.predict(asked))


def linear(known: Sequence[Row], values: Sequence[float], asked: Sequence[Row]) -> Sequence[float]:
    """A line, as steep as the data allow."""
    scaler = StandardScaler().fit(known)
    return list(BayesianRidge().fit(scaler.transform(known), values).predict(scaler.transform(asked)))


def process(known: Sequence[Row], values: Sequence[float], asked: Sequence[Row]) -> Sequence[float]:
    """What the search does, all columns alike."""
    return list(forecast(known, values, asked).mean)


def weighed(weights: Mapping[int, float]) -> Way:
    """What the search does, with columns of other weights."""
    return lambda known, values, asked: list(forecast(known, values, asked, weights).mean)


def ways_of(table: Table, rows: Sequence[Row], knobs: int) -> dict[str, tuple[Way, list[Row]]]:
    """How each way is called, what it does, and the rows that it is shown."""
    said = table.frame[["loss_0", "metric_0"]].to_numpy(float).tolist()
    flow = np.log(table.frame["synflow"]).to_numpy()[:, None].tolist()
    plain = [(*row[: 2 * knobs], *row[-COSTS:]) for row in rows]
    usual, rung = weights_of(knobs), {-1: WEIGHT, -2: WEIGHT}
    return {
        "knobs and costs, a forest": (forest, plain),
        "knobs and costs, linear": (linear, plain),
        "knobs and costs, a Gaussian process": (process, plain),
        "**the shape too, as the search has it**": (weighed(usual), list(rows)),
        "and synflow": (weighed({**usual, -1: UNTRAINED}), _beside(rows, flow)),
        "synflow alone": (linear, _beside([()] * len(rows), flow)),
        "the loss at the rung alone": (linear, [(loss,) for loss, _ in said]),
        "the loss and the metric at the rung": (linear, _beside([()] * len(rows), said)),
        "the same, a Gaussian process": (weighed(rung), _beside([()] * len(rows), said)),
        "**all of it, as the search has it at a rung**": (weighed({**usual, **rung}), _beside(rows, said)),
    }


def _beside(rows: Sequence[Row], columns: Sequence[Sequence[float]]) -> list[Row]:
    return [(*row, *one) for row, one in zip(rows, columns, strict=True)]


def of_study(folder: Path) -> tuple[dict[str, tuple[Way, list[Row]]], dict[str, list[float]]]:
    """The ways to forecast for a study's drawn candidates, and what is forecast: log latencies, losses at a rung."""
    drawn = candidates(folder)
    found = [trial.attributes for trial in drawn]
    values: dict[str, set[Any]] = {}
    for trial in drawn:
        for name, value in trial.knobs.items():
            values.setdefault(name, set()).add(value)
    choices = {name: sorted(values[name]) for name in sorted(values)}
    costs = [[one["params"], one["flops"]] for one in found]
    rows = features([trial.knobs for trial in drawn], choices, costs, [one["arch"] for one in found])
    ways: dict[str, tuple[Way, list[Row]]] = {
        "knobs and costs": (process, [(*row[: 2 * len(choices)], *row[-COSTS:]) for row in rows]),
        "**the shape too**": (weighed(weights_of(len(choices))), rows),
    }
    latencies = [math.log(one["latency"]["median_ms"]) for one in found]
    return ways, {"latency": latencies, "loss at the rung": [-one["rungs"][0]["loss"] for one in found]}


def candidates(folder: Path) -> list[Trial]:
    """Those that were judged at a rung."""
    trials = read_study(folder).trials
    return [trial for trial in trials if trial.knobs and trial.attributes.get("rungs") and trial.attributes["latency"]]


def figures(ways: dict[str, tuple[Way, list[Row]]], scores: Sequence[float], repeats: int) -> Iterator[str]:
    """A row for each way, a column for each number of known networks."""
    counts = [count for count in KNOWN if count <= len(scores) * 3 // 4]
    yield (
        "| tau, and the share of the variance that is left | " + " | ".join(f"{count} known" for count in counts) + " |"
    )
    yield "|---" * (len(counts) + 1) + "|"
    for name, (way, rows) in ways.items():
        cells = [_cell(way, rows, np.array(scores), count, repeats) for count in counts]
        yield f"| {name} | " + " | ".join(cells) + " |"


def _cell(
    way: Way, rows: Sequence[Row], scores: "np.ndarray[tuple[int], np.dtype[np.float64]]", count: int, repeats: int
) -> str:
    taus, left = [], []
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(len(rows))
        known, asked = order[:count], order[count:]
        found = np.array(way([rows[at] for at in known], scores[known].tolist(), [rows[at] for at in asked]))
        taus.append(pd.Series(found).corr(pd.Series(scores[asked]), method="kendall"))
        left.append(np.mean((found - scores[asked]) ** 2) / scores[asked].var())
    return f"{np.mean(taus):.2f}, {100 * np.mean(left):.0f} %"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=HERE / "recorded.csv.gz", help="of record.py")
    parser.add_argument("--space", default=str(HERE / "space.yaml"))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("studies", type=Path, nargs="*")
    asked = parser.parse_args()
    for folder in asked.studies:
        ways, values = of_study(folder)
        for name in values:
            print(
                f"{folder.name}, {name}, {len(values[name])} candidates",
                *figures(ways, values[name], asked.repeats),
                sep="\n",
            )
    if asked.studies:
        return
    space = load_space(asked.space)
    table = read_table(asked.table, space)
    choices = {name: knob.values for name, knob in space.knobs.items()}
    costs = table.frame[["params", "flops"]].to_numpy(float).tolist()
    archs = [space.arch(setting).to_dict() for setting in table.settings]
    rows = features(table.settings, choices, costs, archs)
    print(
        *figures(ways_of(table, rows, len(choices)), table.frame[f"score_{table.last}"].tolist(), asked.repeats),
        sep="\n",
    )


if __name__ == "__main__":
    main()
