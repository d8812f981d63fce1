"""Heads: from a pyramid of maps, finest first, to a prediction.

A head with auxiliary predictions, which only training asks for, delivers them behind its own by `predictions`.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.arch import Map
from hrsearch.errors import InputError
from hrsearch.nets.hrnet import Bottleneck
from hrsearch.nets.layers import Layers
from hrsearch.nets.link import Piece, Size, resized
from hrsearch.registry import HEADS


@HEADS.add("classify")
class Classify(nn.Module):
    """Global average of every map, then one linear layer: list of (B, C_i, H_i, W_i) -> (B, classes)."""

    def __init__(self, inputs: Sequence[Map], classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.drop = nn.Dropout(dropout)
        self.classifier = nn.Linear(sum(each.channels for each in inputs), classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        pooled = torch.cat([each.mean((2, 3)) for each in maps], dim=1)
        logits: Tensor = self.classifier(self.drop(pooled))
        return logits

    def parts(self, sizes: Sequence[Size], batch: int = 1) -> Iterator[Piece]:
        """The linear layer."""
        yield Piece("classifier", self.classifier, ((batch, self.classifier.in_features),))


@HEADS.add("classify_hr")
class ClassifyHighResolution(nn.Module):
    """The classifier of HRNet and HRViT: widens four maps and adds each to the next coarser: -> (B, classes).

    Its widths are fixed, so that it holds some 12 M parameters and 1 GFLOPs at 224 x 224 whatever the backbone. With
    `depthwise` 3 x 3 convolutions it is HRFormer's, of 5 M. HRNet and HRFormer have `dropout: 0`.
    """

    WIDTHS = (32, 64, 128, 256)  # of the bottlenecks, which deliver four times as many

    def __init__(self, inputs: Sequence[Map], classes: int, *, dropout: float = 0.1, depthwise: bool = False) -> None:
        super().__init__()
        if len(inputs) != len(self.WIDTHS):
            raise InputError(f"head 'classify_hr': it needs {len(self.WIDTHS)} maps, but got {len(inputs)}")
        wide = [4 * width for width in self.WIDTHS]
        self.inputs = tuple(inputs)
        self.widen = nn.ModuleList(
            Bottleneck(source.channels, width, depthwise=depthwise) for source, width in zip(inputs, wide, strict=True)
        )
        down = _separable_down if depthwise else _down
        self.down = nn.ModuleList(Layers(*down(fine, coarse)) for fine, coarse in pairwise(wide))
        self.final = Layers(nn.Conv2d(wide[-1], 2048, 1), nn.BatchNorm2d(2048), nn.ReLU(inplace=True))
        self.drop = nn.Dropout(dropout)
        self.classifier = nn.Linear(2048, classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """List of (B, C_i, H_i, W_i), each half as large as the last, rounded up -> (B, classes)."""
        x: Tensor = self.widen[0](maps[0])
        for widen, down, finer in zip(list(self.widen)[1:], self.down, maps[1:], strict=True):
            x = widen(finer) + down(x)
        logits: Tensor = self.classifier(self.drop(self.final(x).mean((2, 3))))
        return logits

    def parts(self, sizes: Sequence[Size], batch: int = 1) -> Iterator[Piece]:
        """The head as a whole: its sums tie the pieces together."""
        yield Piece("", self, shapes_of(self.inputs, sizes, batch))


def _down(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, 2, 1), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]


def _separable_down(c_in: int, c_out: int) -> list[nn.Module]:
    depthwise = [nn.Conv2d(c_in, c_in, 3, 2, 1, groups=c_in), nn.BatchNorm2d(c_in)]
    return [*depthwise, nn.Conv2d(c_in, c_out, 1), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]


@HEADS.add("segformer")
class SegFormer(nn.Module):
    """All-MLP decoder (Xie et al., SegFormer, 2021): list of (B, C_i, H_i, W_i) -> (B, classes, H_0, W_0).

    The logits have the size of the finest map; resizing them to the image's labels is the caller's. As in HRViT's
    segmentation networks the projections carry a bias and neither norm nor activation.
    """

    def __init__(self, inputs: Sequence[Map], classes: int, *, width: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"head 'segformer': width >= 1 must hold, but got {width}")
        self.project = nn.ModuleList(nn.Conv2d(source.channels, width, 1) for source in inputs)
        self.fuse = Layers(
            nn.Conv2d(len(inputs) * width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.drop = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, classes, 1)
        self.inputs = tuple(inputs)

    def forward(self, maps: list[Tensor]) -> Tensor:
        size = maps[0].shape[-2:]
        projected = [project(each) for project, each in zip(self.project, maps, strict=True)]
        coarse = [F.interpolate(each, size, mode="bilinear", align_corners=False) for each in projected[1:]]
        fused = self.fuse(torch.cat([projected[0], *coarse], dim=1))
        logits: Tensor = self.classifier(self.drop(fused))
        return logits

    def parts(self, sizes: Sequence[Size], batch: int = 1) -> Iterator[Piece]:
        """Each projection, the fusing convolution and the classifier; resizing is not counted."""
        for index, (project, source) in enumerate(zip(self.project, self.inputs, strict=True)):
            yield Piece(f"project.{index}", project, ((batch, source.channels, *sizes[index]),))
        width = self.classifier.in_channels
        yield Piece("fuse", self.fuse, ((batch, len(self.inputs) * width, *sizes[0]),))
        yield Piece("classifier", self.classifier, ((batch, width, *sizes[0]),))


@HEADS.add("fcn")
class Concatenation(nn.Module):
    """HRNet's segmentation head: list of (B, C_i, H_i, W_i) -> (B, classes, H_0, W_0).

    All maps at the size of the finest, two 1 x 1 convolutions, the first as wide as all maps together. The logits
    have the size of the finest map; resizing them to the image's labels is the caller's.
    """

    def __init__(self, inputs: Sequence[Map], classes: int, *, align_corners: bool = False) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.align_corners = align_corners
        width = sum(each.channels for each in inputs)
        self.fuse = Layers(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(self.fuse(stacked(maps, align_corners=self.align_corners)))
        return logits

    def parts(self, sizes: Sequence[Size], batch: int = 1) -> Iterator[Piece]:
        """Both convolutions; resizing is not counted."""
        shape = (batch, self.classifier.in_channels, *sizes[0])
        yield Piece("fuse", self.fuse, (shape,))
        yield Piece("classifier", self.classifier, (shape,))


@HEADS.add("pose")
class Heatmaps(nn.Module):
    """A heatmap per keypoint from the finest map: list of (B, C_i, H_i, W_i) -> (B, classes, H_0, W_0).

    The published networks end in that map alone: their last link has one output.
    """

    def __init__(self, inputs: Sequence[Map], classes: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(inputs[0].channels, classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        heatmaps: Tensor = self.classifier(maps[0])
        return heatmaps

    def parts(self, sizes: Sequence[Size], batch: int = 1) -> Iterator[Piece]:
        """The convolution."""
        yield Piece("classifier", self.classifier, ((batch, self.classifier.in_channels, *sizes[0]),))


def stacked(maps: list[Tensor], *, align_corners: bool) -> Tensor:
    """All maps beside each other, bilinearly resized to the finest: list of (B, C_i, H_i, W_i) -> (B, C, H_0, W_0)."""
    size = (maps[0].shape[-2], maps[0].shape[-1])
    return torch.cat([resized(each, size, align_corners=align_corners) for each in maps], dim=1)


def shapes_of(inputs: Sequence[Map], sizes: Sequence[Size], batch: int) -> tuple[tuple[int, ...], ...]:
    """The shapes of maps of these sizes."""
    return tuple((batch, each.channels, *size) for each, size in zip(inputs, sizes, strict=True))
