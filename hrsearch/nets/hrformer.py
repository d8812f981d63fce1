"""HRFormer (Yuan et al., High-Resolution Transformer for Dense Prediction, 2021).

Written from the architecture, not from the authors' code; what their release computes is held by tests/test_golden.py.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.arch import Map
from hrsearch.errors import InputError
from hrsearch.nets.hrnet import Exchange, exchange
from hrsearch.nets.layers import Layers, recorded
from hrsearch.nets.norm import DropPath
from hrsearch.registry import BLOCKS, LINKS


@LINKS.add("hrformer")
def hrformer(inputs: Sequence[Map], outputs: Sequence[Map], *, upsample: str = "nearest+bilinear") -> Exchange:
    """The exchange and transition of HRNet with depthwise separable convolutions on the paths that lead down.

    Differs from the paper, which says that the exchange is HRNet's, as the authors' code does. Options as in "hrnet".
    """
    return exchange("hrformer", inputs, outputs, upsample, _unit)


@BLOCKS.add("window")
class WindowBlock(nn.Module):
    """Attention inside square windows, then a convolutional feed-forward, each a residual: (B, C, H, W) -> the same.

    `window` is the side of a window in pixels; maps that it does not divide are padded. C has C // `head_dim` heads,
    at least one. `ratio` is the feed-forward's expansion and `kernel` its depthwise convolution's, 0 for none.
    `position` is the relative position bias, which the authors' pose networks do without.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        drop_path: float = 0.0,
        *,
        window: int = 7,
        head_dim: int = 32,
        ratio: float = 4.0,
        kernel: int = 3,
        position: bool = True,
    ) -> None:
        super().__init__()
        if c_in != c_out:
            raise InputError(f"block 'window': it keeps its channels, but got {c_in} -> {c_out}")
        self.attention_norm = nn.LayerNorm(c_in, eps=1e-6)
        self.attention = WindowAttention(c_in, window, head_dim, position)
        self.feed_norm = nn.LayerNorm(c_in, eps=1e-6)
        self.feed = _feed_forward(c_in, ratio, kernel)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = x.permute(0, 2, 3, 1)
        tokens = tokens + self.drop_path(self.attention(self.attention_norm(tokens)))
        x = tokens.permute(0, 3, 1, 2)
        fed: Tensor = self.drop_path(self.feed(self.feed_norm(tokens).permute(0, 3, 1, 2)))
        return x + fed


class WindowAttention(nn.Module):
    """Multi-head attention inside windows of `window` x `window` pixels: (B, H, W, C) -> (B, H, W, C).

    The map is padded with zeros on all sides, which as keys take part in the softmax.
    """

    def __init__(self, channels: int, window: int, head_dim: int, position: bool) -> None:
        super().__init__()
        if window < 1:
            raise InputError(f"block 'window': window >= 1 must hold, but got {window}")
        self.channels = channels
        self.window = window
        self.heads = _heads(channels, head_dim)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)
        self.position = RelativePosition(window, self.heads) if position else None

    def forward(self, tokens: Tensor) -> Tensor:
        _, height, width, _ = tokens.shape
        down, right = -height % self.window, -width % self.window
        top, left = down // 2, right // 2
        if down or right:
            tokens = F.pad(tokens, (0, 0, left, right - left, top, down - top))
        attended = self.output(self._attend(self.query_key_value(_windows(tokens, self.window))))
        whole = _map(attended, self.window, (height + down, width + right))
        return whole[:, top : top + height, left : left + width]

    def extra_repr(self) -> str:
        return f"channels={self.channels}, window={self.window}, heads={self.heads}"

    def _attend(self, query_key_value: Tensor) -> Tensor:
        """(windows, L, 3 * C) -> (windows, L, C)."""
        windows, tokens, _ = query_key_value.shape
        shape = (windows, tokens, self.heads, self.channels // self.heads)
        query, key, value = (each.reshape(shape).transpose(1, 2) for each in query_key_value.chunk(3, dim=-1))
        bias = None if self.position is None else self.position().to(query.dtype)
        out = _attention(query, key, value, bias)
        return out.transpose(1, 2).reshape(windows, tokens, self.channels)


class RelativePosition(nn.Module):
    """A learned bias on the logits of every pair of pixels of a window, by how far apart they are: -> (1, heads, L, L).

    `table` is ((2 * window - 1) ** 2, heads), its rows by vertical and then horizontal distance.
    """

    index: Tensor

    def __init__(self, window: int, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.register_buffer("index", relative_index(window).flatten().to(self.table.device), persistent=False)

    def forward(self) -> Tensor:
        tokens = int(len(self.index) ** 0.5)
        return self.table.t().index_select(1, self.index).view(1, -1, tokens, tokens)

    def extra_repr(self) -> str:
        return f"{tuple(self.table.shape)}"


def relative_index(window: int) -> Tensor:
    """The row of the table for query l and key m, both row by row: (L, L), on the CPU."""
    place = torch.arange(window, device="cpu")  # to subtract meta tensors torch would load its compiler: a second
    offset = place[:, None] - place[None] + window - 1
    tokens = window * window
    return (offset[:, None, :, None] * (2 * window - 1) + offset[None, :, None, :]).reshape(tokens, tokens)


@BLOCKS.add("separable")
class SeparableBlock(nn.Module):
    """Two depthwise separable 3 x 3 convolutions with batch norm, and a residual: (B, C, H, W) -> (B, C, H, W).

    The convolutional stand-in for the window block in HRFormer's code. Nothing is dropped.
    """

    drops = False

    def __init__(self, c_in: int, c_out: int, drop_path: float = 0.0) -> None:
        super().__init__()
        if c_in != c_out:
            raise InputError(f"block 'separable': it keeps its channels, but got {c_in} -> {c_out}")
        self.main = Layers(*separable(c_in, c_in), nn.ReLU(inplace=True), *separable(c_in, c_in))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x).add_(x), inplace=True)


