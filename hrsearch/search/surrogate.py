"""What training would tell of a network, forecast from those that were trained: a Gaussian process over its knobs.

From 50 random networks of HRViT's space it leaves 55 % of the variance of the others' scores open, a forest 66 %, and
it says how sure it is (benchmarks/forecasting.py).
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Row = tuple[float, ...]

# So many of the first rows the process' own parameters are fitted to: by steps, that a search can use them again, and
# no more in the end, which would take seconds and hardly change them.
LEARNT = (10, 15, 22, 33, 50, 75, 110)
MOST = 400  # rows that a forecast is made from, the newest that are measured: a process' time grows with their cube


@dataclass(frozen=True)
class Forecast:
    """(row,): the mean, and the deviation of what lies behind it, the luck of a seed left out."""

    mean: Rows
    deviation: Rows


def features(
    settings: Iterable[Mapping[str, Any]], choices: Mapping[str, Sequence[Any]], costs: Iterable[Sequence[float]]
) -> list[Row]:
    """Networks as rows: each knob's place among its values, from 0 to 1, whether it has it, and logs of its costs."""
    places = {
        name: {value: (place / max(len(values) - 1, 1), 1.0) for place, value in enumerate(values)}
        for name, values in choices.items()
    }
    return [
        (
            *chain.from_iterable(at[setting[name]] if name in setting else (0.5, 0.0) for name, at in places.items()),
            *(math.log(max(one, 1)) for one in cost),
        )
        for setting, cost in zip(settings, costs, strict=True)
    ]


def forecast(
    known: Sequence[Row],
    values: Sequence[float],
    asked: Sequence[Row],
    weights: Mapping[int, float] | None = None,
    sure: int | None = None,
) -> Forecast:
    """What `values` would be for the rows that are asked, from rows where they are known.

    The first `sure` of these (all of them if None) are measured, the oldest first, and the others guessed. The kernel
    is a linear trend, a smooth deviation from it, and noise; lengths count in deviations of each column, times the
    column's weight where it has one.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from threadpoolctl import threadpool_limits

    count = max((count for count in LEARNT if count <= len(known)), default=len(known))
    first = max(0, (len(known) if sure is None else sure) - MOST)
    targets = np.asarray(values[first : first + MOST], dtype=float)
    # One thread: what is proposed must not depend on how many there are, and for so few rows others only wait.
    with threadpool_limits(1):
        scaler, kernel = _learnt(tuple(known[:count]), tuple(values[:count]), tuple((weights or {}).items()))
        process = GaussianProcessRegressor(kernel, normalize_y=True, optimizer=None)
        process.fit(scaler.transform(known[first : first + MOST]), targets)
        mean, deviation = process.predict(scaler.transform(asked), return_std=True)
    noise = kernel.k2.noise_level * targets.var()
    return Forecast(mean, np.sqrt(np.maximum(deviation**2 - noise, 0.0)))


@lru_cache(maxsize=16)
def _learnt(
    rows: tuple[Row, ...], values: tuple[float, ...], weights: tuple[tuple[int, float], ...]
) -> tuple[Any, Any]:
    """The columns' scales, and the kernel with the parameters under which these values are likeliest."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import DotProduct, Matern, WhiteKernel
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(rows)
    for column, weight in weights:
        scaler.scale_[column] /= weight
    kernel = 0.5 * Matern(5.0, nu=2.5) + 0.1 * DotProduct() + WhiteKernel(0.1, (1e-3, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of a trend or a noise that is not there
        process = GaussianProcessRegressor(kernel, normalize_y=True).fit(scaler.transform(rows), values)
    return scaler, process.kernel_
