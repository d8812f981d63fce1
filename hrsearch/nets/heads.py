"""Heads: from a pyramid of maps, finest first, to a prediction."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.arch import Map
from hrsearch.errors import InputError
from hrsearch.nets.link import Piece, Size
from hrsearch.registry import HEADS


@HEADS.add("classify")
class Classify(nn.Module):
    """Global average of every map, then one linear layer: list of (B, C_i, H_i, W_i) -> (B, classes)."""

    def __init__(self, inputs: Sequence[Map], classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
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

    Its widths are fixed, so that it holds some 12 M parameters and 1 GFLOPs at 224 x 224 whatever the backbone.
    """

    WIDTHS = (32, 64, 128, 256)  # of the bottlenecks, which deliver four times as many

    def __init__(self, inputs: Sequence[Map], classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        if len(inputs) != len(self.WIDTHS):
            raise InputError(f"head 'classify_hr': it needs {len(self.WIDTHS)} maps, but got {len(inputs)}")
        wide = [4 * width for width in self.WIDTHS]
        self.inputs = tuple(inputs)
        self.widen = nn.ModuleList(
            Bottleneck(source.channels, width) for source, width in zip(inputs, self.WIDTHS, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(fine, coarse, 3, 2, 1), nn.BatchNorm2d(coarse), nn.ReLU())
            for fine, coarse in pairwise(wide)
        )
        self.final = nn.Sequential(nn.Conv2d(wide[-1], 2048, 1), nn.BatchNorm2d(2048), nn.ReLU())
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
        shapes = ((batch, source.channels, *size) for source, size in zip(self.inputs, sizes, strict=True))
        yield Piece("", self, tuple(shapes))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution with batch norm, and a residual: (B, C, H, W) -> (B, 4 * width, H, W).

    He et al., Deep Residual Learning, 2016. The shortcut is a projection unless it can be the identity.
    """

    def __init__(self, c_in: int, width: int) -> None:
        super().__init__()
        c_out = 4 * width
        self.main = nn.Sequential(
            nn.Conv2d(c_in, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        projection = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.shortcut = nn.Identity() if c_in == c_out else projection

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.shortcut(x))


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
        self.fuse = nn.Sequential(
            nn.Conv2d(len(inputs) * width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
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
