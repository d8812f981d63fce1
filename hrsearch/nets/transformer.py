"""Transformer blocks of any attention with any feed-forward, HIRI-ViT's among them (Yao et al., 2024).

No code of theirs is public. Their text gives attention, then a feed-forward with a depthwise convolution and batch norm
in front; the order inside it, the biases and the absence of position biases are those of their released Wave-ViT.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.errors import InputError, suggestion
from hrsearch.nets.hrformer import WindowAttention
from hrsearch.nets.hrvit import CrossAttention, KroneckerShortcut, MixedFeedForward
from hrsearch.nets.norm import ChannelNorm, DropPath, named_norm
from hrsearch.registry import BLOCKS


@BLOCKS.add("cffn")
class FeedForwardBlock(nn.Module):
    """HIRI-ViT's convolutional feed-forward alone, without attention, as a residual: (B, C, H, W) -> (B, C, H, W).

    `ratio` is its expansion, `norm` what stands in front: "batch" or "layer".
    """

    def __init__(
        self, c_in: int, c_out: int, drop_path: float = 0.0, *, ratio: float = 4.0, norm: str = "batch"
    ) -> None:
        super().__init__()
        _require_kept("cffn", c_in, c_out)
        self.norm = named_norm(norm, c_in)
        self.feed = feed_forward(c_in, ratio, depthwise=True)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        fed: Tensor = self.drop_path(self.feed(self.norm(x)))
        return x + fed


@BLOCKS.add("transformer")
class TransformerBlock(nn.Module):
    """Attention behind a layer norm, then a feed-forward, each a residual: (B, C, H, W) -> (B, C, H, W).

    `attention` is one of ATTENTIONS: "global" (keys and values shrunk by `reduction` per side), HRFormer's "window" or
    HRViT's "cross" (of width `window`, which means nothing to the first, as `reduction` does to these); `head_dim` the
    channels of a head. `feed` is one of FEEDS, `ratio` its expansion and `norm` what stands in front of it: "batch" or
    "layer". `shortcut` puts HRViT's Kronecker shortcut beside the attention.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        drop_path: float = 0.0,
        *,
        attention: str = "global",
        head_dim: int = 32,
        reduction: int = 1,
        window: int = 7,
        shortcut: bool = False,
        feed: str = "cffn",
        ratio: float = 4.0,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        _require_kept("transformer", c_in, c_out)
        for what, name, known in (("attention", attention, ATTENTIONS), ("feed", feed, FEEDS)):
            if name not in known:
                raise InputError(f"block 'transformer': {what} {name!r} does not exist; {suggestion(name, known)}")
        self.attention_norm = nn.LayerNorm(c_in)
        self.attention = ATTENTIONS[attention](c_in, head_dim, reduction, window)
        self.shortcut = KroneckerShortcut(c_in) if shortcut else None
        self.feed_norm = named_norm(norm, c_in)
        self.feed = FEEDS[feed](c_in, ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        attended: Tensor = self.attention(self.attention_norm(tokens))
        if self.shortcut is not None:
            attended = attended + self.shortcut(tokens)
        x = (tokens + self.drop_path(attended)).permute(0, 3, 1, 2)
        fed: Tensor = self.drop_path(self.feed(self.feed_norm(x)))
        return x + fed


class GlobalAttention(nn.Module):
    """Multi-head attention between all pixels: (B, H, W, C) -> (B, H, W, C).

    With a `reduction` of r > 1 keys and values come from patches of r x r pixels (a strided convolution, layer norm);
    maps that it does not divide are padded with zeros at the bottom and the right.
    """

    def __init__(self, channels: int, head_dim: int, reduction: int) -> None:
        super().__init__()
        if reduction < 1 or head_dim < 1:
            got = f"reduction={reduction}, head_dim={head_dim}"
            raise InputError(f"block 'transformer': reduction >= 1 and head_dim >= 1 must hold, but got {got}")
        self.channels = channels
        self.heads = max(1, channels // head_dim)
        if channels % self.heads:
            law = "floor(channels / head_dim) divides channels"
            got = f"channels={channels}, head_dim={head_dim}"
            raise InputError(f"block 'transformer': {law} must hold, but got {got}")
        self.reduction = reduction
        self.query = nn.Linear(channels, channels)
        self.reduce = _patches(channels, reduction) if reduction > 1 else None
        self.key_value = nn.Linear(channels, 2 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        context = tokens if self.reduce is None else self._reduced(tokens)
        key, value = self.key_value(context).chunk(2, dim=-1)
        query, key, value = map(self._split, (self.query(tokens), key, value))
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.output(attended.transpose(1, 2).reshape(tokens.shape))
        return out

    def extra_repr(self) -> str:
        return f"channels={self.channels}, heads={self.heads}, reduction={self.reduction}"

    def _reduced(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / r, W / r, C), rounded up."""
        assert self.reduce is not None
        _, height, width, _ = tokens.shape
        down, right = -height % self.reduction, -width % self.reduction
        if down or right:
            tokens = F.pad(tokens, (0, 0, 0, right, 0, down))
        reduced: Tensor = self.reduce(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return reduced

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, heads, L, D)."""
        batch, height, width, channels = tokens.shape
        return tokens.reshape(batch, height * width, self.heads, channels // self.heads).transpose(1, 2)


class OnTokens(nn.Module):
    """A module of (B, H, W, C), given maps: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x.permute(0, 2, 3, 1))
        return out.permute(0, 3, 1, 2)


def feed_forward(channels: int, ratio: float, depthwise: bool) -> nn.Sequential:
    """1 x 1, depthwise 3 x 3 (CFFN) or none, GELU, 1 x 1: (B, C, H, W) -> (B, C, H, W)."""
    hidden = int(channels * ratio)
    if hidden < 1:
        raise InputError(f"feed-forward: channels * ratio >= 1 must hold, but got {channels} * {ratio}")
    middle = [nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)] if depthwise else []
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), *middle, nn.GELU(), nn.Conv2d(hidden, channels, 1))


ATTENTIONS: dict[str, Callable[[int, int, int, int], nn.Module]] = {
    "global": lambda channels, head_dim, reduction, window: GlobalAttention(channels, head_dim, reduction),
    "window": lambda channels, head_dim, reduction, window: WindowAttention(channels, window, head_dim, position=True),
    "cross": lambda channels, head_dim, reduction, window: CrossAttention(channels, window, head_dim),
}
FEEDS: dict[str, Callable[[int, float], nn.Module]] = {
    "ffn": partial(feed_forward, depthwise=False),
    "cffn": partial(feed_forward, depthwise=True),
    "mixcfn": lambda channels, ratio: OnTokens(MixedFeedForward(channels, ratio)),
}


def _patches(channels: int, reduction: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, reduction, reduction), ChannelNorm(channels))


def _require_kept(kind: str, c_in: int, c_out: int) -> None:
    if c_in != c_out:
        raise InputError(f"block {kind!r}: it keeps its channels, but got {c_in} -> {c_out}")
