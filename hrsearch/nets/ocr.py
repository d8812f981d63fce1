"""Object-contextual representations (Yuan et al., 2020): the segmentation head of HRFormer and of HRNet with OCR."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.arch import Map
from hrsearch.errors import InputError, suggestion
from hrsearch.nets.heads import shapes_of, stacked
from hrsearch.nets.layers import Layers
from hrsearch.nets.link import Piece, Size
from hrsearch.registry import HEADS

VARIANTS = ("v2", "v3", "hrnet")


@HEADS.add("ocr")
class ObjectContext(nn.Module):
    """Each pixel asks the mean of each coarsely found class: list of (B, C_i, H_i, W_i) -> (B, classes, H_0, W_0).

    Variant "v2" is HRFormer's, "v3" has grouped 7 x 7 in place of its two 3 x 3 convolutions, and "hrnet" finds the
    classes by 1 x 1 convolutions and has no biases inside. Queries, keys and values are `width` / 2 wide.
    The logits have the size of the finest map; resizing them to the image's labels is the caller's.
    """

    def __init__(
        self, inputs: Sequence[Map], classes: int, *, variant: str = "v2", width: int = 512, dropout: float = 0.05
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise InputError(f"head 'ocr': variant {variant!r} does not exist; {suggestion(variant, VARIANTS)}")
        if width < 2 or width % 2:
            raise InputError(f"head 'ocr': width must be even, but got {width}")
        self.inputs = tuple(inputs)
        total, dense = sum(each.channels for each in inputs), variant == "hrnet"
        kernel, groups = (7, math.gcd(total, width)) if variant == "v3" else (3, 1)
        coarse = (total, total) if dense else (total, width, kernel, groups)
        self.coarse = Layers(*_unit(*coarse))
        self.aux_classifier = nn.Conv2d(coarse[1], classes, 1)
        self.pixels = Layers(*_unit(total, width, kernel, groups))
        inner = partial(_unit, bias=not dense)
        self.query = Layers(*inner(width, width // 2), *inner(width // 2, width // 2))
        self.key = Layers(*inner(width, width // 2), *inner(width // 2, width // 2))
        self.value = Layers(*inner(width, width // 2))
        self.up = Layers(*inner(width // 2, width))
        self.fuse = Layers(*inner(2 * width, width))
        self.drop = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.predictions(maps)[0]

    def predictions(self, maps: list[Tensor]) -> list[Tensor]:
        """The prediction and, for training, the coarse one: twice (B, classes, H_0, W_0)."""
        whole = stacked(maps, align_corners=True)
        coarse = self.aux_classifier(self.coarse(whole))
        pixels = self.pixels(whole)
        context = self._context(pixels, _regions(coarse, pixels))
        return [self.classifier(self.drop(self.fuse(torch.cat([context, pixels], dim=1)))), coarse]

    def parts(self, sizes: Sequence[Size], batch: int = 1) -> Iterator[Piece]:
        """The head as a whole: its products of matrices belong to none of its modules."""
        yield Piece("", self, shapes_of(self.inputs, sizes, batch))

    def _context(self, pixels: Tensor, regions: Tensor) -> Tensor:
        """What the regions (B, C, K, 1) say to each pixel: (B, C, H, W) -> (B, C, H, W)."""
        asked = (self.query(pixels), self.key(regions), self.value(regions))
        query, key, value = (each.flatten(2).transpose(1, 2).unsqueeze(1) for each in asked)
        out = F.scaled_dot_product_attention(query, key, value).squeeze(1).transpose(1, 2)
        context: Tensor = self.up(out.reshape(*out.shape[:2], *pixels.shape[-2:]))
        return context


def _regions(coarse: Tensor, pixels: Tensor) -> Tensor:
    """The mean of the pixels (B, C, H, W), weighted by each class of (B, K, H, W): (B, C, K, 1)."""
    shares = coarse.flatten(2).softmax(dim=-1)
    return (shares @ pixels.flatten(2).transpose(1, 2)).transpose(1, 2).unsqueeze(-1)


def _unit(c_in: int, c_out: int, kernel: int = 1, groups: int = 1, *, bias: bool = True) -> list[nn.Module]:
    convolution = nn.Conv2d(c_in, c_out, kernel, 1, kernel // 2, groups=groups, bias=bias)
    return [convolution, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
