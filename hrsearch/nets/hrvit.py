"""HRViT (Gu et al., Multi-Scale High-Resolution Vision Transformer for Semantic Segmentation, 2022).

Written from the architecture, not from the authors' code; what their release computes is held by tests/test_golden.py.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.arch import Map
from hrsearch.errors import InputError
from hrsearch.nets.layers import Layers, folded, folds
from hrsearch.nets.link import Link, require_pyramids
from hrsearch.nets.norm import ChannelNorm, DropPath
from hrsearch.nets.sharing import shared
from hrsearch.registry import BLOCKS, LINKS


@LINKS.add("hrvit")
def hrvit(inputs: Sequence[Map], outputs: Sequence[Map]) -> Link:
    """Dense cross-resolution fusion with GELU, then a patch embedding per branch.

    The pyramid keeps its finest stride and grows by one branch or none. Fusion keeps the widths of the branches
    that exist; only the embedding changes them.
    """
    require_pyramids("hrvit", inputs, outputs)
    if len(outputs) - len(inputs) not in (0, 1):
        got = f"{len(inputs)} to {len(outputs)}"
        raise InputError(f"link 'hrvit': the number of branches must grow by 0 or 1, but got {got}")
    widths = [source.channels for source in inputs]
    if len(outputs) > len(inputs):
        widths.append(outputs[-1].channels)
    paths = {
        (i, j): _path(source.channels, width, i - j)
        for i, width in enumerate(widths)
        for j, source in enumerate(inputs)
    }
    after = {
        i: _embedding(width, output.channels) for i, (width, output) in enumerate(zip(widths, outputs, strict=True))
    }
    return Link(inputs, outputs, paths, nn.GELU(), after, widths)


@shared
def _path(c_in: int, c_out: int, octaves: int) -> nn.Module:
    """Down by `octaves` if positive, up if negative, the identity if zero."""
    if octaves == 0:
        return nn.Identity()
    scale = 2 ** abs(octaves)
    if octaves < 0:
        return Layers(nn.Conv2d(c_in, c_out, 1), nn.BatchNorm2d(c_out), nn.Upsample(scale_factor=scale))
    return Layers(
        nn.Conv2d(c_in, c_in, scale + 1, scale, scale // 2, groups=c_in, bias=False),
        nn.BatchNorm2d(c_in),
        nn.Conv2d(c_in, c_out, 1),
        nn.BatchNorm2d(c_out),
    )


@shared
def _embedding(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1), nn.Conv2d(c_out, c_out, 3, 1, 1, groups=c_out), ChannelNorm(c_out))


@BLOCKS.add("cross")
class CrossBlock(nn.Module):
    """HRViT block: cross-shaped attention with a Kronecker shortcut, then a mixed-scale convolutional feed-forward.

    (B, C, H, W) -> (B, C, H, W). `window` is the thickness of the attention strips in pixels of the map, `head_dim`
    the nominal channels of a head, `ratio` the feed-forward's expansion.
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
    ) -> None:
        super().__init__()
        if c_in != c_out:
            raise InputError(f"block 'cross': it keeps its channels, but got {c_in} -> {c_out}")
        self.attention_norm = nn.LayerNorm(c_in)
        self.attention = CrossAttention(c_in, window, head_dim)
        self.shortcut = KroneckerShortcut(c_in)
        self.feed_norm = nn.LayerNorm(c_in)
        self.feed = MixedFeedForward(c_in, ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = x.permute(0, 2, 3, 1)
        # One mask for both: they are one residual.
        tokens = tokens + self.drop_path(self.attention(self.attention_norm(tokens)) + self.shortcut(tokens))
        tokens = tokens + self.drop_path(self.feed(self.feed_norm(tokens)))
        return tokens.permute(0, 3, 1, 2)


class CrossAttention(nn.Module):
    """Attention in strips of rows for half of the channels and of columns for the other: (B, H, W, C) -> (B, H, W, C).

    Keys are the values. With an odd number of heads each half has one head fewer than half of them, wider than
    the scale of the logits says: so it is in the released networks.
    """

    def __init__(self, channels: int, window: int, head_dim: int) -> None:
        super().__init__()
        if window < 1:
            raise InputError(f"block 'cross': window >= 1 must hold, but got {window}")
        self.channels = channels
        self.window = window
        self.heads, self.scale = _heads(channels, head_dim)  # heads of each half
        self.query_value = nn.Linear(channels, 2 * channels)
        self.local = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)
        self.output = nn.Linear(channels, channels)
        self.norm = nn.BatchNorm2d(channels)
        # The residual starts as the shortcut alone.
        nn.init.zeros_(self.norm.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        query, value = self.query_value(tokens).chunk(2, dim=-1)
        rows, columns = zip(query.chunk(2, dim=-1), value.chunk(2, dim=-1), strict=True)
        local = self.local(F.hardswish(value).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        crossed = torch.cat([self._attend(*rows), _turned(self._attend(*map(_turned, columns)))], dim=-1)
        mixed = F.hardswish(crossed.add_(local))
        if folds(self.output.weight, self.norm, mixed):
            return F.linear(mixed, *folded(self.output.weight, self.output.bias, self.norm))
        normed: Tensor = self.norm(self.output(mixed).permute(0, 3, 1, 2))
        return normed.permute(0, 2, 3, 1)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, window={self.window}, heads={self.heads} per half"

    def _attend(self, query: Tensor, value: Tensor) -> Tensor:
        """Attention inside strips of `window` rows: (B, H, W, C / 2) twice -> (B, H, W, C / 2)."""
        batch, height, width, channels = query.shape
        missing = -height % self.window
        if missing:
            query, value = (F.pad(each, (0, 0, 0, 0, 0, missing)) for each in (query, value))
        strips = (height + missing) // self.window
        shape = (batch * strips, self.window * width, self.heads, channels // self.heads)
        query, value = (each.reshape(shape).transpose(1, 2) for each in (query, value))
        mask = _mask(query, batch, strips, missing * width) if missing else None
        out = F.scaled_dot_product_attention(query, value, value, attn_mask=mask, scale=self.scale)
        return out.transpose(1, 2).reshape(batch, height + missing, width, channels)[:, :height]


def _heads(channels: int, head_dim: int) -> tuple[int, float]:
    """Heads of each half of the channels, and the scale of their logits; an InputError where there is no such split."""
    if head_dim < 1:
        raise InputError(f"block 'cross': head_dim >= 1 must hold, but got {head_dim}")
    heads = max(1, channels // head_dim)  # differs from the release, which cannot build a map narrower than a head
    if channels % heads or channels % 2:
        law = "even channels that floor(channels / head_dim) divides"
        raise InputError(f"block 'cross': {law} must hold, but got channels={channels}, head_dim={head_dim}")
    half, nominal = channels // 2, channels // heads
    if half < nominal:
        return 1, float(half**-0.5)
    if half % (half // nominal):
        law = "(heads - 1) divides channels / heads for an odd number of heads"
        raise InputError(f"block 'cross': {law} must hold, but got channels={channels}, heads={heads}")
    return half // nominal, float(nominal**-0.5)


def _mask(query: Tensor, batch: int, strips: int, padded: int) -> Tensor:
    """-100 on the last `padded` keys of each image's last strip: (B * strips, 1, 1, L)."""
    tokens = query.shape[2]
    last = F.pad(query.new_zeros(1, tokens - padded), (0, padded), value=-100.0)
    mask = torch.cat([query.new_zeros(strips - 1, tokens), last])
    return mask.expand(batch, strips, tokens).reshape(batch * strips, 1, 1, tokens)


def _turned(tokens: Tensor) -> Tensor:
    return tokens.transpose(1, 2)


class KroneckerShortcut(nn.Module):
    """Mixes every token's channels, seen as a k x p matrix, from the right and the left: (B, H, W, C) -> (B, H, W, C).

    The diversity-enhanced shortcut, with its GELU between the two as released (the paper prints Hardswish).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        octaves = channels.bit_length() - 1
        right = 2 ** ((octaves + 1) // 2)
        if channels % right:
            raise InputError(f"block 'cross': {right} must divide channels of {channels} (Kronecker shortcut)")
        self.right = nn.Linear(right, right)
        self.left = nn.Linear(channels // right, channels // right)

    def forward(self, tokens: Tensor) -> Tensor:
        # The k rows of all tokens lie in k planes: one product of few rows mixes them, 1.5 to 2 times as fast as
        # products whose operands are transposed for every token.
        rows = tokens.reshape(-1, self.left.in_features, self.right.in_features).transpose(0, 1)
        mixed = F.gelu(self.right(rows))
        planes = self.left.weight @ mixed.flatten(1) + self.left.bias[:, None]
        return planes.view(mixed.shape).transpose(0, 1).reshape(tokens.shape)


class MixedFeedForward(nn.Module):
    """Feed-forward with a 3 x 3 depthwise convolution on half of the hidden channels and a 5 x 5 one on the rest.

    MixCFN: (B, H, W, C) -> (B, H, W, C).
    """

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        if hidden < 2 or hidden % 2:
            raise InputError(f"block 'cross': channels * ratio must be even, but got {channels} * {ratio} = {hidden}")
        half = hidden // 2
        self.expand = nn.Linear(channels, hidden)
        self.conv3 = nn.Conv2d(half, half, 3, 1, 1, groups=half)
        self.conv5 = nn.Conv2d(half, half, 5, 1, 2, groups=half)
        self.reduce = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        # Halves that lie apart from the first layer to the last are neither cut nor put together: with 32 channels
        # 1.4 times as fast.
        before = zip(self.expand.weight.chunk(2), self.expand.bias.chunk(2), strict=True)
        halves = [F.linear(tokens, *layer).permute(0, 3, 1, 2) for layer in before]
        fine, coarse = F.gelu(self.conv3(halves[0])), F.gelu(self.conv5(halves[1]))
        of_fine, of_coarse = self.reduce.weight.chunk(2, dim=1)
        out = F.linear(fine.permute(0, 2, 3, 1), of_fine, self.reduce.bias)
        return out.add_(F.linear(coarse.permute(0, 2, 3, 1), of_coarse))
