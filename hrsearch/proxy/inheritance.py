"""What a network can take over from the trained weights of a relative: the first channels, the first blocks."""

import math
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn


def inherit(network: nn.Module, donor: Path) -> None:
    """Copy what both have in common: the first channels of the wider, the first blocks of the deeper.

    Weights are matched by their names, so `donor` should be of the same family.
    """
    given = load_file(donor)
    for name, tensor in network.state_dict().items():  # shares memory with the network
        source = given.get(name)
        if source is not None and fits(tensor.shape, source.shape):
            common = tuple(slice(min(sides)) for sides in zip(tensor.shape, source.shape, strict=True))
            tensor[common] = source[common]


def overlap(network: nn.Module, donor: Path) -> float:
    """The share of the network's weights for which the donor has one at the same place."""
    wanted = {name: tuple(each.shape) for name, each in network.state_dict().items()}
    with safe_open(donor, framework="pt") as file:
        names = set(file.keys())
        given = {name: tuple(file.get_slice(name).get_shape()) for name in wanted if name in names}
    common = sum(math.prod(map(min, wanted[name], shape)) for name, shape in given.items() if fits(wanted[name], shape))
    return float(common / sum(map(math.prod, wanted.values())))


def fits(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two tensors of these shapes overlap: sliced by channels, but never by the side of a kernel."""
    return len(one) == len(other) and one[2:] == other[2:]
