"""Evolution: a candidate inherits the knobs of one on the front, and a few of them change.

For budgets of thousands: a proposal takes milliseconds, however many trials there are.
"""

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hrsearch.front import non_dominated

PARENTS = 20  # at least so many are kept to choose from: the front, and what comes right behind it
MUTATIONS = 3  # knobs that change at most
CROSSED = 0.5  # share of candidates that have two parents


class EvolveSampler(BaseSampler):
    """Parents win a tournament of two by non-dominated rank; a knob that they lack is drawn at random."""

    def __init__(self, seed: int, startup: int) -> None:
        """The first `startup` candidates are drawn at random."""
        self._random = random.Random(seed)
        self._startup = startup
        self._inherited: Mapping[str, Any] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Choose the parents and what is inherited from them."""
        trained = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        self._inherited = self._child(trained, study) if len(trained) >= self._startup else {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None: every knob is inherited or drawn when the network reads it."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The inherited value, or a random one."""
        assert isinstance(param_distribution, CategoricalDistribution)
        if param_name in self._inherited:
            return self._inherited[param_name]
        return self._random.choice(param_distribution.choices)

    def _child(self, trained: Sequence[FrozenTrial], study: Study) -> dict[str, Any]:
        directions = tuple(direction.name.lower() for direction in study.directions)
        ranked = _ranked(tuple(tuple(trial.values) for trial in trained), directions)
        one, other = (trained[self._winner(ranked)] for _ in range(2))
        child = dict(one.params)
        if self._random.random() < CROSSED:
            child |= {name: value for name, value in other.params.items() if self._random.random() < 0.5}
        changeable = [name for name in one.params if not one.distributions[name].single()]
        count = min(self._random.randint(1, MUTATIONS), len(changeable))
        for name in self._random.sample(changeable, count):
            child[name] = self._random.choice([value for value in _values(one, name) if value != child[name]])
        return child

    def _winner(self, ranked: Sequence[tuple[int, int]]) -> int:
        """The index of the better of two, by rank; the first drawn of equals."""
        return min((self._random.choice(ranked) for _ in range(2)), key=lambda one: one[0])[1]


@lru_cache(maxsize=4)
def _ranked(points: tuple[tuple[float, ...], ...], directions: tuple[str, ...]) -> list[tuple[int, int]]:
    """Rank and index of the best points, front after front until there are enough parents.

    Remembered, because all draws for a proposal are made from the same ones.
    """
    left, ranked, rank = list(range(len(points))), list[tuple[int, int]](), 0
    while left and len(ranked) < PARENTS:
        front = {left[place] for place in non_dominated([points[index] for index in left], directions)}
        ranked += [(rank, index) for index in sorted(front or left)]
        left = [index for index in left if front and index not in front]
        rank += 1
    return ranked


def _values(trial: FrozenTrial, name: str) -> Sequence[Any]:
    distribution = trial.distributions[name]
    assert isinstance(distribution, CategoricalDistribution)
    return distribution.choices
