"""Cost first: of many draws, the one most worth its training.

Exact costs take milliseconds, a training half a minute. So each of the draws is counted, those that break a limit are
dropped, what is not known before training is forecast from the candidates so far, and the draw with the largest
expected share of new hypervolume is proposed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hrsearch.arch import Arch
from hrsearch.errors import InputError
from hrsearch.front import Range, non_dominated, ranges_of, shares
from hrsearch.objective import OBJECTIVES, Cost, Limit
from hrsearch.search.surrogate import Row, Rows, features, process_of, said_by, usual_of, weights_of
from hrsearch.search.verdict import broken, violations_of
from hrsearch.space import Knob, Setting

GUESSES = 64  # of what is not known of a draw
TREES = 40  # of the forest that tells who breaks a limit
POINTS = 2000  # of the box, by which hypervolume is estimated
ASKED = 8  # drafts that a zero-cost proxy is asked of, the best without it: asking takes .1 to .3 s each
EXACT = ("params", "flops")

Untrained = Callable[[Arch], float | None]  # what a zero-cost proxy says of a network; None: nothing finite


@dataclass(frozen=True)
class Counting:
    """Counts a network's exact costs and holds them against the limits; `untrained` is a zero-cost proxy."""

    cost_of: Callable[[Arch], Cost]
    limits: tuple[Limit, ...] = ()
    untrained: Untrained | None = None

    def of(self, arch: Arch | None) -> dict[str, int] | None:
        """The costs by their attributes' names; None for a network that would be refused for them."""
        known = self._costs(arch)
        return None if known is None or broken(self.limits, known) else known

    def excess(self, arch: Arch | None) -> float:
        """By how much the network breaks the limits on exact costs, relative to them; infinite where it has no cost."""
        known = self._costs(arch)
        if known is None:
            return math.inf
        return sum(max(violation, 0.0) for violation in violations_of(self.limits, known).values())

    def _costs(self, arch: Arch | None) -> dict[str, int] | None:
        if arch is None:
            return None
        try:
            cost = self.cost_of(arch)
        except InputError:
            return None
        return {"params": cost.params, "flops": cost.flops}


@dataclass(frozen=True)
class Draft:
    """A setting and what is known of it: the exact costs, or all values once it is trained."""

    setting: Setting
    arch: Mapping[str, Any]  # as the study keeps it
    costs: Mapping[str, int]
    values: Sequence[float] = ()
    untrained: float | None = None  # what a zero-cost proxy says of it
    is_through: bool = True  # False where the values are what the last rung should say


def most_promising(
    drafts: Sequence[Draft],
    judged: Sequence[Draft],
    refused: Sequence[Draft],
    knobs: Mapping[str, Knob],
    objectives: Sequence[str],
    seed: int,
    count: int = 1,
    ask: Untrained | None = None,
) -> list[int]:
    """The indices of the drafts that together should add most to the front of what went all the way, the best first.

    `refused` kept the limits on exact costs and failed at what only judging tells, latency or memory: what is like
    them is worth less. With a zero-cost proxy to `ask`, the drafts that promise most without it are asked and compared
    again.
    """
    if ask is None:
        return _most_promising(drafts, judged, refused, knobs, objectives, seed, count)
    plain = [replace(one, untrained=None) for one in judged]
    likely = _most_promising(drafts, plain, refused, knobs, objectives, seed, max(ASKED, count))
    asked = asked_of([drafts[place] for place in likely], ask)
    return [likely[place] for place in _most_promising(asked, judged, refused, knobs, objectives, seed, count)]


def asked_of(drafts: Sequence[Draft], ask: Untrained) -> list[Draft]:
    """The drafts with what a zero-cost proxy says of them."""
    return [replace(draft, untrained=ask(Arch.from_dict(draft.arch))) for draft in drafts]


def _most_promising(
    drafts: Sequence[Draft],
    judged: Sequence[Draft],
    refused: Sequence[Draft],
    knobs: Mapping[str, Knob],
    objectives: Sequence[str],
    seed: int,
    count: int,
) -> list[int]:
    """As told there, of drafts as they are."""
    directions = [OBJECTIVES[name].direction for name in objectives]
    judged = sorted(judged, key=lambda draft: not draft.is_through)  # the surest first
    guesses, values = _guesses(drafts, judged, knobs, objectives, seed)
    through = [draft.is_through for draft in judged]
    if any(through):  # what was only forecast to be good leaves its place on the front free
        values = values[through]
    hits = hits_of(guesses, values, directions, seed)
    return best_together(hits * _chances(drafts, judged, refused, knobs, seed)[:, None], count)


def most_promising_untrained(
    drafts: Sequence[Draft], before: Sequence[Draft], objectives: Sequence[str], seed: int, count: int = 1
) -> list[int]:
    """As `most_promising`, where too little was trained yet to forecast from: the drafts that add most to the front of
    those `before` by what a zero-cost proxy says and the exact costs among the objectives (or else FLOPs, with which
    other costs go)."""
    costs = [name for name in objectives if name in EXACT] or ["flops"] * (len(objectives) > 1)
    directions = ["maximize", *("minimize" for _ in costs)]
    both = [*drafts, *before]
    untrained = [draft.untrained for draft in both]
    said = said_by(untrained, usual_of(untrained) or 0.0)
    points = [[one, *(draft.costs[name] for name in costs)] for one, draft in zip(said, both, strict=True)]
    ranges = ranges_of(points, directions)
    left = _left(np.array(points[len(drafts) :]).reshape(-1, len(directions)), directions, ranges, seed)
    placed = shares(points[: len(drafts)], ranges)
    hits = (placed[:, None] >= left).all(axis=2).astype(float)
    if not hits.any():  # what is begun is the best in everything, as it often is with a single objective
        return sorted(range(len(drafts)), key=lambda place: -said[place])[:count]
    return best_together(hits, count)


