"""Norms of a branch, and drop path."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hrsearch.errors import InputError, suggestion


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels at every pixel: (B, C, H, W) -> (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm2d, "layer": ChannelNorm}


def named_norm(name: str, channels: int) -> nn.Module:
    """The norm of that name, (B, C, H, W) -> (B, C, H, W); an unknown one is an InputError."""
    if name not in NORMS:
        raise InputError(f"norm {name!r} does not exist; {suggestion(name, NORMS)}")
    return NORMS[name](channels)


class DropPath(nn.Module):
    """Drops a residual for whole samples and scales the others by 1 / (1 - rate); the identity in eval mode.

    Huang et al., Deep Networks with Stochastic Depth, 2016.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device) >= self.rate
        return x * kept / (1.0 - self.rate)

    def extra_repr(self) -> str:
        return f"{self.rate:g}"
