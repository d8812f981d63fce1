"""How well one order tells another: Kendall's tau, what a choice of the best finds and loses, and how sure that is.

Values are one per network, more is better. Weights are how many networks each of them stands for; an interval holds
95 % of what samples of the same size would have given (percentiles of a bootstrap).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
REPEATS = 500  # of the bootstrap
ENDS = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; None where it cannot be told."""

    value: float
    low: float | None = None
    high: float | None = None


def kendall_tau(one: Values, other: Values, weights: Values | None = None) -> float:
    """Kendall's tau-b of two orders, from -1 to 1; NaN where one of them has nothing but ties.

    A pair of networks counts by the product of their weights. One network drawn twice by a bootstrap is no pair.
    """
    weights = np.ones(len(one)) if weights is None else weights
    pairs = np.outer(weights, weights)
    np.fill_diagonal(pairs, 0.0)
    first, second = (np.sign(values[:, None] - values[None, :]) for values in (one, other))
    untied = (pairs * first**2).sum() * (pairs * second**2).sum()
    return float((pairs * first * second).sum() / np.sqrt(untied)) if untied > 0 else float("nan")


def partial_tau(one: Values, other: Values, given: Values, weights: Values | None = None) -> float:
    """Kendall's partial tau (1942): how far `one` tells the order of `other` beyond what `given` tells of both.

    NaN where `given` tells one of them completely.
    """
    direct = kendall_tau(one, other, weights)
    through = kendall_tau(one, given, weights), kendall_tau(other, given, weights)
    left = (1 - through[0] ** 2) * (1 - through[1] ** 2)
    return (direct - through[0] * through[1]) / float(np.sqrt(left)) if left > 1e-12 else float("nan")


def recall(chosen_by: Values, truth: Values, count: int) -> float:
    """The share of the truly best `count` networks that are among the best `count` of `chosen_by`; where equals compete
    for the last places, what is to be expected of a choice by chance."""
    return float((_places(chosen_by, count) * _places(truth, count)).sum()) / count


def _places(values: Values, count: int) -> Values:
    """How likely each is to be among the best `count`: equals share the places that are left for them."""
    bound = np.sort(values)[-count]
    above, equal = values > bound, values == bound
    return np.asarray(above + equal * (count - above.sum()) / equal.sum())


def regret(chosen_by: Values, truth: Values) -> float:
    """What is lost by taking the first of `chosen_by` instead of the truly best, in units of `truth`; of several first
    ones the mean."""
    return float(truth.max() - truth[chosen_by == chosen_by.max()].mean())


def estimate(figure: Callable[[NDArray[np.int64]], float], groups: Sequence[Sequence[int]], seed: int = 0) -> Estimate:
    """The figure over all indices in `groups`, and its interval over samples that are drawn within each group again.

    `figure` maps indices, some of them several times, to a number; samples for which that is NaN say nothing.
    """
    generator = np.random.default_rng(seed)
    parts = [np.array(group, dtype=np.int64) for group in groups if len(group)]
    value = figure(np.concatenate(parts))
    samples = (np.concatenate([generator.choice(part, len(part)) for part in parts]) for _ in range(REPEATS))
    found = np.array([figure(sample) for sample in samples])
    found = found[np.isfinite(found)]
    if len(found) < REPEATS / 2:
        return Estimate(value)
    low, high = np.percentile(found, ENDS)
    return Estimate(value, float(low), float(high))


def drawn_weights(sample: NDArray[np.int64], weights: Values) -> tuple[NDArray[np.int64], Values]:
    """The networks of a sample, each once, and their weights times how often they were drawn."""
    once, counts = np.unique(sample, return_counts=True)
    return once, weights[once] * counts
