"""What training would tell of a network, forecast from those that were trained: a Gaussian process over its shape.

From 50 random networks of HRViT's space it leaves 32 % of the variance of the others' likelihoods open, from the knobs
alone 35 %; of mIoU 47 and 55 %, a forest 66 %. It says how sure it is (benchmarks/README.md).
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, repeat
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Row = tuple[float, ...]

# So many of the first rows the process' own parameters are fitted to: by steps, that a search can use them again, and
# no more in the end, which would take seconds and hardly change them. Fewer would mislead: until then they are `PRIOR`.
LEARNT = (33, 50, 75, 110)
PRIOR = (0.3, 6.0, 0.04, 0.2)  # variance and length of what is smooth, variances of the trend and of the noise
MOST = 400  # rows that a forecast is made from, the newest that are measured: a process' time grows with their cube
FIRST = 10  # that fix a mean, so that rows stay as they are when more become known
KNOB = 0.3  # weight of a knob's column: the most of what it does shows in the network's shape and its costs
UNTRAINED = 3.0  # most weight of what a zero-cost proxy says: with few networks known it may tell more than all else
MAPS = 6  # of the pyramid that the head is given, which a row tells of


@dataclass(frozen=True)
class Forecast:
    """(row,): the mean, and the deviation of what lies behind it, the luck of a seed left out."""

    mean: Rows
    deviation: Rows


def features(
    settings: Iterable[Mapping[str, Any]],
    choices: Mapping[str, Sequence[Any]],
    costs: Iterable[Sequence[float]],
    archs: Iterable[Mapping[str, Any]],
    said: Iterable[float] | None = None,
) -> list[Row]:
    """Networks as rows: each knob's place among its values, from 0 to 1, and whether the network has it; what a
    zero-cost proxy says of it, where one is asked (`said_by`); its shape; logs of its costs. `archs` are networks as
    the study keeps them."""
    places = {
        name: {value: (place / max(len(values) - 1, 1), 1.0) for place, value in enumerate(values)}
        for name, values in choices.items()
    }
    told: Iterable[Row] = repeat(()) if said is None else ((one,) for one in said)
    return [
        (
            *chain.from_iterable(at[setting[name]] if name in setting else (0.5, 0.0) for name, at in places.items()),
            *column,
            *shape_of(arch),
            *(math.log(max(one, 1)) for one in cost),
        )
        for (setting, cost, arch), column in zip(
            zip(settings, costs, archs, strict=True), told, strict=said is not None
        )
    ]


def usual_of(untrained: Sequence[float | None]) -> float | None:
    """What is taken for a network of which a zero-cost proxy has said nothing: the mean over the first of the others.

    None where it has spoken of fewer than half: the few would be all that a forecast sees in their column.
    """
    found = [_levelled(one) for one in untrained if one is not None]
    return fmean(found[:FIRST]) if found and 2 * len(found) >= len(untrained) else None


def said_by(untrained: Sequence[float | None], usual: float) -> list[float]:
    """What a zero-cost proxy says, which may span many powers of ten, as logarithms of either sign."""
    return [usual if one is None else _levelled(one) for one in untrained]


def _levelled(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


def weights_of(knobs: int, known: Sequence[Row] = (), values: Sequence[float] = ()) -> dict[int, float]:
    """The weights of the columns of `features`, with so many knobs, that have another than 1.

    Where there is a column of a zero-cost proxy: the more the better it has told these values of rows that are `known`,
    of those that the process' parameters are fitted to.
    """
    usual = dict.fromkeys(range(2 * knobs), KNOB)
    if not known:
        return usual
    count = _fitted(known) or len(known)
    said, told = np.array([row[2 * knobs] for row in known[:count]]), np.array(values[:count])
    tells = abs(float(np.corrcoef(said, told)[0, 1])) if said.std() > 0 and told.std() > 0 else 0.0
    return usual | {2 * knobs: max(KNOB, UNTRAINED * tells)}


def shape_of(arch: Mapping[str, Any]) -> Row:
    """What a network is made of, alike in every space: how fine its finest map is, how many maps there are, the width
    of the stem and of the head, the blocks of all branches, the height of the image if it is for one, and of each map
    its channels and its blocks. All logs."""
    stages, width = arch["stages"], arch["head"].get("width")
    maps = [(branch["channels"], branch["stride"]) for branch in stages[-1]["branches"]][:MAPS]
    depths: dict[int, int] = {}
    for branch in chain.from_iterable(stage["branches"] for stage in stages):
        depths[branch["stride"]] = depths.get(branch["stride"], 0) + branch["depth"]
    missing = [0.0] * (MAPS - len(maps))
    return (
        math.log(maps[0][1]),
        math.log(len(maps)),
        math.log(stages[0]["branches"][0]["channels"]),
        math.log1p(width) if isinstance(width, int | float) else 0.0,
        math.log1p(sum(depths.values())),
        math.log(arch["image"][0]) if arch.get("image") else 0.0,
        *(math.log(channels) for channels, _ in maps),
        *missing,
        *(math.log1p(depths[stride]) for _, stride in maps),
        *missing,
    )


@dataclass(frozen=True)
class Process:
    """A Gaussian process that was fitted, to be asked of rows."""

    regressor: Any
    scaler: Any
    noise: float  # variance

    def forecast(self, asked: Sequence[Row]) -> Forecast:
        """What the values of these rows would be, and how sure that is."""
        with _one_thread():
            mean, deviation = self.regressor.predict(self.scaler.transform(asked), return_std=True)
        return Forecast(mean, np.sqrt(np.maximum(deviation**2 - self.noise, 0.0)))

    def means(self, asked: Sequence[Row]) -> Rows:
        """What they would be alone, which takes of thousands of rows a quarter of the time."""
        with _one_thread():
            return np.asarray(self.regressor.predict(self.scaler.transform(asked)))


def forecast(
    known: Sequence[Row],
    values: Sequence[float],
    asked: Sequence[Row],
    weights: Mapping[int, float] | None = None,
    sure: int | None = None,
) -> Forecast:
    """What `values` would be for the rows that are asked, from rows where they are known, as `process_of` has it."""
    return process_of(known, values, weights, sure).forecast(asked)


def process_of(
    known: Sequence[Row],
    values: Sequence[float],
    weights: Mapping[int, float] | None = None,
    sure: int | None = None,
) -> Process:
    """The process of rows whose values are known.

    The first `sure` of these (all of them if None) are measured, the oldest first, and the others guessed. The kernel
    is a linear trend, a smooth deviation from it, and noise; lengths count in deviations of each column, times the
    column's weight where it has one.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor

    count = _fitted(known)
    first = max(0, (len(known) if sure is None else sure) - MOST)
    targets = np.asarray(values[first : first + MOST], dtype=float)
    with _one_thread():
        columns = tuple((weights or {}).items())
        scaler = _scaler(tuple(known[:count] if count else known), columns)
        kernel = _learnt(tuple(known[:count]), tuple(values[:count]), columns) if count else _prior()
        process = GaussianProcessRegressor(kernel, normalize_y=True, optimizer=None)
        process.fit(scaler.transform(known[first : first + MOST]), targets)
    return Process(process, scaler, kernel.k2.noise_level * targets.var())


