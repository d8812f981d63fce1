"""Stems: links from the image to one map at stride 4."""

from collections.abc import Sequence

from torch import nn

from hrsearch.arch import Map
from hrsearch.errors import InputError
from hrsearch.nets.layers import Layers
from hrsearch.nets.link import Link, require_one
from hrsearch.registry import LINKS


@LINKS.add("conv_stem")
def conv_stem(inputs: Sequence[Map], outputs: Sequence[Map], *, hidden: int = 0, bias: bool = True) -> Link:
    """Two 3 x 3 convolutions of stride 2, each with batch norm and ReLU, as in HRViT (Gu et al., 2022).

    `hidden` is the width between them, 0 for half of the output's. HRNet and HRFormer have `hidden: 64, bias: false`.
    """
    image, output = require_one("conv_stem", inputs, outputs, ratio=4)
    if hidden < 0 or (hidden == 0 and output.channels % 2):
        raise InputError(f"link 'conv_stem': give hidden > 0, or even channels, but got {hidden} and {output.channels}")
    width = hidden or output.channels // 2
    path = Layers(
        nn.Conv2d(image.channels, width, 3, 2, 1, bias=bias),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, output.channels, 3, 2, 1, bias=bias),
        nn.BatchNorm2d(output.channels),
        nn.ReLU(inplace=True),
    )
    return Link(inputs, outputs, {(0, 0): path})
