"""Links: how one pyramid of maps becomes the next."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.arch import Map
from hrsearch.errors import InputError
from hrsearch.registry import LINKS

Size = tuple[int, int]
Fit = Callable[[Tensor, Size], Tensor]


@dataclass(frozen=True)
class Piece:
    """A part of a network that is counted, timed and listed on its own.

    A link or a head as a whole is called with a list of maps of `shapes`, any other module with the one of them.
    """

    name: str
    module: nn.Module
    shapes: tuple[tuple[int, ...], ...]


@runtime_checkable
class InParts(Protocol):
    """What links and heads have in common: they are counted piece by piece."""

    def parts(self, sizes: Sequence[Size], batch: int = 1) -> Iterator[Piece]:
        """The pieces for inputs of these sizes (height, width); their costs add up to the module's."""
        ...


@final
class Link(nn.Module):
    """A matrix of paths between pyramids: `out[i] = after[i](act(sum_j path[i, j](x[j])))`, j ascending.

    Output i has the size of the finest input divided by the ratio of their strides, rounded up; what a path delivers is
    brought to it by `fit`, by default cropped, as upsampling delivers more on odd sizes.
    """

    def __init__(
        self,
        inputs: Sequence[Map],
        outputs: Sequence[Map],
        paths: Mapping[tuple[int, int], nn.Module],
        act: nn.Module | None = None,
        after: Mapping[int, nn.Module] | None = None,
        widths: Sequence[int] | None = None,
        fit: Fit | None = None,
    ) -> None:
        """`paths` is keyed by (output, input); `widths` are the channels of the sums, where `after` changes them."""
        super().__init__()
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.widths = tuple(widths or (output.channels for output in outputs))
        self.sources = tuple(sorted(j for i, j in paths if i == target) for target in range(len(outputs)))
        assert all(self.sources), "an output without a path"
        self.paths = nn.ModuleDict({f"{i}_{j}": path for (i, j), path in sorted(paths.items())})
        self.act = act
        self.fit = fit or cropped
        self.after = nn.ModuleDict({str(i): module for i, module in sorted((after or {}).items())})

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """(B, C_j, H_j, W_j) of every input -> (B, C_i, H_i, W_i) of every output."""
        sizes = self._sizes((maps[0].shape[-2], maps[0].shape[-1]))
        return [self._output(index, maps, size) for index, size in enumerate(sizes)]

    def parts(self, sizes: Sequence[Size], batch: int = 1) -> Iterator[Piece]:
        """Each path and each module after the sums, with the shape it is given for inputs of these sizes."""
        for name, path in self.paths.items():
            source = int(name.split("_")[1])
            if not isinstance(path, nn.Identity):
                yield Piece(f"paths.{name}", path, ((batch, self.inputs[source].channels, *sizes[source]),))
        targets = self._sizes(sizes[0])
        for name, module in self.after.items():
            yield Piece(f"after.{name}", module, ((batch, self.widths[int(name)], *targets[int(name)]),))

    def extra_repr(self) -> str:
        return f"{_text(self.inputs)} -> {_text(self.outputs)}"

    def _sizes(self, finest: Size) -> list[Size]:
        return [scaled(finest, self.inputs[0].stride, output.stride) for output in self.outputs]

    def _output(self, index: int, maps: list[Tensor], size: Size) -> Tensor:
        first, *rest = (self.fit(self.paths[f"{index}_{j}"](maps[j]), size) for j in self.sources[index])
        total: Tensor = first
        for term in rest:
            total = total + term
        if self.act is not None:
            total = self.act(total)
        return self.after[str(index)](total) if str(index) in self.after else total


@LINKS.add("keep")
def keep(inputs: Sequence[Map], outputs: Sequence[Map]) -> Link:
    """The maps as they are: for a row of other blocks, the first of which may lead to other channels."""
    if [each.stride for each in inputs] != [each.stride for each in outputs]:
        raise InputError(f"link 'keep': it keeps the strides, but got {_text(inputs)} -> {_text(outputs)}")
    return Link(inputs, inputs, {(i, i): nn.Identity() for i in range(len(inputs))})


def scaled(size: Size, stride: int, target: int) -> Size:
    """The size at stride `target` of what has this size at `stride`, rounded up."""
    height, width = size
    return -(-height * stride // target), -(-width * stride // target)


def cropped(x: Tensor, size: Size) -> Tensor:
    """The top left corner of this size: (B, C, H', W') -> (B, C, H, W)."""
    return x if x.shape[-2:] == size else x[..., : size[0], : size[1]]


def resized(x: Tensor, size: Size, *, align_corners: bool = False) -> Tensor:
    """Bilinear interpolation where the size differs: (B, C, H', W') -> (B, C, H, W)."""
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def require_one(kind: str, inputs: Sequence[Map], outputs: Sequence[Map], ratio: int) -> tuple[Map, Map]:
    """The one input and the one output of a link that divides the size by `ratio`; else an InputError."""
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(f"link {kind!r}: it leads one map to one map, but got {len(inputs)} to {len(outputs)}")
    if outputs[0].stride != ratio * inputs[0].stride:
        got = f"{inputs[0].stride} to {outputs[0].stride}"
        raise InputError(f"link {kind!r}: the stride must grow by a factor of {ratio}, but got {got}")
    return inputs[0], outputs[0]


def require_pyramids(kind: str, inputs: Sequence[Map], outputs: Sequence[Map]) -> None:
    """Both pyramids start at one stride, which doubles from map to map; else an InputError."""
    for maps in (inputs, outputs):
        expected = [inputs[0].stride * 2**index for index in range(len(maps))]
        strides = [each.stride for each in maps]
        if strides != expected:
            raise InputError(f"link {kind!r}: strides must be {expected}, but got {strides}")


def _text(maps: Sequence[Map]) -> str:
    return " ".join(f"{each.channels}/{each.stride}" for each in maps)
