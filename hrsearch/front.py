"""Fronts of several objectives: which points are not dominated, how much they dominate, which one is the knee.

Points are rows of one value per objective; directions say "maximize" or "minimize" for each. A value that is not
finite (NaN, infinite) is no measurement: its point is on no front, dominates nothing and adds no volume.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = Sequence[Sequence[float]]
Rows = NDArray[np.float64]  # one row per point, one column per objective


@dataclass(frozen=True)
class Range:
    """The values of an objective that count, from `worst` (share 0) to `best` (share 1), on a log scale or not."""

    worst: float
    best: float
    log: bool = False


def non_dominated(points: Points, directions: Sequence[str]) -> list[int]:
    """The indices of the points that no other one beats, in ascending order; equal points all stay.

    A point is beaten by one that is at least as good in every objective and better in one.
    """
    gains = _gains(points, directions)
    finite = np.isfinite(gains).all(axis=1)
    rows, row_of = np.unique(gains[finite], axis=0, return_inverse=True)
    on_front: list[int] = np.flatnonzero(finite)[np.isin(row_of.reshape(-1), _peeled(rows))].tolist()
    return on_front


def not_surely_dominated(low: Points, high: Points, directions: Sequence[str]) -> list[int]:
    """The indices of the points that no other one beats beyond their noise, in ascending order.

    A point may lie anywhere between its rows of `low` and `high`. It is surely beaten by one whose worst values are at
    least as good as its best ones in every objective, and better in one. Where both are equal: `non_dominated`.
    """
    one, other = _gains(low, directions), _gains(high, directions)
    best, worst = np.maximum(one, other), np.minimum(one, other)
    finite = np.isfinite(best).all(axis=1) & np.isfinite(worst).all(axis=1)
    beating = _front(worst[finite])
    return [index for index in np.flatnonzero(finite).tolist() if not _is_beaten(best[index], beating)]


def _is_beaten(gains: Rows, by: Rows) -> bool:
    return bool(((by >= gains).all(axis=1) & (by > gains).any(axis=1)).any())


def hypervolume(points: Points, directions: Sequence[str], reference: Sequence[float]) -> float:
    """The volume between the points and `reference`, in the objectives' own units; exact.

    A point that is not better than the reference in every objective adds nothing.
    """
    gains = _gains(points, directions) - _gains([reference], directions)
    gains = gains[(np.isfinite(gains) & (gains > 0)).all(axis=1)]
    return _volume(_front(gains))


def best_first(points: Points, directions: Sequence[str]) -> list[int]:
    """All indices, the best first: front after front, within a front by what each point adds to the hypervolume.

    The volume is measured in shares of the range of all points (`ranges_of`); of equals the first comes first. Points
    that are not finite come last.
    """
    order = [index for front in _fronts(points, directions) for index in _sorted(front, front, points, directions)]
    return [*order, *sorted(set(range(len(points))) - set(order))]


def best_of(points: Points, directions: Sequence[str], among: Collection[int]) -> int:
    """The one of these indices that comes first in `best_first`, without putting all others in order."""
    for front in _fronts(points, directions):
        chosen = [index for index in front if index in among]
        if chosen:
            return _sorted(chosen, front, points, directions)[0]
    return min(among)


def _fronts(points: Points, directions: Sequence[str]) -> Iterator[list[int]]:
    """The front, that of what is left without it, and so on."""
    left = np.flatnonzero(np.isfinite(_gains(points, directions)).all(axis=1)).tolist()
    while left:
        front = [left[place] for place in non_dominated([points[index] for index in left], directions)]
        yield front
        left = sorted(set(left) - set(front))


def _sorted(chosen: Sequence[int], front: Sequence[int], points: Points, directions: Sequence[str]) -> list[int]:
    """Some of a front's indices, those first that add most to the hypervolume of the others."""
    placed = shares([points[index] for index in front], ranges_of(points, directions))
    place_of = {index: place for place, index in enumerate(front)}
    added = {index: _contribution(placed, place_of[index]) for index in chosen}
    return sorted(chosen, key=lambda index: (-added[index], index))


def knee(points: Points, directions: Sequence[str]) -> int:
    """The index of the point that gives most of everything: where a front bends.

    Every objective is scaled from 0 (the worst of the front) to 1 (its best), costs on a log scale. Costs go together
    (a network that is slow is large, too), so the minimised objectives are averaged to one and the maximised ones to
    another; the knee is furthest above the line between the extremes of the two: the largest sum. The first of equals.
    """
    front = non_dominated(points, directions)
    if not front:
        raise ValueError("a knee needs a point whose values are all finite, but got none")
    chosen = [points[index] for index in front]
    placed = shares(chosen, ranges_of(chosen, directions, margin=0.0))
    maximized = np.array([direction == "maximize" for direction in directions])
    sums = sum(placed[:, side].mean(axis=1) for side in (maximized, ~maximized) if side.any())
    return front[int(np.argmax(sums))]


