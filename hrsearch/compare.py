"""Studies side by side: hypervolumes in common ranges, who beats whom, and whether a difference is more than luck."""

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrsearch.errors import InputError
from hrsearch.front import Range, hypervolume_growth, non_dominated, ranges_of
from hrsearch.objective import Objective, readable
from hrsearch.pick import value_of
from hrsearch.study import Record, Trial

MOST_SPLITS = 20_000  # ways to deal studies to two groups that are tried; beyond, so many are drawn


@dataclass(frozen=True)
class Side:
    """One study among those that are compared."""

    name: str
    group: str  # what it shares with studies that differ from it by their seed alone
    trained: int
    front: int
    hypervolume: float  # share of the common box that it dominates
    on_common_front: int  # of the front of all studies together
    beaten_by: Mapping[str, float]  # share of its front that a point of another study dominates, by its name
    points: Sequence[tuple[float, ...]]  # its front, in the common objectives


@dataclass(frozen=True)
class Comparison:
    """The outcome: the objectives, the box, the studies, and what is doubtful about it."""

    objectives: tuple[Objective, ...]
    ranges: tuple[Range, ...]
    sides: tuple[Side, ...]
    doubts: tuple[str, ...]
    verdicts: tuple[str, ...]  # on groups of several seeds


def compared(records: Sequence[Record]) -> Comparison:
    """Compare studies in the objectives that all of them judge by; an InputError if that makes no sense."""
    if len(records) < 2:
        raise InputError("compare needs at least two studies")
    objectives = _common(records)
    directions = [objective.direction for objective in objectives]
    points = {index: _points(record, objectives) for index, record in enumerate(records)}
    for index, record in enumerate(records):
        if not points[index]:
            raise InputError(f"study {record.name!r} has no trained network within its limits; let it run further")
    ranges = ranges_of([point for own in points.values() for point in own], directions)
    names = _names(records)
    together = [(index, point) for index, own in points.items() for point in own]
    leading = [together[place][0] for place in non_dominated([point for _, point in together], directions)]
    fronts = {index: [own[place] for place in non_dominated(own, directions)] for index, own in points.items()}
    sides = tuple(
        Side(
            name=names[index],
            group=_group(record),
            trained=len(record.trained),
            front=len(fronts[index]),
            hypervolume=hypervolume_growth(points[index], directions, ranges)[-1],
            on_common_front=leading.count(index),
            beaten_by={
                names[other]: _share_beaten(fronts[index], fronts[other], directions)
                for other in points
                if other != index
            },
            points=fronts[index],
        )
        for index, record in enumerate(records)
    )
    return Comparison(objectives, tuple(ranges), sides, tuple(_doubts(records)), tuple(_verdicts(sides)))


def lines_of(found: Comparison) -> Iterator[str]:
    """The comparison in words."""
    axes = ", ".join(
        f"{objective.name} {readable(one.worst, objective.unit)} to {readable(one.best, objective.unit)}"
        for objective, one in zip(found.objectives, found.ranges, strict=True)
    )
    yield f"hypervolume: the share of a common box that a study dominates ({axes}; costs on a log scale)"
    width = max(len(side.name) for side in found.sides)
    yield f"{'study'.ljust(width)}  hypervolume  trained  front  on the common front  of its front beaten by"
    for side in sorted(found.sides, key=lambda side: -side.hypervolume):
        beaten = ", ".join(f"{name} {share:.0%}" for name, share in side.beaten_by.items())
        yield (
            f"{side.name.ljust(width)}  {side.hypervolume:11.3f}  {side.trained:7}  {side.front:5}  "
            f"{side.on_common_front:19}  {beaten}"
        )
    yield from found.verdicts
    yield from (f"careful: {doubt}" for doubt in found.doubts)


def json_of(found: Comparison) -> dict[str, Any]:
    """The comparison for machines."""
    return {
        "ranges": {
            objective.name: {"worst": one.worst, "best": one.best, "log": one.log}
            for objective, one in zip(found.objectives, found.ranges, strict=True)
        },
        "studies": [{**vars(side), "beaten_by": dict(side.beaten_by)} for side in found.sides],
        "verdicts": list(found.verdicts),
        "doubts": list(found.doubts),
    }


