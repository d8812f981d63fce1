"""From an architecture to a network."""

from collections.abc import Iterator, Sequence

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

    def predictions(self, image: Tensor) -> list[Tensor]:
        """The prediction, then the auxiliary ones of a head that has them, which only training asks for."""
        maps = self.pyramid(image)
        predict = getattr(self.head, "predictions", None)
        return [self.head(maps)] if predict is None else predict(maps)


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

    A stage takes as many steps as its deepest branch of blocks that drop; block b of every branch has the stage's rate
    b. A block whose class says `drops = False`, as those of HRNet do, has no drop path.
    """
    depths = [max((_steps(branch) for branch in stage.branches), default=0) for stage in arch.stages]
    last = max(sum(depths) - 1, 1)
    rates = [drop_path * step / last for step in range(sum(depths))]
    starts = [sum(depths[:index]) for index in range(len(depths))]
    return [rates[start : start + depth] for start, depth in zip(starts, depths, strict=True)]


def _steps(branch: Branch) -> int:
    return branch.depth if branch.block and getattr(BLOCKS[branch.block.kind], "drops", True) else 0


def widths_of(stage: Stage, delivered: Sequence[Map]) -> list[int]:
    """The channels that each branch is given by its stage's link; its first block leads from them to its own.

    Other strides than the branches', and other channels for a branch without blocks, are an InputError.
    """
    fits = [one.stride == branch.stride for one, branch in zip(delivered, stage.branches, strict=False)]
    if not all(fits) or len(delivered) != len(stage.branches):
        raise InputError(f"link {stage.link.kind!r} delivers {delivered}, but the branches need {stage.maps}")
    for one, branch in zip(delivered, stage.branches, strict=True):
        if not branch.depth and one.channels != branch.channels:
            law = f"{one.channels} channels, but a branch without blocks needs {branch.channels}"
            raise InputError(f"link {stage.link.kind!r} delivers {law}")
    return [one.channels for one in delivered]


def pieces(network: Network, image: Size, batch: int = 1) -> Iterator[Piece]:
    """Every part of the network that computes, named by its path in it, with the shapes it is given.

    The sum of their costs is the network's: only sums, activations and resizing lie between them.
    """
    maps: tuple[Map, ...] = (IMAGE,)
    for index, stage in enumerate(network.stages):
        assert isinstance(stage, NetworkStage)
        yield from _parts(f"stages.{index}.link", stage.link, maps, image, batch)
        maps = network.arch.stages[index].maps
        delivered: tuple[Map, ...] = stage.link.outputs  # type: ignore[assignment]
        widths = widths_of(network.arch.stages[index], delivered)
        for number, (branch, output, width) in enumerate(zip(stage.branches, maps, widths, strict=True)):
            for name, module in branch.named_children():
                shape = (batch, output.channels if int(name) else width, *scaled(image, 1, output.stride))
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
    widths = widths_of(stage, link.outputs)
    branches = [_branch(branch, width, rates) for branch, width in zip(stage.branches, widths, strict=True)]
    return NetworkStage(link, branches)


def _branch(branch: Branch, width: int, rates: list[float]) -> nn.Sequential:
    """The blocks, the first of which is given `width` channels, and the norm."""
    rates = rates if _steps(branch) else [0.0] * branch.depth
    widths = [width, *[branch.channels] * (branch.depth - 1)]
    blocks = [_block(branch.block, c_in, branch.channels, rate) for c_in, rate in zip(widths, rates, strict=False)]
    if branch.norm is None:
        return nn.Sequential(*blocks)
    if branch.norm not in NORMS:
        raise InputError(f"norm {branch.norm!r} does not exist; {suggestion(branch.norm, NORMS)}")
    return nn.Sequential(*blocks, NORMS[branch.norm](branch.channels))


def _block(part: Part | None, c_in: int, c_out: int, rate: float) -> nn.Module:
    if part is None:
        raise InputError("a branch with depth > 0 needs a block")
    module: nn.Module = BLOCKS[part.kind](c_in, c_out, rate, **part.keywords())
    return module
