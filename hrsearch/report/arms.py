"""Whether the sampler earned its keep: its candidates against as many that were drawn at random, the control arm."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrsearch.front import ranges_of, shares
from hrsearch.report.words import counted
from hrsearch.study import Record, Trial

FEWEST = 5  # random candidates that say anything
CHOICES = 400  # of as many candidates, drawn anew
POINTS = 2048  # of the box, by which hypervolume is estimated: within some two percent of the box
SURE = 0.05  # how often luck may do what is called a difference

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Hypervolume of the two arms, as shares of the box, after 1, 2, ... candidates of each in any order."""

    random: Rows  # the mean over orders
    sampler: Rows  # the mean over choices
    low: Rows  # and where 95 of 100 choices lie
    high: Rows
    chance: float  # how often a random arm would do as badly if the arms were alike: never 0, for choices are few
    chance_of_more: float  # and as well

    @property
    def count(self) -> int:
        """Candidates of each arm that are compared."""
        return len(self.random)


def arms_of(record: Record) -> tuple[list[Trial], list[Trial]]:
    """The judged candidates of the sampler and those drawn at random; published and copied ones are in neither."""
    drawn = [trial for trial in record.trials if not {"known", "copied_from"} & trial.attributes.keys()]
    judged = [trial for trial in drawn if trial.state == "trained" or "score" in trial.attributes]
    at_random = [trial for trial in judged if trial.attributes.get("arm") == "random"]
    return [trial for trial in judged if trial.attributes.get("arm") != "random"], at_random


def compared(record: Record) -> Comparison | None:
    """The arms of a study; None where there are too few candidates of one."""
    sampled, at_random = arms_of(record)
    kept = {trial.number for trial in record.contenders}
    count = len(at_random)
    if count < FEWEST or len(sampled) < count or not kept:
        return None
    points = [[math.nan if v is None or t.number not in kept else v for v in t.values] for t in (*sampled, *at_random)]
    covered = _covered(points, [objective.direction for objective in record.objectives])
    generator = np.random.default_rng(0)
    ours = _growths(covered[: len(sampled)], count, generator)
    low, high = np.quantile(ours, [0.025, 0.975], axis=0)
    theirs = _growths(covered[len(sampled) :], count, generator)
    pooled = _growths(covered, count, generator)[:, -1]
    as_bad, as_good = int((pooled <= theirs[0, -1] + 1e-12).sum()), int((pooled >= theirs[0, -1] - 1e-12).sum())
    chances = (as_bad + 1) / (CHOICES + 1), (as_good + 1) / (CHOICES + 1)
    return Comparison(theirs.mean(axis=0), ours.mean(axis=0), low, high, *chances)


def verdict(record: Record) -> Iterator[str]:
    """The comparison in words, a sentence each; none where there is nothing to compare."""
    found = compared(record)
    if found is None:
        return
    name = str((record.attributes.get("runner") or {}).get("search", {}).get("sampler", "the sampler"))
    yield (
        f"{counted(found.count, 'candidate')} were drawn at random to hold the sampler ({name}) against: they dominate "
        f"{found.random[-1]:.0%} of the box, as many of the sampler's {found.sampler[-1]:.0%} "
        f"(95 of 100 choices of them: {found.low[-1]:.0%} to {found.high[-1]:.0%})."
    )
    yield from _let_go(record)
    if found.chance <= SURE:
        yield f"The sampler earned its keep: luck does as much in {found.chance:.1%} of cases."
    elif found.chance_of_more <= SURE:
        yield "Random draws did better here than the sampler, and not by luck: try another sampler."
    else:
        yield f"Whether the sampler earned its keep cannot be told: luck does as much in {found.chance:.0%} of cases."


def _let_go(record: Record) -> Iterator[str]:
    """Only what was trained in full dominates anything: how much of each arm that is, where rungs let some go."""
    full = [[trial.state == "trained" for trial in arm] for arm in arms_of(record)]
    if not all(map(all, full)):
        (ours, of), (theirs, among) = ((sum(arm), len(arm)) for arm in full)
        yield (
            f"What a rung let go dominates nothing: {theirs} of the {among} random draws were trained in full, "
            f"{ours} of the sampler's {of}."
        )


def _covered(points: list[list[float]], directions: list[str]) -> NDArray[np.bool_]:
    """Which points of the box each candidate dominates; none where its values are not known."""
    ranges = ranges_of(points, directions)
    finite = [index for index, point in enumerate(points) if all(map(math.isfinite, point))]
    placed = np.zeros((len(points), len(directions)))
    placed[finite] = shares([points[index] for index in finite], ranges)
    box = np.random.default_rng(0).random((POINTS, len(directions)))
    covered: NDArray[np.bool_] = np.logical_and.reduce(placed[:, None] >= box, axis=2)
    return covered


def _growths(covered: NDArray[np.bool_], count: int, generator: np.random.Generator) -> Rows:
    """A row per choice: the share of the box that its first, first two, ... candidates dominate."""
    rows = []
    for _ in range(CHOICES):
        chosen = covered[generator.permutation(len(covered))[:count]]
        first = np.where(chosen.any(axis=0), chosen.argmax(axis=0), count)  # which candidate dominates a point first
        rows.append(np.cumsum(np.bincount(first, minlength=count + 1)[:count]) / POINTS)
    return np.array(rows)