def permutation_p(one: Sequence[float], other: Sequence[float]) -> float:
    """How often studies dealt to the two groups at random would differ in the mean as much as these do (two-sided)."""
    pooled, size = np.array([*one, *other]), len(one)
    deals = list(itertools.islice(itertools.combinations(range(len(pooled)), size), MOST_SPLITS + 1))
    if len(deals) > MOST_SPLITS:
        generator = np.random.default_rng(0)
        deals = [tuple(generator.permutation(len(pooled))[:size].tolist()) for _ in range(MOST_SPLITS)]
    total = pooled.sum()
    observed = abs(statistics.fmean(one) - statistics.fmean(other))
    sums = np.array([pooled[list(deal)].sum() for deal in deals])
    differences = np.abs(sums / size - (total - sums) / (len(pooled) - size))
    return float((differences >= observed - 1e-12).mean())


def _common(records: Sequence[Record]) -> tuple[Objective, ...]:
    shared = [one for one in records[0].objectives if all(one in record.objectives for record in records)]
    if not shared:
        asked = "; ".join(f"{record.name}: {', '.join(one.name for one in record.objectives)}" for record in records)
        raise InputError(f"the studies have no objective in common ({asked})")
    tasks = {record.task for record in records}
    if len(tasks) > 1:
        raise InputError(f"the studies are for different tasks: {', '.join(sorted(tasks))}")
    return tuple(shared)


def _points(record: Record, objectives: Sequence[Objective]) -> list[tuple[float, ...]]:
    found = ([value_of(trial, one.name) for one in objectives] for trial in _drawn(record))
    return [tuple(value for value in point if value is not None) for point in found if None not in point]


def _drawn(record: Record) -> list[Trial]:
    """Published networks were not found by a search."""
    return [trial for trial in record.contenders if not trial.attributes.get("known")]


def _share_beaten(
    front: Sequence[tuple[float, ...]], by: Sequence[tuple[float, ...]], directions: Sequence[str]
) -> float:
    left = set(non_dominated([*front, *by], directions))
    return 1 - sum(index in left for index in range(len(front))) / len(front)


def _names(records: Sequence[Record]) -> list[str]:
    """The studies' names; their folders where names repeat."""
    names = [record.name for record in records]
    if len(set(names)) == len(names):
        return names
    return [str(record.folder) for record in records]


def _group(record: Record) -> str:
    """What tells a study from others but its seed: the space, the sampler, the device."""
    search = (record.attributes.get("runner") or {}).get("search") or {}
    settings = [search.get(key) for key in ("sampler", "eta", "told")]
    return str([record.attributes.get("space"), record.attributes.get("protocol"), settings])


def _doubts(records: Sequence[Record]) -> Iterator[str]:
    for key, words in (
        ("split", "the studies were scored on different data: their scores cannot be compared, only their costs"),
        ("protocol", "the studies judge in different ways (schedule, crop, measurement): scores may not be comparable"),
        ("machine", "the studies were timed on different machines: latencies are of where they were taken"),
    ):
        values = [record.attributes.get(key) for record in records]
        if any(value != values[0] for value in values):
            yield words


def _verdicts(sides: Sequence[Side]) -> Iterator[str]:
    """Two groups of studies that differ by their seeds only, held against each other."""
    groups: dict[str, list[Side]] = {}
    for side in sides:
        groups.setdefault(side.group, []).append(side)
    several = [group for group in groups.values() if len(group) > 1]
    for one, other in itertools.combinations(several, 2):
        means = [statistics.fmean(side.hypervolume for side in group) for group in (one, other)]
        p = permutation_p([side.hypervolume for side in one], [side.hypervolume for side in other])
        yield (
            f"{len(one)} seeds like {one[0].name}: {means[0]:.3f} in the mean; {len(other)} like {other[0].name}: "
            f"{means[1]:.3f}; chance alone differs as much with p = {p:.3f}"
        )
