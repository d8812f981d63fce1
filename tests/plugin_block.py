"""A plug-in as a user writes one: each channel is set against the mean of its neighbourhood, then channels mix."""

import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.nets.norm import DropPath
from hrsearch.registry import BLOCKS


@BLOCKS.add("contrast")
class Contrast(nn.Module):
    """(B, C, H, W) -> (B, C', H, W)."""

    def __init__(self, c_in: int, c_out: int, drop_path: float = 0.0, *, window: int = 3) -> None:
        super().__init__()
        self.window = window
        self.widen = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        self.mix = nn.Conv2d(c_out, c_out, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        contrast = x - F.avg_pool2d(x, self.window, 1, self.window // 2)
        out: Tensor = x + self.drop_path(self.mix(contrast))
        return out
