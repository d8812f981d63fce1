"""What a knob does to an objective, the other knobs held: an additive model of the candidates, bootstrapped.

Each objective is a sum of one number per knob and level, fitted by least squares. A knob that only some networks have
counts where they have it; a level that few have is fitted, but nothing is said of it. This tells what went together in
the candidates that a search chose to draw: no proof.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrsearch.pick import trained_of, value_of
from hrsearch.study import Record, Trial

FEWEST = 4  # candidates that must have a level before something is said of it
RESAMPLES = 200
DUST = 1e-6  # of the largest value: a gain below that is none, but what rounding and the ridge leave
RIDGE = 1e-6  # of a candidate: settles levels that a resample happens to miss
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """What going from one level of a knob to another adds to each objective, in its own unit."""

    knob: str
    before: Any
    after: Any
    gains: dict[str, tuple[float, float, float]]  # by objective: the gain, and the ends of its 95 % interval

    def is_clear(self, name: str) -> bool:
        """Whether the interval leaves out zero."""
        _, low, high = self.gains[name]
        return low > 0 or high < 0


def effects(record: Record) -> list[Effect]:
    """For each knob its range, then its steps, of levels that enough have; empty where too few candidates tell."""
    names = [objective.name for objective in record.objectives]
    trials = [trial for trial in trained_of(record) if trial.knobs and None not in [value_of(trial, n) for n in names]]
    levels = levels_of(trials)
    columns = _columns(trials, levels)
    if not columns or len(trials) < 2 * (len(columns) + 1):
        return []
    values = np.array([[value_of(trial, name) for name in names] for trial in trials], dtype=float)
    dust = DUST * np.abs(values).max(axis=0)
    fits = _fits(_design(trials, columns), values)
    place = {column: index + 1 for index, column in enumerate(columns)}
    found = []
    for knob, ladder in levels.items():
        steps = list(pairwise(ladder))
        for before, after in [(ladder[0], ladder[-1]), *(steps if len(steps) > 1 else [])]:
            start = fits[:, place[(knob, before)]] if (knob, before) in place else 0.0
            gains = fits[:, place[(knob, after)]] - start
            found.append(Effect(knob, before, after, _gains(np.where(np.abs(gains) > dust, gains, 0.0), names)))
    return found


def levels_of(trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """The values of each knob in order, of those that enough trials have; knobs that vary only."""
    counts: dict[str, dict[Any, int]] = {}
    for trial in trials:
        for knob, value in trial.knobs.items():
            known = counts.setdefault(knob, {})
            known[value] = known.get(value, 0) + 1
    found = {knob: in_order([v for v, count in known.items() if count >= FEWEST]) for knob, known in counts.items()}
    return {knob: values for knob, values in found.items() if len(values) > 1}


def _columns(trials: Sequence[Trial], levels: Mapping[str, Sequence[Any]]) -> list[tuple[str, Any]]:
    """Every level of these knobs but the first that is told of: without its own, a rare one would count as that."""
    taken = ((knob, trial.knobs[knob]) for trial in trials for knob in levels if knob in trial.knobs)
    return [(knob, level) for knob, level in dict.fromkeys(taken) if level != levels[knob][0]]


def in_order(values: Sequence[Any]) -> list[Any]:
    """Numbers by size, anything else by its text."""
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return sorted(values) if numeric else sorted(values, key=str)


def _design(trials: Sequence[Trial], columns: Sequence[tuple[str, Any]]) -> Array:
    """A row per trial: one, then whether it has each level."""
    missing = object()
    rows = [[1.0, *(trial.knobs.get(knob, missing) == level for knob, level in columns)] for trial in trials]
    return np.array(rows, dtype=float)


def _fits(design: Array, values: Array) -> Array:
    """Coefficients (1 + resamples, columns, objectives): of all trials first, then of resampled ones."""
    generator = np.random.default_rng(0)
    draws = generator.multinomial(len(design), np.full(len(design), 1 / len(design)), size=RESAMPLES)
    settle = RIDGE * np.eye(design.shape[1])
    solved = []
    for weights in (np.ones(len(design)), *draws):
        weighted = design * weights[:, None]
        solved.append(np.linalg.solve(weighted.T @ design + settle, weighted.T @ values))
    return np.array(solved)


def _gains(differences: Array, names: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    ends = np.quantile(differences[1:], [0.025, 0.975], axis=0)
    found = zip(differences[0], ends[0], ends[1], strict=True)
    return {name: (float(gain), float(low), float(high)) for name, (gain, low, high) in zip(names, found, strict=True)}
