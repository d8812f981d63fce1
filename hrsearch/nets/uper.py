"""UPerNet (Xiao et al., Unified Perceptual Parsing for Scene Understanding, 2018), as trained with HRViT."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from hrsearch.arch import Map
from hrsearch.errors import InputError
from hrsearch.nets.heads import shapes_of
from hrsearch.nets.layers import Layers
from hrsearch.nets.link import Piece, Size, resized
from hrsearch.registry import HEADS


@HEADS.add("uper")
class UnifiedPerception(nn.Module):
    """Pools the coarsest map, leads it down a feature pyramid: list of (B, C_i, H_i, W_i) -> (B, classes, H_0, W_0).

    `pools` are the sides of the pooled maps. With `auxiliary`, training also asks a convolution of width 256 on the
    second coarsest map; its parameters count, its FLOPs do not. The logits have the size of the finest map; resizing
    them to the image's labels is the caller's.
    """

    def __init__(
        self,
        inputs: Sequence[Map],
        classes: int,
        *,
        width: int = 512,
        pools: tuple[int, ...] = (1, 2, 3, 6),
        dropout: float = 0.1,
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        if width < 1 or any(not isinstance(side, int) or side < 1 for side in pools):
            raise InputError(f"head 'uper': width >= 1 and pools >= 1 must hold, but got {width} and {list(pools)}")
        *finer, coarsest = self.inputs = tuple(inputs)
        self.pool = nn.ModuleList(
            Layers(nn.AdaptiveAvgPool2d(side), *_unit(coarsest.channels, width, 1)) for side in pools
        )
        self.coarsest = Layers(*_unit(coarsest.channels + len(pools) * width, width, 3))
        self.project = nn.ModuleList(Layers(*_unit(each.channels, width, 1)) for each in finer)
        self.smooth = nn.ModuleList(Layers(*_unit(width, width, 3)) for _ in finer)
        self.fuse = Layers(*_unit(len(inputs) * width, width, 3))
        self.drop = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, classes, 1)
        self.auxiliary = Auxiliary(inputs[max(len(inputs) - 2, 0)].channels, classes) if auxiliary else None

    def forward(self, maps: list[Tensor]) -> Tensor:
        levels = [self._pooled(maps[-1])]
        for project, each in zip(reversed(self.project), reversed(maps[:-1]), strict=True):
            levels.insert(0, project(each) + resized(levels[0], _size(each)))
        smooth = [smooth(each) for smooth, each in zip(self.smooth, levels[:-1], strict=True)]
        fused = self.fuse(torch.cat([resized(each, _size(maps[0])) for each in [*smooth, levels[-1]]], dim=1))
        logits: Tensor = self.classifier(self.drop(fused))
        return logits

    def predictions(self, maps: list[Tensor]) -> list[Tensor]:
        """The prediction and, for training, the auxiliary one: (B, classes, H_0, W_0), (B, classes, H_2, W_2)."""
        auxiliary = [] if self.auxiliary is None else [self.auxiliary(maps[max(len(maps) - 2, 0)])]
        return [self(maps), *auxiliary]

    def parts(self, sizes: Sequence[Size], batch: int = 1) -> Iterator[Piece]:
        """The head as a whole, as it predicts: without the auxiliary convolutions."""
        yield Piece("", self, shapes_of(self.inputs, sizes, batch))

    def _pooled(self, coarsest: Tensor) -> Tensor:
        """The coarsest map with what surrounds it at every scale: (B, C, H, W) -> (B, width, H, W)."""
        pooled = [resized(pool(coarsest), _size(coarsest)) for pool in self.pool]
        context: Tensor = self.coarsest(torch.cat([coarsest, *pooled], dim=1))
        return context


class Auxiliary(Layers):
    """A prediction that only training asks for: (B, C, H, W) -> (B, classes, H, W)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(*_unit(channels, 256, 3), nn.Dropout2d(0.1), nn.Conv2d(256, classes, 1))


def _unit(c_in: int, c_out: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, kernel, 1, kernel // 2, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]


def _size(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]