def ranges_of(points: Points, directions: Sequence[str], margin: float = 0.1) -> list[Range]:
    """The range of every objective over finite points; its worse end lies `margin` of the span beyond the worst value.

    Costs (minimised, all positive) are on a log scale. Without a finite point: from 0 to 0.
    """
    gains = _gains(points, directions)
    rows = np.array(points, dtype=float).reshape(gains.shape)[np.isfinite(gains).all(axis=1)]
    return [_range(rows[:, column], direction, margin) for column, direction in enumerate(directions)]


def hypervolume_growth(points: Points, directions: Sequence[str], ranges: Sequence[Range]) -> list[float]:
    """After each point, the share of the box of `ranges` that the points so far dominate: from 0 to 1, never falling.

    Values beyond a range count as its end. Declare the ranges once to compare studies with each other.
    """
    placed = shares(points, ranges)
    front = np.empty((0, len(directions)))
    total, growth = 0.0, []
    for share, gain in zip(placed, _gains(points, directions), strict=True):
        if np.isfinite(gain).all() and share.all() and not (front >= share).all(axis=1).any():
            total += float(share.prod()) - _volume(np.minimum(front, share))
            front = np.vstack([front[~(front <= share).all(axis=1)], share])
        growth.append(min(total, 1.0))
    return growth


def _gains(points: Points, directions: Sequence[str]) -> Rows:
    """The points as rows in which more is better."""
    unknown = set(directions) - {"maximize", "minimize"}
    if unknown:
        raise ValueError(f'a direction is "maximize" or "minimize", but got {sorted(unknown)}')
    if any(len(point) != len(directions) for point in points):
        raise ValueError(f"every point needs one value for each of {len(directions)} directions")
    signs = np.array([1.0 if direction == "maximize" else -1.0 for direction in directions])
    gains: Rows = np.array(points, dtype=float).reshape(len(points), len(directions)) * signs
    return gains


def _peeled(rows: Rows) -> list[int]:
    """The indices of the rows of the front; `rows` are different, in ascending order.

    The last row that is left cannot be beaten; all that it beats go with it. Steps as many as the front has rows.
    """
    left, front = np.arange(len(rows)), []
    while len(left):
        front.append(int(left[-1]))
        left = left[~(rows[left] <= rows[front[-1]]).all(axis=1)]
    return front


def _front(gains: Rows) -> Rows:
    rows: Rows = np.unique(gains, axis=0)
    return rows[_peeled(rows)]


def _volume(gains: Rows) -> float:
    """The volume of the union of the boxes from the origin to each row (no entry negative).

    After While, Bradstreet and Barone (2012): rows in ascending order of the last objective, each adds what those after
    it do not cover; there the last objective is the row's own, so that the rest is a volume of one dimension less.
    """
    if not len(gains):
        return 0.0
    if gains.shape[1] == 1:
        return float(gains.max())
    if gains.shape[1] == 2:
        return _area(gains)
    rows = gains[np.argsort(gains[:, -1])]
    height, base = rows[:, -1], rows[:, :-1]
    return float(
        sum(height[i] * (base[i].prod() - _volume(np.minimum(base[i], base[i + 1 :]))) for i in range(len(rows)))
    )


def _contribution(shares: Rows, place: int) -> float:
    """What a row of a front adds to the volume of the others: its box without what they cover of it.

    Cut to its box, most of the others are covered by a few.
    """
    others = np.minimum(np.delete(shares, place, axis=0), shares[place])
    return float(shares[place].prod()) - _volume(_front(others))


def _area(gains: Rows) -> float:
    rows = gains[np.argsort(-gains[:, 0])]
    reached = np.maximum.accumulate(rows[:, 1])
    return float((rows[:, 0] * np.diff(reached, prepend=0.0)).sum())


def _range(values: Rows, direction: str, margin: float) -> Range:
    if not len(values):
        return Range(0.0, 0.0)
    low, high = float(values.min()), float(values.max())
    if direction == "maximize":
        return Range(low - margin * (high - low), high)
    if low > 0:
        return Range(high * (high / low) ** margin, low, log=True)
    return Range(high + margin * (high - low), low)


def shares(points: Points, ranges: Sequence[Range]) -> Rows:
    """Each point's place in the ranges, from 0 at the worst end and beyond to 1 at the best: higher is better."""
    columns = np.array(points, dtype=float).reshape(len(points), len(ranges)).T
    return np.stack([_share(values, of) for values, of in zip(columns, ranges, strict=True)], axis=1)


def _share(values: Rows, of: Range) -> Rows:
    """0 at the worst end of the range and beyond, 1 at its best end and beyond; a range of one value gives 1."""
    worst, best = (np.log(of.worst), np.log(of.best)) if of.log else (of.worst, of.best)
    if of.log:
        values = np.log(np.where(values > 0, values, of.best))
    if worst == best:
        return np.ones_like(values)
    share: Rows = np.clip((values - worst) / (best - worst), 0.0, 1.0)
    return share
