"""Cost first: of many draws, the one most worth its training.

Exact costs take milliseconds, a training half a minute. So each of the draws is counted, those that break a limit are
dropped, what is not known before training is guessed by a forest of the candidates so far, and the draw with the
largest expected share of new hypervolume is proposed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrsearch.arch import Arch
from hrsearch.errors import InputError
from hrsearch.front import non_dominated, ranges_of, shares
from hrsearch.objective import OBJECTIVES, Cost, Limit
from hrsearch.search.verdict import broken
from hrsearch.space import Knob, Setting

Rows = NDArray[np.float64]

TREES = 40
POINTS = 2000  # of the box, by which hypervolume is estimated
EXACT = ("params", "flops")


@dataclass(frozen=True)
class Counting:
    """Counts a network's exact costs and holds them against the limits."""

    cost_of: Callable[[Arch], Cost]
    limits: tuple[Limit, ...] = ()

    def of(self, arch: Arch | None) -> dict[str, int] | None:
        """The costs by their attributes' names; None for a network that would be refused for them."""
        if arch is None:
            return None
        try:
            cost = self.cost_of(arch)
        except InputError:
            return None
        known = {"params": cost.params, "flops": cost.flops}
        return None if broken(self.limits, known) else known


@dataclass(frozen=True)
class Draft:
    """A setting and what is known of it: the exact costs, or all values once it is trained."""

    setting: Setting
    costs: Mapping[str, int]
    values: Sequence[float] = ()


def most_promising(
    drafts: Sequence[Draft],
    judged: Sequence[Draft],
    refused: Sequence[Draft],
    knobs: Mapping[str, Knob],
    objectives: Sequence[str],
    seed: int,
) -> int:
    """The index of the draft that should add most to the front of what was judged; the first of equals.

    `refused` kept the limits on exact costs and failed at what only judging tells, latency or memory: what is like
    them is worth less.
    """
    directions = [OBJECTIVES[name].direction for name in objectives]
    values = np.array([draft.values for draft in judged], dtype=float)
    guesses = _guesses(drafts, judged, values, knobs, objectives, seed)  # tree, draft, objective
    ranges = ranges_of(values.tolist(), directions)
    front = shares(values[non_dominated(values.tolist(), directions)].tolist(), ranges)
    points = np.random.default_rng(seed).random((POINTS, len(objectives)))
    left = points[~(front[:, None] >= points).all(axis=2).any(axis=0)]
    placed = shares(guesses.reshape(-1, len(objectives)).tolist(), ranges).reshape(guesses.shape)
    gains = (placed[:, :, None] >= left).all(axis=3).mean(axis=(0, 2)) if len(left) else np.zeros(len(drafts))
    return int(np.argmax(gains * _chances(drafts, judged, refused, knobs, seed)))


def _chances(
    drafts: Sequence[Draft], judged: Sequence[Draft], refused: Sequence[Draft], knobs: Mapping[str, Knob], seed: int
) -> Rows:
    """(draft,): how likely each is to be judged to the end, by a forest of those that were and those that were not."""
    if not refused:
        return np.ones(len(drafts))
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=seed, n_jobs=1)
    forest.fit(_features([*judged, *refused], knobs), [1.0] * len(judged) + [0.0] * len(refused))
    return np.asarray(forest.predict(_features(drafts, knobs)))


def _guesses(
    drafts: Sequence[Draft],
    judged: Sequence[Draft],
    values: Rows,
    knobs: Mapping[str, Knob],
    objectives: Sequence[str],
    seed: int,
) -> Rows:
    """Values of every draft, one guess a tree; exact where they are known."""
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, max_features=0.5, random_state=seed, n_jobs=1)
    logged = [OBJECTIVES[name].direction == "minimize" for name in objectives]
    targets = np.where(logged, np.log(np.where(logged, values, 1.0)), values)
    forest.fit(_features(judged, knobs), targets if len(objectives) > 1 else targets[:, 0])
    rows = _features(drafts, knobs)
    guesses = np.stack([tree.predict(rows).reshape(len(drafts), -1) for tree in forest.estimators_])
    guesses = np.where(logged, np.exp(np.where(logged, guesses, 0.0)), guesses)
    for column, name in enumerate(objectives):
        if name in EXACT:
            guesses[:, :, column] = [draft.costs[name] for draft in drafts]
    return guesses


def _features(drafts: Sequence[Draft], knobs: Mapping[str, Knob]) -> Rows:
    """Each knob by its value's place, -1 where the network does not read it; then the logs of the exact costs."""
    return np.array([_feature(draft, knobs) for draft in drafts], dtype=float)


def _feature(draft: Draft, knobs: Mapping[str, Knob]) -> list[Any]:
    places = [knob.values.index(draft.setting[name]) if name in draft.setting else -1 for name, knob in knobs.items()]
    return [*places, *(np.log(max(draft.costs[name], 1)) for name in EXACT)]
