"""What a network can take over from the trained weights of a relative: the first channels, the first blocks."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from hrsearch.proxy.checkpoint import SECTIONS
from hrsearch.proxy.sections import Sections, sections_of

Place = tuple[slice, ...]


def inherit(network: nn.Module, donor: Path) -> None:
    """Copy what both have in common: the first channels of the wider, the first blocks of the deeper.

    Weights are matched by their names, so `donor`, a file of `write_weights`, should be of the same family. Where a
    tensor holds several things, such as queries and keys, each is matched with its like.
    """
    given = load_file(donor)
    common = _Common(network, {name: tensor.shape for name, tensor in given.items()}, donor)
    for name, tensor in network.state_dict().items():  # shares memory with the network
        for place, source in common.places(name, tensor.shape):
            tensor[place] = given[name][source]


def overlap(network: nn.Module, donor: Path) -> float:
    """The share of the network's weights for which the donor has one at the same place."""
    with safe_open(donor, framework="pt") as file:
        common = _Common(network, {name: file.get_slice(name).get_shape() for name in file.keys()}, donor)  # noqa: SIM118
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    places = (place for name, shape in wanted.items() for place, _ in common.places(name, shape))
    taken = sum(math.prod(each.stop - each.start for each in place) for place in places)
    return float(taken / sum(map(math.prod, wanted.values())))


class _Common:
    """Where a network and a donor's tensors hold the same."""

    def __init__(self, network: nn.Module, given: Mapping[str, Sequence[int]], donor: Path) -> None:
        with safe_open(donor, framework="pt") as file:
            said = (file.metadata() or {}).get(SECTIONS, "{}")
        self._sections = sections_of(network)
        self._given = given
        self._donors: dict[str, Sections] = json.loads(said)

    def places(self, name: str, shape: Sequence[int]) -> Iterator[tuple[Place, Place]]:
        """Boxes of the network's tensor and those of the donor's that they are taken from; none where they differ."""
        given = self._given.get(name)
        sections, donors = self._sections.get(name, []), self._donors.get(name, [])
        if given is None or len(given) != len(shape) or len(sections) != len(donors):
            return
        sides = [
            _along(*each) for each in zip(_filled(sections, shape), _filled(donors, given), shape, given, strict=True)
        ]
        for box in itertools.product(*sides):
            yield tuple(place for place, _ in box), tuple(source for _, source in box)


def _filled(sections: Sections, shape: Sequence[int]) -> Sections:
    """Of all dimensions: channels are cut, the sides of a kernel are not."""
    usual: Sections = [[side] if dimension < 2 else None for dimension, side in enumerate(shape)]
    return [*sections, *usual[len(sections) :]]


def _along(mine: list[int] | None, other: list[int] | None, side: int, given: int) -> list[tuple[slice, slice]]:
    """What is taken along one dimension: of each section its first, or all or nothing of what is never cut."""
    if mine is None or other is None:
        return [(slice(0, side), slice(0, given))] if side == given else []
    starts = zip(itertools.accumulate(mine, initial=0), itertools.accumulate(other, initial=0), strict=False)
    common = map(min, mine, other)
    return [
        (slice(start, start + size), slice(source, source + size))
        for (start, source), size in zip(starts, common, strict=False)
    ]
