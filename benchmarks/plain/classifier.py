"""The classifier that both networks end in, and its bottleneck."""

import torch.nn.functional as F
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution and a shortcut: (B, C, H, W) -> (B, 4 * width, H, W)."""

    def __init__(self, c_in: int, width: int, *, depthwise: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, groups=width if depthwise else 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if c_in != 4 * width:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        summed: Tensor = self.relu(out + self.downsample(x))
        return summed


class Classifier(nn.Module):
    """Four maps, the finest first -> (B, 1000)."""

    def __init__(self, channels: tuple[int, ...], *, depthwise: bool) -> None:
        super().__init__()
        widths = (32, 64, 128, 256)
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(c_in, width, depthwise=depthwise))
            for c_in, width in zip(channels, widths, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(self._down(4 * width, 8 * width, depthwise) for width in widths[:-1])
        self.final_layer = nn.Sequential(nn.Conv2d(1024, 2048, 1), nn.BatchNorm2d(2048), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(2048, 1000)

    def forward(self, maps: list[Tensor]) -> Tensor:
        y = self.incre_modules[0](maps[0])
        for i in range(3):
            y = self.incre_modules[i + 1](maps[i + 1]) + self.downsamp_modules[i](y)
        y = F.adaptive_avg_pool2d(self.final_layer(y), 1).flatten(1)
        logits: Tensor = self.classifier(y)
        return logits

    def _down(self, c_in: int, c_out: int, depthwise: bool) -> nn.Sequential:
        if not depthwise:
            return nn.Sequential(nn.Conv2d(c_in, c_out, 3, 2, 1), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))
        return nn.Sequential(
            nn.Conv2d(c_in, c_in, 3, 2, 1, groups=c_in),
            nn.BatchNorm2d(c_in),
            nn.Conv2d(c_in, c_out, 1),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
        )