def _one_thread() -> AbstractContextManager[Any]:
    """What is proposed must not depend on how many threads there are, and for so few rows others only wait."""
    from threadpoolctl import threadpool_limits

    limited: AbstractContextManager[Any] = threadpool_limits(1)
    return limited


def _fitted(known: Sequence[Row]) -> int:
    """The number of the first rows that the parameters are fitted to."""
    return max((count for count in LEARNT if count <= len(known)), default=0)


def _scaler(rows: tuple[Row, ...], weights: tuple[tuple[int, float], ...]) -> Any:
    """The columns' scales."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(rows)
    for column, weight in weights:
        scaler.scale_[column] /= weight
    return scaler


def _prior() -> Any:
    """A linear trend, a smooth deviation from it, and noise."""
    from sklearn.gaussian_process.kernels import DotProduct, Matern, WhiteKernel

    smooth, length, trend, noise = PRIOR
    # Shorter lengths would make noise of what is smooth: nearly all rows lie more than a deviation apart.
    return smooth * Matern(length, (1.0, 1e3), nu=2.5) + trend * DotProduct() + WhiteKernel(noise, (1e-3, 1.0))


@lru_cache(maxsize=16)
def _learnt(rows: tuple[Row, ...], values: tuple[float, ...], weights: tuple[tuple[int, float], ...]) -> Any:
    """The kernel with the parameters under which these values are likeliest."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of a trend or a noise that is not there
        process = GaussianProcessRegressor(_prior(), normalize_y=True)
        process.fit(_scaler(rows, weights).transform(rows), values)
    return process.kernel_
