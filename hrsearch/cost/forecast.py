"""A cheap guess of a network's latency before it is built: from the measured parts of the networks before it.

A part that was measured costs what it cost (the median, where it was measured in several networks). Any other is
estimated from its kind: the logarithm of its milliseconds is linear in those of its FLOPs and of the elements of its
maps, with coefficients that lean towards those of all kinds together where a kind has few measurements. A forecast
refuses what is far beyond a limit; it never stands in for a measurement.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrsearch.arch import Arch, Map, inputs_of
from hrsearch.cost.flops import cost, size_at

Row = NDArray[np.float64]


@dataclass(frozen=True)
class Described:
    """A part of a network: what makes it the same as another, what it is like, and how large it is."""

    key: Hashable
    kind: str
    flops: int
    elements: int  # of the maps that it reads and writes
    options: tuple[float, ...] = ()  # numbers that tell it from others of its kind: channels, window, ratio

    def features(self) -> list[float]:
        """What its time is estimated from."""
        return [1.0, *(_log(value) for value in (self.flops, self.elements, *self.options))]


def _log(value: float) -> float:
    """The logarithm of one more; of a plug-in's option that is negative, that of its size, negated."""
    return math.copysign(math.log(abs(value) + 1), value)


def described(arch: Arch, image: tuple[int, int], classes: int) -> Iterator[Described]:
    """The parts of a network in the order of `Cost.flops_by_part`, without building it."""
    for path, flops in cost(arch, image, classes).flops_by_part.items():
        place, *rest = path.split(".")
        if place == "head":
            elements = sum(_elements(one, image) for one in arch.maps)
            kind = ".".join(["head", arch.head.kind, *rest])
            yield Described((kind, arch.head, arch.maps, classes, image), kind, flops, elements)
        elif rest[1] == "branches":
            yield _of_branch(arch, int(rest[0]), int(rest[2]), int(rest[3]), flops, image)
        else:
            yield _of_link(arch, int(rest[0]), rest[2:], flops, image)


def _of_branch(arch: Arch, stage: int, place: int, block: int, flops: int, image: tuple[int, int]) -> Described:
    branch = arch.stages[stage].branches[place]
    elements = 2 * _elements(branch.map, image)
    if branch.block is None or block == branch.depth:
        kind = f"{branch.norm} norm"
        return Described((kind, branch.map, image), kind, flops, elements)
    numbers = [value for _, value in branch.block.options if isinstance(value, int | float)]
    options = (float(branch.channels), *map(float, numbers))
    return Described((branch.block, branch.map, flops, image), branch.block.kind, flops, elements, options)


def _of_link(arch: Arch, stage: int, path: list[str], flops: int, image: tuple[int, int]) -> Described:
    """A path from one map to another (`1_0`: to 1 from 0), what comes after a sum (`1`), or a link of one part."""
    inputs, outputs, link = inputs_of(arch, stage), arch.stages[stage].maps, arch.stages[stage].link
    ends = [int(end) for end in path[-1].split("_") if end.isdecimal()] if path else []
    kind = ".".join([link.kind, *(path[:-1] if ends else path)])
    target, source = (*ends, 0, 0)[:2]
    read = inputs[min(source, len(inputs) - 1)] if len(ends) != 1 else outputs[target]
    written = outputs[min(target, len(outputs) - 1)]
    if len(ends) == 2:
        kind = f"{kind}{target - source:+d}"
    elements = _elements(read, image) + _elements(written, image)
    return Described((kind, link, read, written, flops, image), kind, flops, elements)


def _elements(one: Map, image: tuple[int, int]) -> int:
    return one.channels * math.prod(size_at(image, one.stride))


class Forecast:
    """The table of measured parts of one study: its image size, batch, engine and machine."""

    def __init__(self, image: tuple[int, int], classes: int) -> None:
        """`image` is that of networks without a size of their own."""
        self._image = image
        self._classes = classes
        self._measured: dict[Described, list[float]] = defaultdict(list)
        self._between: list[float] = []  # what lies between the parts, relative to them, network by network
        self._ratios: list[float] = []  # what networks took over what their parts let expect, before they were known
        self._fit: dict[str, Row] | None = None

    def learn(self, arch: Arch, part_ms: Sequence[float]) -> None:
        """Enter a measured network: the milliseconds of its parts in their order, then of what lies between them."""
        *parts, between = part_ms
        raw = self._sum(arch)
        if raw:
            self._ratios.append(sum(part_ms) / raw)
        for part, ms in zip(self._parts(arch), parts, strict=True):
            self._measured[part].append(ms)
        self._between.append(between / sum(parts))
        self._fit = None

    def expect(self, arch: Arch) -> float | None:
        """The milliseconds that the network should take; None before anything was measured."""
        raw = self._sum(arch)
        return raw and raw * (statistics.median(self._ratios) if len(self._ratios) >= SURE else 1.0)

    def _sum(self, arch: Arch) -> float | None:
        if not self._between:
            return None
        if self._fit is None:
            self._fit = _fitted(self._measured)
        total = sum(self._ms(part, self._fit) for part in self._parts(arch))
        return total * (1 + statistics.median(self._between))

    def _parts(self, arch: Arch) -> list[Described]:
        return list(described(arch, arch.image or self._image, self._classes))

    def _ms(self, part: Described, fit: dict[str, Row]) -> float:
        known = self._measured.get(part)
        if known:
            return statistics.median(known)
        features = part.features()
        if part.kind not in fit:
            return math.exp(float(np.dot(features[:COMMON], fit[""])))
        return math.exp(float(np.dot(features, fit[part.kind])))


LEAN = 0.3  # measurements that the fit over all kinds is worth beside a kind's own
COMMON = 3  # features that all kinds have: the offset, FLOPs, elements
SURE = 4  # networks before forecasts are corrected by how earlier ones erred


def _fitted(measured: dict[Described, list[float]]) -> dict[str, Row]:
    """Coefficients for every kind, and under the empty name for all of them together."""
    rows: dict[str, list[tuple[list[float], float]]] = defaultdict(list)
    for part, times in measured.items():
        rows[part.kind].append((part.features(), math.log(max(statistics.median(times), 1e-4))))
    every = [(features[:COMMON], target) for of_kind in rows.values() for features, target in of_kind]
    pooled = _leaning(every, np.zeros(COMMON))
    return {"": pooled, **{kind: _leaning(of_kind, pooled) for kind, of_kind in rows.items()}}


def _leaning(rows: list[tuple[list[float], float]], towards: Row) -> Row:
    """Ridge regression that falls back to the slopes `towards`; what these do not have leans to nothing."""
    x = np.array([features for features, _ in rows])
    y = np.array([target for _, target in rows])
    towards = np.concatenate([towards, np.zeros(x.shape[1] - len(towards))])
    residual, middle = y - x @ towards, x.mean(axis=0)[1:]
    # The offset is the kind's own from its first measurement on.
    slopes_in = x[:, 1:] - middle
    gram = slopes_in.T @ slopes_in + LEAN * np.eye(len(middle))
    slopes = np.linalg.solve(gram, slopes_in.T @ (residual - residual.mean()))
    return np.asarray(towards + np.array([residual.mean() - middle @ slopes, *slopes]), dtype=np.float64)
