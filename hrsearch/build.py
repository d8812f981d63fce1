"""From an architecture to a network."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hrsearch.arch import IMAGE, Arch, Branch, Map, Part, Stage, inputs_of
from hrsearch.errors import InputError, suggestion
from hrsearch.nets.link import InParts, Piece, Size, scaled
from hrsearch.nets.norm import NORMS
from hrsearch.registry import BLOCKS, HEADS, LINKS


class NetworkStage(nn.Module):
    """A link, and a branch per map: list of maps -> list of maps."""

    def __init__(self, link: nn.Module, branches: list[nn.Sequential]) -> None:
        super().__init__()
        self.link = link
        self.branches = nn.ModuleList(branches)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [branch(each) for branch, each in zip(self.branches, self.link(maps), strict=True)]


class Network(nn.Module):
    """A network built from an architecture: image (B, 3, H, W) -> the head's prediction.

    `channels` and `strides` describe the pyramid, finest first.
    """

    def __init__(self, arch: Arch, stages: list[NetworkStage], head: nn.Module) -> None:
        super().__init__()
        self.arch = arch
        self.channels = tuple(each.channels for each in arch.maps)
        self.strides = tuple(each.stride for each in arch.maps)
        self.stages = nn.ModuleList(stages)
        self.head = head

    def pyramid(self, image: Tensor) -> list[Tensor]:
        """The maps that the head is given, finest first: (B, C_i, H / stride_i, W / stride_i), rounded up."""
        maps = [image.contiguous(memory_format=torch.channels_last)]
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def forward(self, image: Tensor) -> Tensor:
        prediction: Tensor = self.head(self.pyramid(image))
        return prediction


def build(arch: Arch, classes: int = 1000, drop_path: float = 0.0) -> Network:
    """The network of an architecture, initialised at random; `drop_path` is the rate of its last blocks.

    An architecture that cannot be built is an InputError that names the stage.
    """
    stages = []
    for index, (stage, rates) in enumerate(zip(arch.stages, drop_path_rates(arch, drop_path), strict=True)):
        try:
            stages.append(_stage(stage, inputs_of(arch, index), rates))
        except InputError as error:
            raise InputError(f"stages[{index}]: {error}") from None
    head = HEADS[arch.head.kind](arch.maps, classes, **arch.head.keywords())
    network = Network(arch, stages, head)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def drop_path_rates(arch: Arch, drop_path: float) -> list[list[float]]:
    """Rates of the blocks of each stage, rising linearly over the network from 0 to `drop_path`.

    A stage takes as many steps as its deepest branch; block b of every branch has the stage's rate b.
    """
    depths = [max((branch.depth for branch in stage.branches), default=0) for stage in arch.stages]
    last = max(sum(depths) - 1, 1)
    rates = [drop_path * step / last for step in range(sum(depths))]
    starts = [sum(depths[:index]) for index in range(len(depths))]
    return [rates[start : start + depth] for start, depth in zip(starts, depths, strict=True)]


def pieces(network: Network, image: Size, batch: int = 1) -> Iterator[Piece]:
    """Every part of the network that computes, named by its path in it, with the shapes it is given.

    The sum of their costs is the network's: only sums, activations and resizing lie between them.
    """
    maps: tuple[Map, ...] = (IMAGE,)
    for index, stage in enumerate(network.stages):
        assert isinstance(stage, NetworkStage)
        yield from _parts(f"stages.{index}.link", stage.link, maps, image, batch)
        maps = network.arch.stages[index].maps
        for number, (branch, output) in enumerate(zip(stage.branches, maps, strict=True)):
            shape = (batch, output.channels, *scaled(image, 1, output.stride))
            for name, module in branch.named_children():
                yield Piece(f"stages.{index}.branches.{number}.{name}", module, (shape,))
    yield from _parts("head", network.head, maps, image, batch)


def _parts(prefix: str, module: nn.Module, maps: tuple[Map, ...], image: Size, batch: int) -> Iterator[Piece]:
    """The parts of a link or a head, under the name that it has in the network."""
    assert isinstance(module, InParts), f"{type(module).__name__} does not tell its parts"
    sizes = [scaled(image, 1, each.stride) for each in maps]
    for piece in module.parts(sizes, batch):
        yield Piece(f"{prefix}.{piece.name}".rstrip("."), piece.module, piece.shapes)


def _stage(stage: Stage, inputs: tuple[Map, ...], rates: list[float]) -> NetworkStage:
    link = LINKS[stage.link.kind](inputs, stage.maps, **stage.link.keywords())
    if tuple(link.outputs) != stage.maps:
        raise InputError(f"link {stage.link.kind!r} delivers {link.outputs}, but the branches need {stage.maps}")
    return NetworkStage(link, [_branch(branch, rates) for branch in stage.branches])


def _branch(branch: Branch, rates: list[float]) -> nn.Sequential:
    blocks = [_block(branch.block, branch.channels, rate) for rate in rates[: branch.depth]]
    if branch.norm is None:
        return nn.Sequential(*blocks)
    if branch.norm not in NORMS:
        raise InputError(f"norm {branch.norm!r} does not exist; {suggestion(branch.norm, NORMS)}")
    return nn.Sequential(*blocks, NORMS[branch.norm](branch.channels))


def _block(part: Part | None, channels: int, rate: float) -> nn.Module:
    if part is None:
        raise InputError("a branch with depth > 0 needs a block")
    module: nn.Module = BLOCKS[part.kind](channels, channels, rate, **part.keywords())
    return module
