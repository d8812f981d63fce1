"""A plug-in as a user writes one: each channel is set against the mean of its neighbourhood, then channels mix."""

import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.registry import BLOCKS


@BLOCKS.add("contrast")
class Contrast(nn.Module):
    """(B, C, H, W) -> (B, C', H, W)."""

    def __init__(self, c_in: int, c_out: int, drop_path: float = 0.0, *, window: int = 3) -> None:
        super().__init__()
        self.window = window
        self.mix = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mix(x - F.avg_pool2d(x, self.window, 1, self.window // 2))
        return out
