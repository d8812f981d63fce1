"""Studies side by side: hypervolumes in common ranges, who beats whom, and whether a difference is more than luck."""

import hashlib
import itertools
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from hrsearch.errors import InputError
from hrsearch.front import Range, hypervolume_growth, not_surely_dominated, ranges_of
from hrsearch.objective import Objective, readable
from hrsearch.pick import value_of
from hrsearch.runner import Runner
from hrsearch.study import Record, Trial

MOST_SPLITS = 20_000  # ways to deal studies to two groups that are tried; beyond, so many are drawn
BEARS_ON = {  # how costs are taken, and on which of them it bears
    "image": {"flops", "latency", "memory", "training_memory"},
    "batch": {"latency", "memory", "training_memory"},
    "engine": {"latency", "memory"},
    "threads": {"latency"},
    "device": {"training_memory"},
}


@dataclass(frozen=True)
class Point:
    """A network in the common objectives: its values, and the lowest and the highest that their noise allows."""

    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Side:
    """One study among those that are compared."""

    name: str
    group: Mapping[str, Any]  # what it shares with studies that differ from it by their seed alone
    trained: int
    front: int
    hypervolume: float  # share of the common box that it dominates
    on_common_front: int  # of the front of all studies together
    beaten_by: Mapping[str, float]  # share of its front that another study's points beat beyond the noise, by its name
    points: Sequence[tuple[float, ...]]  # its front, in the common objectives


@dataclass(frozen=True)
class Comparison:
    """The outcome: the objectives, the box, the studies, and what is doubtful about it."""

    objectives: tuple[Objective, ...]
    ranges: tuple[Range, ...]
    sides: tuple[Side, ...]
    obstacles: tuple[str, ...]  # why no study can be said to be better than another; mostly none
    doubts: tuple[str, ...]
    verdicts: tuple[str, ...]  # on luck: groups of several seeds

    @property
    def ranked(self) -> list[Side]:
        """The studies, the best first; as they were given where none can be said to be better."""
        return list(self.sides) if self.obstacles else sorted(self.sides, key=lambda side: -side.hypervolume)


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
    values = {index: [point.values for point in own] for index, own in points.items()}
    ranges = ranges_of([each for own in values.values() for each in own], directions)
    names = _names(records)
    together = [(index, point) for index, own in points.items() for point in own]
    leading = [together[place][0] for place in _unbeaten([point for _, point in together], directions)]
    fronts = {index: [own[place] for place in _unbeaten(own, directions)] for index, own in points.items()}
    sides = tuple(
        Side(
            name=names[index],
            group=_group(record),
            trained=len(record.trained),
            front=len(fronts[index]),
            hypervolume=hypervolume_growth(values[index], directions, ranges)[-1],
            on_common_front=leading.count(index),
            beaten_by={
                names[other]: _share_beaten(fronts[index], fronts[other], directions)
                for other in points
                if other != index
            },
            points=[point.values for point in fronts[index]],
        )
        for index, record in enumerate(records)
    )
    obstacles = tuple(_obstacles(records, names, objectives))
    verdicts = () if obstacles else tuple(_verdicts(sides))
    return Comparison(objectives, tuple(ranges), sides, obstacles, tuple(_doubts(records, names)), verdicts)


def lines_of(found: Comparison) -> Iterator[str]:
    """The comparison in words."""
    yield from (f"no winner: {obstacle}" for obstacle in found.obstacles)
    axes = ", ".join(
        f"{objective.name} {readable(one.worst, objective.unit)} to {readable(one.best, objective.unit)}"
        for objective, one in zip(found.objectives, found.ranges, strict=True)
    )
    if not found.obstacles:
        yield f"hypervolume: the share of a common box that a study dominates ({axes}; costs on a log scale)"
    width = max(len(side.name) for side in found.sides)
    yield f"{'study'.ljust(width)}  hypervolume  trained  front  on the common front  of its front beaten by"
    for side in found.ranked:
        share, trained, front, common, beaten = cells_of(side, found)
        yield f"{side.name.ljust(width)}  {share:>11}  {trained:>7}  {front:>5}  {common:>19}  {beaten}"
    yield from found.verdicts
    yield from (f"careful: {doubt}" for doubt in found.doubts)