def separable(c_in: int, c_out: int, stride: int = 1) -> list[nn.Module]:
    """A depthwise 3 x 3 and a 1 x 1 convolution, each with batch norm and without bias."""
    return [
        nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False),
        nn.BatchNorm2d(c_in),
        nn.Conv2d(c_in, c_out, 1, bias=False),
        nn.BatchNorm2d(c_out),
    ]


def _unit(c_in: int, c_out: int, last: bool) -> nn.Sequential:
    return Layers(*separable(c_in, c_out, stride=2), *([] if last else [nn.ReLU(inplace=True)]))


def _feed_forward(channels: int, ratio: float, kernel: int) -> nn.Sequential:
    """1 x 1, depthwise and 1 x 1 convolution, each with bias, batch norm and GELU: (B, C, H, W) -> (B, C, H, W)."""
    hidden = int(channels * ratio)
    if hidden < 1:
        raise InputError(f"block 'window': channels * ratio >= 1 must hold, but got {channels} * {ratio}")
    if kernel < 0 or (kernel and kernel % 2 == 0):
        raise InputError(f"block 'window': kernel must be odd, or 0 for none, but got {kernel}")
    convolutions = [nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)]
    if kernel:
        convolutions.insert(1, nn.Conv2d(hidden, hidden, kernel, 1, kernel // 2, groups=hidden))
    return Layers(*(each for one in convolutions for each in (one, nn.BatchNorm2d(one.out_channels), nn.GELU())))


def _heads(channels: int, head_dim: int) -> int:
    if head_dim < 1:
        raise InputError(f"block 'window': head_dim >= 1 must hold, but got {head_dim}")
    heads = max(1, channels // head_dim)
    if channels % heads:
        law = "floor(channels / head_dim) divides channels"
        raise InputError(f"block 'window': {law} must hold, but got channels={channels}, head_dim={head_dim}")
    return heads


def _attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Scaled dot-product attention with a bias on the logits: (windows, heads, L, D) three times -> the same.

    The CPU's fused kernel takes no bias that learns. What PyTorch runs instead takes 1.3 times as long as the formula.
    """
    if bias is None or not bias.requires_grad or not bias.is_cpu or recorded():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    out: Tensor = logits.add_(bias).softmax(dim=-1) @ value
    return out


def _windows(tokens: Tensor, window: int) -> Tensor:
    """(B, H, W, C), sides multiples of `window` -> (B * H * W / L, L, C), through tensors of four dimensions only."""
    batch, height, width, channels = tokens.shape
    down, across = height // window, width // window
    bands = tokens.reshape(batch * down, window, across, window * channels).transpose(1, 2)
    return bands.reshape(batch * down * across, window * window, channels)


def _map(windows: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """The inverse of `_windows` for a map of `size`."""
    (height, width), channels = size, windows.shape[-1]
    bands = windows.reshape(-1, width // window, window, window * channels).transpose(1, 2)
    return bands.reshape(-1, height, width, channels)
