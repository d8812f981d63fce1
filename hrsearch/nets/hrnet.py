"""HRNet (Wang et al., Deep High-Resolution Representation Learning for Visual Recognition, 2020).

Written from the architecture, not from the authors' code; what their release computes is held by tests/test_golden.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.arch import Map
from hrsearch.errors import InputError, suggestion
from hrsearch.nets.layers import Layers
from hrsearch.nets.link import Fit, Link, Piece, Size, cropped, require_pyramids, resized
from hrsearch.nets.sharing import shared
from hrsearch.registry import BLOCKS, LINKS

Unit = Callable[[int, int, bool], nn.Module]  # (channels in, channels out, last of its path) -> half the resolution

# How a path upsamples after its 1 x 1 convolution (by a whole factor, or not at all), and how it then fits.
UPSAMPLINGS: Mapping[str, tuple[str | None, Fit]] = {
    "nearest": ("nearest", cropped),  # HRNet's classifiers; the authors take sizes that the strides divide
    "nearest+bilinear": ("nearest", partial(resized, align_corners=True)),  # HRFormer, classifiers and segmentation
    "bilinear": ("bilinear", resized),  # HRFormer, pose
    "resize": (None, resized),  # HRNet's segmentation networks
    "resize_aligned": (None, partial(resized, align_corners=True)),  # the same with OCR
}


@LINKS.add("hrnet")
def hrnet(inputs: Sequence[Map], outputs: Sequence[Map], *, upsample: str = "nearest") -> "Exchange":
    """Dense exchange between all branches with ReLU, then the transition to other widths and further branches.

    With fewer outputs than inputs only the finest are computed, as at the end of the pose networks. A single map is
    not exchanged. `upsample` is one of UPSAMPLINGS.
    """
    return exchange("hrnet", inputs, outputs, upsample, _unit)


@BLOCKS.add("bottleneck")
class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution with batch norm, and a residual: (B, C, H, W) -> (B, C', H, W).

    He et al., Deep Residual Learning, 2016. The inner width is C' / `expansion`; the shortcut is a projection unless
    it can be the identity. `depthwise` is the 3 x 3 convolution in HRFormer's classifier. Nothing is dropped.
    """

    drops = False

    def __init__(
        self, c_in: int, c_out: int, drop_path: float = 0.0, *, expansion: int = 4, depthwise: bool = False
    ) -> None:
        super().__init__()
        if expansion < 1 or c_out % expansion:
            raise InputError(f"block 'bottleneck': expansion must divide channels, but got {expansion} and {c_out}")
        width = c_out // expansion
        self.main = Layers(
            nn.Conv2d(c_in, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1, groups=width if depthwise else 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        projection = Layers(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.shortcut = nn.Identity() if c_in == c_out else projection

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x).add_(self.shortcut(x)), inplace=True)


@BLOCKS.add("basic")
class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and a residual: (B, C, H, W) -> (B, C, H, W). Nothing is dropped."""

    drops = False

    def __init__(self, c_in: int, c_out: int, drop_path: float = 0.0) -> None:
        super().__init__()
        if c_in != c_out:
            raise InputError(f"block 'basic': it keeps its channels, but got {c_in} -> {c_out}")
        self.main = Layers(*_convolution(c_in, c_in), nn.ReLU(inplace=True), *_convolution(c_in, c_in))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x).add_(x), inplace=True)


class Exchange(nn.Module):
    """Two links, one after the other: `fuse` sums over all branches, `grow` leads to other widths and new branches."""

    def __init__(self, fuse: Link, grow: Link) -> None:
        super().__init__()
        self.fuse = fuse
        self.grow = grow
        self.inputs = fuse.inputs
        self.outputs = grow.outputs

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """(B, C_j, H_j, W_j) of every input -> (B, C_i, H_i, W_i) of every output."""
        grown: list[Tensor] = self.grow(self.fuse(maps))
        return grown

    def parts(self, sizes: Sequence[Size], batch: int = 1) -> Iterator[Piece]:
        """The paths of both links."""
        for name, link in (("fuse", self.fuse), ("grow", self.grow)):
            for piece in link.parts(sizes, batch):
                yield Piece(f"{name}.{piece.name}", piece.module, piece.shapes)


def exchange(kind: str, inputs: Sequence[Map], outputs: Sequence[Map], upsample: str, unit: Unit) -> Exchange:
    """The link of HRNet and HRFormer, which differ in the units of the paths that lead down."""
    require_pyramids(kind, inputs, outputs)
    if upsample not in UPSAMPLINGS:
        raise InputError(f"link {kind!r}: upsample {upsample!r} does not exist; {suggestion(upsample, UPSAMPLINGS)}")
    mode, fit = UPSAMPLINGS[upsample]
    kept = inputs[: len(outputs)]
    paths = {
        (i, j): _path(source.channels, target.channels, i - j, mode, unit)
        for i, target in enumerate(kept)
        for j, source in enumerate(inputs)
    }
    act = nn.ReLU(inplace=True) if len(inputs) > 1 else None
    return Exchange(Link(inputs, kept, paths, act, fit=fit), _transition(kept, outputs))


@shared
def _path(c_in: int, c_out: int, octaves: int, mode: str | None, unit: Unit) -> nn.Module:
    """Down by `octaves` if positive, up if negative, the identity if zero."""
    if octaves == 0:
        return nn.Identity()
    if octaves < 0:
        upsample = [nn.Upsample(scale_factor=2**-octaves, mode=mode)] if mode else []
        return Layers(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), *upsample)
    widths = [*[c_in] * octaves, c_out]
    return Layers(*(unit(*pair, place == octaves) for place, pair in enumerate(pairwise(widths), start=1)))


def _unit(c_in: int, c_out: int, last: bool) -> nn.Sequential:
    return Layers(*_convolution(c_in, c_out, stride=2), *([] if last else [nn.ReLU(inplace=True)]))


def _transition(inputs: Sequence[Map], outputs: Sequence[Map]) -> Link:
    """A convolution where a width changes; new branches are strided convolutions of the coarsest map.

    Differs from some of the authors' releases: a branch whose width changes reads itself, where they read the coarsest
    map, which fails but for the coarsest branch.
    """
    paths = {
        (i, min(i, len(inputs) - 1)): _grown(inputs[min(i, len(inputs) - 1)].channels, output.channels, i, len(inputs))
        for i, output in enumerate(outputs)
    }
    return Link(inputs, outputs, paths)


@shared
def _grown(c_in: int, c_out: int, index: int, branches: int) -> nn.Module:
    if index < branches:
        return nn.Identity() if c_in == c_out else Layers(*_convolution(c_in, c_out), nn.ReLU(inplace=True))
    widths = [*[c_in] * (index - branches + 1), c_out]
    units = (_convolution(before, after, stride=2) for before, after in pairwise(widths))
    return Layers(*(Layers(*unit, nn.ReLU(inplace=True)) for unit in units))


def _convolution(c_in: int, c_out: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)]
