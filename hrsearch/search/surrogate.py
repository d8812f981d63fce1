"""What training would tell of a network, forecast from those that were trained: a Gaussian process over its knobs.

Of 50 random networks of HRViT's space it leaves half of the others' scores open where a forest leaves two thirds, and
it says how sure it is (benchmarks, "What forecasts a score").
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Row = tuple[float, ...]

LEARNT = 120  # rows that the process' own parameters are fitted to: with more they hardly change, and take seconds


@dataclass(frozen=True)
class Forecast:
    """(row,): the mean, and the deviation of what lies behind it, the luck of a seed left out."""

    mean: Rows
    deviation: Rows


def features(setting: Mapping[str, Any], choices: Mapping[str, Sequence[Any]], costs: Sequence[float]) -> Row:
    """A network as a row: each knob's place among its values, from 0 to 1, whether it has it, and logs of its costs."""
    places = (
        (values.index(setting[name]) / max(len(values) - 1, 1), 1.0) if name in setting else (0.5, 0.0)
        for name, values in choices.items()
    )
    return (*(number for pair in places for number in pair), *(float(np.log(max(cost, 1))) for cost in costs))


def forecast(
    known: Sequence[Row], values: Sequence[float], asked: Sequence[Row], weights: Mapping[int, float] | None = None
) -> Forecast:
    """What `values` would be for the rows that are asked, from rows where they are known.

    The kernel is a linear trend, a smooth deviation from it, and noise; lengths count in deviations of each column,
    times the column's weight where it has one.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import DotProduct, Matern, WhiteKernel
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    scaler = StandardScaler().fit(known)
    for column, weight in (weights or {}).items():
        scaler.scale_[column] /= weight
    rows, targets = scaler.transform(known), np.asarray(values, dtype=float)
    kernel = 0.5 * Matern(5.0, nu=2.5) + 0.1 * DotProduct() + WhiteKernel(0.1, (1e-3, 1.0))
    some = np.linspace(0, len(rows) - 1, min(len(rows), LEARNT)).round().astype(int)
    # One thread: what is proposed must not depend on how many there are, and for so few rows others only wait.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of a trend or a noise that is not there
        learnt = GaussianProcessRegressor(kernel, normalize_y=True).fit(rows[some], targets[some]).kernel_
        process = GaussianProcessRegressor(learnt, normalize_y=True, optimizer=None).fit(rows, targets)
        mean, deviation = process.predict(scaler.transform(asked), return_std=True)
    noise = learnt.k2.noise_level * targets.var()
    return Forecast(mean, np.sqrt(np.maximum(deviation**2 - noise, 0.0)))
