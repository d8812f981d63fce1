"""HIRI-ViT (Yao et al., Scaling Vision Transformer with High Resolution Inputs, 2024): stems, downsampling, HR block.

No code of the authors is public. What their text leaves open (norms and activations inside the branches, the
residual of the block, the expansion and the shortcut of the downsampling) is fitted to their published FLOPs or, where
it costs none, after the same authors' released Wave-ViT. Its other blocks are in nets/transformer.py.
"""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

from hrsearch.arch import Map
from hrsearch.errors import InputError, suggestion
from hrsearch.nets.layers import Layers
from hrsearch.nets.link import Link, Piece, Size, cropped, require_one
from hrsearch.nets.norm import DropPath, named_norm
from hrsearch.registry import BLOCKS, HEADS, LINKS


@LINKS.add("hr_stem")
def hr_stem(inputs: Sequence[Map], outputs: Sequence[Map], *, hidden: int = 0) -> Link:
    """The stem of two branches, one of which works at half the resolution. `hidden`: its width, 0 for the output's."""
    image, output = require_one("hr_stem", inputs, outputs, ratio=4)
    if hidden < 0:
        raise InputError(f"link 'hr_stem': hidden >= 0 must hold, but got {hidden}")
    return Link(inputs, outputs, {(0, 0): TwoBranchStem(image.channels, hidden or output.channels, output.channels)})


@LINKS.add("deep_stem")
def deep_stem(inputs: Sequence[Map], outputs: Sequence[Map], *, hidden: int = 0, middle: int = 2) -> Link:
    """The conv stem: 3 x 3 convolutions, the first and the last of stride 2, `middle` of them (fitted) between.

    Batch norm follows each, ReLU all but the last. `hidden` is the width inside, 0 for half of the output's.
    """
    image, output = require_one("deep_stem", inputs, outputs, ratio=4)
    width = hidden or output.channels // 2
    if width < 1 or middle < 0:
        got = f"hidden={hidden}, channels={output.channels}, middle={middle}"
        raise InputError(f"link 'deep_stem': hidden > 0 or channels > 1, and middle >= 0 must hold, but got {got}")
    inner = [layer for _ in range(middle) for layer in _convolution(width, width)]
    *last, _ = _convolution(width, output.channels, stride=2)
    return Link(inputs, outputs, {(0, 0): Layers(*_convolution(image.channels, width, stride=2), *inner, *last)})


@LINKS.add("vit_stem")
def vit_stem(inputs: Sequence[Map], outputs: Sequence[Map], *, norm: str = "layer") -> Link:
    """A single 7 x 7 convolution of stride 4 and a norm, as in M-ViT, HIRI-ViT's base, and before that PVTv2."""
    image, output = require_one("vit_stem", inputs, outputs, ratio=4)
    path = Layers(nn.Conv2d(image.channels, output.channels, 7, 4, 3), named_norm(norm, output.channels))
    return Link(inputs, outputs, {(0, 0): path})


@LINKS.add("irds")
def irds(
    inputs: Sequence[Map],
    outputs: Sequence[Map],
    *,
    variant: str = "a",
    expansion: int = 6,
    shortcut: str = "pool",
    norm: str = "batch",
) -> Link:
    """Inverted residual downsampling of the coarsest map; it keeps as many of the inputs as the outputs ask for.

    Variant "a" expands with a strided 3 x 3 convolution, "b" with a 1 x 1 one before a strided depthwise one, and
    "plain" is a single strided 3 x 3 convolution with a norm, which has neither expansion nor shortcut. The paper names
    a shortcut and no expansion: 6 and average pooling before a 1 x 1 convolution ("pool") are fitted; "conv" is a
    strided 3 x 3 convolution, "none" leaves it out.
    """
    source, output = inputs[-1], outputs[-1]
    _require_growth(inputs, outputs)
    if variant not in DOWNSAMPLINGS:
        raise InputError(f"link 'irds': variant {variant!r} does not exist; {suggestion(variant, DOWNSAMPLINGS)}")
    if shortcut not in SHORTCUTS:
        raise InputError(f"link 'irds': shortcut {shortcut!r} does not exist; {suggestion(shortcut, SHORTCUTS)}")
    if expansion < 1:
        raise InputError(f"link 'irds': expansion >= 1 must hold, but got {expansion}")
    path = DOWNSAMPLINGS[variant](source.channels, expansion * source.channels, output.channels, norm)
    beside = SHORTCUTS[shortcut](source.channels, output.channels)
    if beside is not None and variant != "plain":
        path = WithShortcut(path, beside)
    last = len(outputs) - 1
    kept = {(i, len(inputs) - last + i): nn.Identity() for i in range(last)}
    return Link(inputs, outputs, {**kept, (last, len(inputs) - 1): path})