def cells_of(side: Side, found: Comparison) -> tuple[str, ...]:
    """Its row of the table, as text: hypervolume, trained, front, on the common front, of its front beaten by."""
    own = (str(side.trained), str(side.front))
    if found.obstacles:
        return "–", *own, "–", "–"
    beaten = ", ".join(f"{name} {share:.0%}" for name, share in side.beaten_by.items())
    return f"{side.hypervolume:.3f}", *own, str(side.on_common_front), beaten


def json_of(found: Comparison) -> dict[str, Any]:
    """The comparison for machines; what ranks studies is left out where none can be said to be better."""
    ranks = {"hypervolume", "on_common_front", "beaten_by"} if found.obstacles else set()
    return {
        "ranges": {
            objective.name: {"worst": one.worst, "best": one.best, "log": one.log}
            for objective, one in zip(found.objectives, found.ranges, strict=True)
        },
        "studies": [{key: each for key, each in vars(side).items() if key not in ranks} for side in found.sides],
        "obstacles": list(found.obstacles),
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


def _points(record: Record, objectives: Sequence[Objective]) -> list[Point]:
    """Those of which all is known."""
    points = []
    for trial in _drawn(record):
        values = [value for one in objectives if (value := value_of(trial, one.name)) is not None]
        spans = [span for one in objectives if (span := one.interval(trial.attributes)) is not None]
        if len(values) == len(objectives):
            points.append(Point(tuple(values), tuple(low for low, _ in spans), tuple(high for _, high in spans)))
    return points


def _unbeaten(points: Sequence[Point], directions: Sequence[str]) -> list[int]:
    """The indices of the front, as a study has it: who is worse within the noise of measuring stays."""
    return not_surely_dominated([point.low for point in points], [point.high for point in points], directions)


def _drawn(record: Record) -> list[Trial]:
    """Published networks were not found by a search."""
    return [trial for trial in record.contenders if not trial.attributes.get("known")]


def _share_beaten(front: Sequence[Point], by: Sequence[Point], directions: Sequence[str]) -> float:
    left = set(_unbeaten([*front, *by], directions))
    return 1 - sum(index in left for index in range(len(front))) / len(front)


def _names(records: Sequence[Record]) -> list[str]:
    """The studies' names; their folders where names repeat."""
    names = [record.name for record in records]
    if len(set(names)) == len(names):
        return names
    return [str(record.folder) for record in records]


def _runner(record: Record) -> Runner | None:
    """How it judged, what the study does not say filled in; None where another program wrote that."""
    try:
        return Runner.model_validate(record.attributes.get("runner"))
    except ValidationError:
        return None


def _group(record: Record) -> dict[str, Any]:
    """What tells a study from others but its seed: the space, how it was searched, and how candidates were judged."""
    space = str(record.attributes.get("space"))
    runner = _runner(record)
    plain = runner.model_dump(mode="json") if runner else dict(record.attributes.get("runner") or {})
    search = {key: value for key, value in (plain.get("search") or {}).items() if key != "seed"}
    # Not where data lies: its split says what it is.
    proxy = {key: value for key, value in (plain.get("proxy") or {}).items() if key != "data"}
    judged = [space, plain.get("device"), proxy, plain.get("measure"), record.attributes.get("split")]
    digest = hashlib.sha256(json.dumps(judged, sort_keys=True).encode()).hexdigest()[:12]
    spent = {key: record.attributes.get(key) for key in ("budget", "hours")}
    return {"space": Path(str(record.attributes.get("space_path") or "")).stem, "judged": digest, **search, **spent}


def _obstacles(records: Sequence[Record], names: Sequence[str], objectives: Sequence[Objective]) -> Iterator[str]:
    """Why the studies' hypervolumes, and who beats whom, mean nothing."""
    common = {objective.name for objective in objectives}
    if "score" in common and _differ(record.attributes.get("split") for record in records):
        yield "the studies were scored on different data: their scores cannot be compared"
    runners = [runner for runner in map(_runner, records) if runner]
    if len(runners) == len(records):
        taken = [{**runner.measure.model_dump(), "device": runner.device} for runner in runners]
        bearing = [{key: one[key] for key, costs in BEARS_ON.items() if costs & common} for one in taken]
        if told := list(_differences(bearing, names)):
            yield f"the studies took their costs in different ways: {'; '.join(told)}"
    devices = [_timed_on(record) for record in records]
    if "latency" in common and _differ(devices):
        yield f"latencies are of different devices: {_told(devices, names)}"


def _timed_on(record: Record) -> str | None:
    """The GPUs or processors of its latencies; the machine's processor where they do not say."""
    latencies = (trial.attributes.get("latency") or {} for trial in record.trained)
    devices = sorted({str(latency["device"]) for latency in latencies if latency.get("device")})
    return " and ".join(devices) or (record.attributes.get("machine") or {}).get("processor")


def _doubts(records: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    runners = [runner for runner in map(_runner, records) if runner]
    if len(runners) == len(records):
        if told := list(_differences([runner.proxy.model_dump(exclude={"data"}) for runner in runners], names)):
            yield f"the studies train in different ways, scores may not be comparable: {'; '.join(told)}"
    elif _differ(record.attributes.get("protocol") for record in records):
        yield "the studies judge in different ways (schedule, crop, measurement): they may not be comparable"
    if _differ(record.attributes.get("machine") for record in records):
        yield "the studies were timed on different machines: latencies are of where they were taken"
    yield from _twins(records, names)


def _twins(records: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    """Studies that count as several seeds of one search beside another, and have the same."""
    whose: dict[str, list[str]] = {}
    for record, name in zip(records, names, strict=True):
        whose.setdefault(json.dumps([_group(record), record.attributes.get("seed")], sort_keys=True), []).append(name)
    is_about_luck = len({json.dumps(_group(record), sort_keys=True) for record in records}) > 1
    for who in whose.values():
        if len(who) > 1 and is_about_luck:
            yield f"{' and '.join(who)} are the same search with the same seed: they say nothing of luck"


def _differ(values: Iterable[object]) -> bool:
    first, *others = values
    return any(other != first for other in others)


def _differences(settings: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Iterator[str]:
    """The settings that are not the same in all studies: `steps is 150 in a and 300 in b`."""
    for key in settings[0]:
        values = [one[key] for one in settings]
        if _differ(values):
            yield f"{key} is {_told(values, names)}"


def _told(values: Sequence[object], names: Sequence[str]) -> str:
    """Which value is whose: `150 in a and 300 in b, c`."""
    whose: dict[str, list[str]] = {}
    for value, name in zip(values, names, strict=True):
        text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
        whose.setdefault(text or "none", []).append(name)
    return " and ".join(f"{text} in {', '.join(who)}" for text, who in whose.items())


def _verdicts(sides: Sequence[Side]) -> Iterator[str]:
    """Two groups of studies that differ by their seeds only, held against each other; or that luck cannot be told."""
    groups: dict[str, list[Side]] = {}
    for side in sides:
        groups.setdefault(json.dumps(side.group, sort_keys=True), []).append(side)
    several = [group for group in groups.values() if len(group) > 1]
    if len(groups) > 1 and len(several) < len(groups):
        alone = [group[0].name for group in groups.values() if len(group) == 1]
        whose = "each" if not several else f"of {', '.join(alone)}"
        yield f"one seed {whose}: luck cannot be told; search again with --name and another seed in the runner"
    for one, other in itertools.combinations(several, 2):
        means = [statistics.fmean(side.hypervolume for side in group) for group in (one, other)]
        p = permutation_p([side.hypervolume for side in one], [side.hypervolume for side in other])
        yield (
            f"{len(one)} seeds like {one[0].name}: {means[0]:.3f} in the mean; {len(other)} like {other[0].name}: "
            f"{means[1]:.3f}; chance alone differs as much with p = {p:.3f}"
        )
