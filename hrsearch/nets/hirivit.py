"""HIRI-ViT (Yao et al., Scaling Vision Transformer with High Resolution Inputs, 2024): two-branch stem and block.

No code of the authors is public. What their text leaves open (norms and activations inside the branches, the
residual of the block, the expansion of the downsampling) is chosen to reproduce their published FLOPs.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from hrsearch.arch import Map
from hrsearch.errors import InputError, suggestion
from hrsearch.nets.link import Link, cropped, require_one
from hrsearch.nets.norm import DropPath
from hrsearch.registry import BLOCKS, LINKS


@LINKS.add("hr_stem")
def hr_stem(inputs: Sequence[Map], outputs: Sequence[Map], *, hidden: int = 0) -> Link:
    """The stem of two branches, one of which works at half the resolution. `hidden`: its width, 0 for the output's."""
    image, output = require_one("hr_stem", inputs, outputs, ratio=4)
    if hidden < 0:
        raise InputError(f"link 'hr_stem': hidden >= 0 must hold, but got {hidden}")
    return Link(inputs, outputs, {(0, 0): TwoBranchStem(image.channels, hidden or output.channels, output.channels)})


@LINKS.add("irds")
def irds(
    inputs: Sequence[Map], outputs: Sequence[Map], *, variant: str = "a", expansion: int = 6, shortcut: bool = True
) -> Link:
    """Inverted residual downsampling: one map to one map at twice the stride.

    Variant "a" expands with a strided 3 x 3 convolution, "b" with a 1 x 1 one before a strided depthwise one, and
    "plain" is a single strided 3 x 3 convolution with batch norm, for which the other options mean nothing.
    """
    source, output = require_one("irds", inputs, outputs, ratio=2)
    if variant not in DOWNSAMPLINGS:
        raise InputError(f"link 'irds': variant {variant!r} does not exist; {suggestion(variant, DOWNSAMPLINGS)}")
    if expansion < 1:
        raise InputError(f"link 'irds': expansion >= 1 must hold, but got {expansion}")
    main = DOWNSAMPLINGS[variant](source.channels, expansion * source.channels, output.channels)
    beside = shortcut and variant != "plain"
    return Link(inputs, outputs, {(0, 0): WithShortcut(main, source.channels, output.channels) if beside else main})


@BLOCKS.add("hr")
class TwoBranchBlock(nn.Module):
    """HR block: a depthwise convolution beside a feed-forward at half the resolution, and a residual.

    (B, C, H, W) -> (B, C, H, W). `ratio` is the feed-forward's expansion.
    """

    def __init__(self, c_in: int, c_out: int, drop_path: float = 0.0, *, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(c_in * ratio)
        if c_in != c_out:
            raise InputError(f"block 'hr': it keeps its channels, but got {c_in} -> {c_out}")
        if hidden < 1:
            raise InputError(f"block 'hr': channels * ratio >= 1 must hold, but got {c_in} * {ratio}")
        self.high = nn.Sequential(nn.Conv2d(c_in, c_in, 3, 1, 1, groups=c_in, bias=False), nn.BatchNorm2d(c_in))
        self.low = nn.Sequential(
            nn.Conv2d(c_in, c_in, 3, 2, 1, groups=c_in, bias=False),
            nn.BatchNorm2d(c_in),
            nn.Conv2d(c_in, hidden, 1),
            nn.GELU(),
            nn.Conv2d(hidden, c_in, 1),
            nn.Upsample(scale_factor=2, mode="nearest"),
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        low = cropped(self.low(x), (x.shape[-2], x.shape[-1]))
        residual: Tensor = self.drop_path(self.high(x) + low)
        return x + residual


class TwoBranchStem(nn.Module):
    """A strided convolution, then a branch at that resolution beside one at half of it, then batch norm."""

    def __init__(self, c_in: int, hidden: int, c_out: int) -> None:
        super().__init__()
        self.entry = nn.Sequential(*_convolution(c_in, hidden, stride=2))
        self.high = nn.Sequential(
            *_convolution(hidden, hidden, groups=hidden),
            nn.Conv2d(hidden, c_out, 3, 2, 1, bias=False),
        )
        self.low = nn.Sequential(
            *_convolution(hidden, hidden, stride=2),
            *_convolution(hidden, hidden),
            nn.Conv2d(hidden, c_out, 1, bias=False),
        )
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / 4, W / 4), rounded up."""
        x = self.entry(image)
        out: Tensor = self.norm(self.high(x) + self.low(x))
        return out


class WithShortcut(nn.Module):
    """A downsampling with average pooling and a 1 x 1 convolution beside it: (B, C, H, W) -> (B, C', H / 2, W / 2)."""

    def __init__(self, main: nn.Module, c_in: int, c_out: int) -> None:
        super().__init__()
        self.main = main
        pool = nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)
        self.shortcut = nn.Sequential(pool, nn.Conv2d(c_in, c_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.main(x) + self.shortcut(x)
        return out


def _early(c_in: int, hidden: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, hidden, 3, 2, 1, bias=False), nn.BatchNorm2d(hidden), nn.GELU(), nn.Conv2d(hidden, c_out, 1)
    )


def _late(c_in: int, hidden: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 3, 2, 1, groups=hidden),
        nn.Conv2d(hidden, c_out, 1),
    )


def _plain(c_in: int, hidden: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, 2, 1), nn.BatchNorm2d(c_out))


DOWNSAMPLINGS = {"a": _early, "b": _late, "plain": _plain}


def _convolution(c_in: int, c_out: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(c_in, c_out, 3, stride, 1, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(c_out), nn.ReLU()]