def _require_growth(inputs: Sequence[Map], outputs: Sequence[Map]) -> None:
    """The outputs are the coarsest inputs, any number of them, then one map at twice their stride."""
    *kept, last = outputs
    if len(kept) > len(inputs) or kept != list(inputs[len(inputs) - len(kept) :]):
        raise InputError(f"link 'irds': all outputs but the last must be the coarsest inputs, but got {kept}")
    if last.stride != 2 * inputs[-1].stride:
        got = f"{inputs[-1].stride} to {last.stride}"
        raise InputError(f"link 'irds': the last stride must grow by a factor of 2, but got {got}")


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
        self.high = Layers(nn.Conv2d(c_in, c_in, 3, 1, 1, groups=c_in, bias=False), nn.BatchNorm2d(c_in))
        self.low = Layers(
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
        self.entry = Layers(*_convolution(c_in, hidden, stride=2))
        self.high = Layers(
            *_convolution(hidden, hidden, groups=hidden),
            nn.Conv2d(hidden, c_out, 3, 2, 1, bias=False),
        )
        self.low = Layers(
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
    """A downsampling with another beside it: (B, C, H, W) -> (B, C', H / 2, W / 2), rounded up."""

    def __init__(self, main: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.main = main
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.main(x) + self.shortcut(x)
        return out


@HEADS.add("classify_norm")
class ClassifyNormed(nn.Module):
    """Global average of the coarsest map, layer norm, one linear layer: list of (B, C_i, H_i, W_i) -> (B, classes)."""

    def __init__(self, inputs: Sequence[Map], classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs[-1].channels)
        self.drop = nn.Dropout(dropout)
        self.classifier = nn.Linear(inputs[-1].channels, classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(self.drop(self.norm(maps[-1].mean((2, 3)))))
        return logits

    def parts(self, sizes: Sequence[Size], batch: int = 1) -> Iterator[Piece]:
        """The norm and the linear layer."""
        shape = (batch, self.classifier.in_features)
        yield Piece("norm", self.norm, (shape,))
        yield Piece("classifier", self.classifier, (shape,))


def _early(c_in: int, hidden: int, c_out: int, norm: str) -> nn.Module:
    expand = nn.Conv2d(c_in, hidden, 3, 2, 1, bias=False)
    return Layers(expand, named_norm(norm, hidden), nn.GELU(), nn.Conv2d(hidden, c_out, 1))


def _late(c_in: int, hidden: int, c_out: int, norm: str) -> nn.Module:
    return Layers(
        nn.Conv2d(c_in, hidden, 1, bias=False),
        named_norm(norm, hidden),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 3, 2, 1, groups=hidden),
        nn.Conv2d(hidden, c_out, 1),
    )


def _plain(c_in: int, hidden: int, c_out: int, norm: str) -> nn.Module:
    return Layers(nn.Conv2d(c_in, c_out, 3, 2, 1), named_norm(norm, c_out))


def _pooled(c_in: int, c_out: int) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), nn.Conv2d(c_in, c_out, 1))


DOWNSAMPLINGS: dict[str, Callable[[int, int, int, str], nn.Module]] = {"a": _early, "b": _late, "plain": _plain}
SHORTCUTS: dict[str, Callable[[int, int], nn.Module | None]] = {
    "pool": _pooled,
    "conv": lambda c_in, c_out: nn.Conv2d(c_in, c_out, 3, 2, 1),
    "none": lambda c_in, c_out: None,
}


def _convolution(c_in: int, c_out: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(c_in, c_out, 3, stride, 1, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