def hits_of(guesses: Rows, values: Rows, directions: Sequence[str], seed: int) -> Rows:
    """(draft, point): how likely each draft, guessed (guess, draft, objective), is to be no worse than each of some
    points of the values' box that they leave free. Its mean is the share of what is left that the draft should take.

    Where one of them is the best in everything, as with a single objective, the box reaches to the best guess. (That it
    always reaches further than the values was tried, and is no better: `benchmarks/README.md`.)
    """
    ranges = ranges_of(values.tolist(), directions)
    left = _left(values, directions, ranges, seed)
    if not len(left):
        ends = zip(ranges, directions, guesses.reshape(-1, len(directions)).T, strict=True)
        ranges = [_reaching(*each) for each in ends]
        left = _left(values, directions, ranges, seed)
    placed = shares(guesses.reshape(-1, len(directions)).tolist(), ranges).reshape(guesses.shape)
    hits = np.empty((guesses.shape[1], len(left)))
    for draft in range(len(hits)):
        columns = (placed[:, draft, None, column] >= left[:, column] for column in range(len(directions)))
        hits[draft] = np.logical_and.reduce(list(columns)).mean(axis=0)
    return hits


def _left(values: Rows, directions: Sequence[str], ranges: Sequence[Range], seed: int) -> Rows:
    """(point, objective): shares of the ranges that no value is as good as."""
    front = shares(values[non_dominated(values.tolist(), directions)].tolist(), ranges).reshape(-1, len(directions))
    points = np.random.default_rng(seed).random((POINTS, len(directions)))
    return points[~(front[:, None] >= points).all(axis=2).any(axis=0)]


def _reaching(of: Range, direction: str, guesses: Rows) -> Range:
    """The range as far as the best of the guesses."""
    better, best = (max, guesses.max()) if direction == "maximize" else (min, guesses.min())
    return replace(of, best=better(of.best, float(best)))


def best_together(hits: Rows, count: int) -> list[int]:
    """The drafts that take most of the points between them, the best first and each for what those before it leave;
    the first of equals."""
    chosen: list[int] = []
    left = np.ones(hits.shape[1])
    for _ in range(min(count, len(hits))):
        gains = (hits * left).sum(axis=1)
        gains[chosen] = -1.0
        chosen.append(int(np.argmax(gains)))
        left *= 1.0 - hits[chosen[-1]]
    return chosen


def _chances(
    drafts: Sequence[Draft], judged: Sequence[Draft], refused: Sequence[Draft], knobs: Mapping[str, Knob], seed: int
) -> Rows:
    """(draft,): how likely each is to be judged to the end, by a forest of those that were and those that were not."""
    if not refused:
        return np.ones(len(drafts))
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=seed, n_jobs=1)
    usual = usual_of([draft.untrained for draft in judged])
    forest.fit(_rows([*judged, *refused], knobs, usual), [1.0] * len(judged) + [0.0] * len(refused))
    return np.asarray(forest.predict(_rows(drafts, knobs, usual)))


def _guesses(
    drafts: Sequence[Draft], judged: Sequence[Draft], knobs: Mapping[str, Knob], objectives: Sequence[str], seed: int
) -> tuple[Rows, Rows]:
    """Values of every draft (guess, draft, objective), as they are where they are exact, else drawn from what is
    forecast; and those of what is judged (judged, objective), scores without their luck.

    A lucky score would hide from the search what is as good as the network behind it, or better.
    """
    usual = usual_of([draft.untrained for draft in judged])
    rows, known = _rows(drafts, knobs, usual), _rows(judged, knobs, usual)
    values = np.array([draft.values for draft in judged], dtype=float)
    luck = np.random.default_rng(seed).standard_normal((GUESSES, 1, len(objectives)))
    guesses = np.empty((GUESSES, len(drafts), len(objectives)))
    sure = sum(draft.is_through for draft in judged)
    for column, name in enumerate(objectives):
        if name in EXACT:
            guesses[:, :, column] = [draft.costs[name] for draft in drafts]
            continue
        in_logs = OBJECTIVES[name].direction == "minimize"
        told = (np.log(values[:, column]) if in_logs else values[:, column]).tolist()
        weights = weights_of(len(knobs), () if usual is None else known, told)
        process = process_of(known, told, weights, sure)
        found = process.forecast(rows)
        drawn = found.mean + found.deviation * luck[:, :, column]
        guesses[:, :, column] = np.exp(drawn) if in_logs else drawn
        if name == "score":
            values[:, column] = process.means(known)
    return guesses, values


def _rows(drafts: Sequence[Draft], knobs: Mapping[str, Knob], usual: float | None) -> list[Row]:
    choices = {name: knob.values for name, knob in knobs.items()}
    costs = [[draft.costs[name] for name in EXACT] for draft in drafts]
    said = None if usual is None else said_by([draft.untrained for draft in drafts], usual)
    return features([draft.setting for draft in drafts], choices, costs, [draft.arch for draft in drafts], said)
