"""HRFormer-T (Yuan et al., 2021), written down directly."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain.classifier import Bottleneck, Classifier

CHANNELS = (18, 36, 72, 144)
HEADS = (1, 2, 4, 8)
WINDOW, RATIO = 7, 4
MODULES = {2: 1, 3: 3, 4: 2}  # stage k has k branches


class SelfAttention(nn.Module):
    """Multi-head attention among the tokens of each window, with relative positions: (windows, L, C) -> the same."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        row, col = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
        row, col = row.flatten(), col.flatten()
        index = (row[:, None] - row + WINDOW - 1) * (2 * WINDOW - 1) + col[:, None] - col + WINDOW - 1
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        windows, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(windows, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        weights = (q * self.scale @ k.transpose(-2, -1) + bias).softmax(-1)
        out: Tensor = self.out_proj((weights @ v).transpose(1, 2).reshape(windows, tokens, dim))
        return out


class WindowAttention(nn.Module):
    """Pads to whole windows, cuts, attends, puts together and crops: (B, H, W, C) -> the same."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn = SelfAttention(dim, heads)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        below, beside = -h % WINDOW, -w % WINDOW
        top, left = below // 2, beside // 2
        x = F.pad(x, (0, 0, left, beside - left, top, below - top))
        rows, columns = (h + below) // WINDOW, (w + beside) // WINDOW
        x = x.view(b, rows, WINDOW, columns, WINDOW, c).permute(0, 1, 3, 2, 4, 5)
        x = self.attn(x.reshape(-1, WINDOW * WINDOW, c))
        x = x.view(b, rows, columns, WINDOW, WINDOW, c).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(b, h + below, w + beside, c)[:, top : top + h, left : left + w]


class FeedForward(nn.Module):
    """1 x 1, depthwise 3 x 3 and 1 x 1 convolution, each with batch norm and GELU: (B, C, H, W) -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = RATIO * dim
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.dw3x3 = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.fc2 = nn.Conv2d(hidden, dim, 1)
        self.norm3 = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(self.fc1(x)))
        x = F.gelu(self.norm2(self.dw3x3(x)))
        return F.gelu(self.norm3(self.fc2(x)))


class Block(nn.Module):
    """Window attention, then the feed-forward, each a residual: (B, C, H, W) -> the same."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = WindowAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = FeedForward(dim)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        t = x.flatten(2).transpose(1, 2)
        t = t + self.attn(self.norm1(t).view(b, h, w, c)).reshape(b, h * w, c)
        normed = self.norm2(t).transpose(1, 2).reshape(b, c, h, w)
        out: Tensor = t.transpose(1, 2).reshape(b, c, h, w) + self.mlp(normed)
        return out


class Module(nn.Module):
    """Two blocks per branch, then each branch receives the sum of all: list of maps -> the same."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        dims = list(zip(CHANNELS, HEADS, strict=True))[:branches]
        self.branches = nn.ModuleList(nn.Sequential(Block(*each), Block(*each)) for each in dims)
        self.fuse_layers = nn.ModuleList(nn.ModuleList(_path(j, i) for j in range(branches)) for i in range(branches))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return self.fuse([branch(x) for branch, x in zip(self.branches, maps, strict=True)])

    def fuse(self, maps: list[Tensor]) -> list[Tensor]:
        """What each branch receives from all."""
        fused = []
        for i, row in enumerate(self.fuse_layers):
            paths: list[nn.Module] = list(row)  # type: ignore[call-overload]
            y = self._fitted(paths[0](maps[0]), maps[i])
            for path, x in zip(paths[1:], maps[1:], strict=True):
                y = y + self._fitted(path(x), maps[i])
            fused.append(F.relu(y))
        return fused

    def _fitted(self, x: Tensor, like: Tensor) -> Tensor:
        size = like.shape[2:]
        return x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=True)


def _path(source: int, target: int) -> nn.Module:
    if source == target:
        return nn.Identity()
    c_in, c_out = CHANNELS[source], CHANNELS[target]
    if source > target:
        up = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), up)
    units = [_down(c_in, c_in, nn.ReLU(inplace=True)) for _ in range(target - source - 1)]
    return nn.Sequential(*units, _down(c_in, c_out))


def _down(c_in: int, c_out: int, *act: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_in, 3, 2, 1, groups=c_in, bias=False),
        nn.BatchNorm2d(c_in),
        nn.Conv2d(c_in, c_out, 1, bias=False),
        nn.BatchNorm2d(c_out),
        *act,
    )


class HRFormer(Classifier):
    """Image (B, 3, H, W) -> (B, 1000)."""

    def __init__(self) -> None:
        super().__init__(CHANNELS, depthwise=True)
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64, 64), Bottleneck(256, 64))
        self.transition1 = nn.ModuleList(
            [nn.Sequential(*_convolution(256, 18, 1)), nn.Sequential(nn.Sequential(*_convolution(256, 36, 2)))]
        )
        # New branches; those that exist pass unchanged.
        self.transition2 = nn.ModuleDict({"2": nn.Sequential(nn.Sequential(*_convolution(36, 72, 2)))})
        self.transition3 = nn.ModuleDict({"3": nn.Sequential(nn.Sequential(*_convolution(72, 144, 2)))})
        for stage, modules in MODULES.items():
            setattr(self, f"stage{stage}", nn.Sequential(*(Module(stage) for _ in range(modules))))

    def forward(self, image: Tensor) -> Tensor:  # type: ignore[override]
        x = F.relu(self.bn1(self.conv1(image)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        maps = self.get_submodule("stage2")([transition(x) for transition in self.transition1])
        maps = self.get_submodule("stage3")([*maps, self.transition2["2"](maps[-1])])
        maps = self.get_submodule("stage4")([*maps, self.transition3["3"](maps[-1])])
        return super().forward(maps)


def _convolution(c_in: int, c_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
