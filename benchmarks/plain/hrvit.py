"""HRViT-b1 (Gu et al., 2022), written down directly."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain.classifier import Classifier

WIDTHS = (32, 64, 128, 256)
WINDOWS = (1, 2, 7, 7)
HEAD_DIM, RATIO = 32, 4
BLOCKS = ((1,), (1, 1), (1, 1, 6), (1, 1, 6), (1, 1, 6, 2), (1, 1, 2, 2))  # of each module, per branch


class Attention(nn.Module):
    """Half of the heads attend in strips of rows, half in strips of columns: (B, N, C) -> the same. Keys are values."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.window = window
        heads = dim // HEAD_DIM
        self.heads = max(1, heads // 2)  # of each half
        self.scale = (dim // 2 if heads == 1 else HEAD_DIM) ** -0.5
        self.to_qkv = nn.Linear(dim, 2 * dim)
        self.parallel_conv = nn.Sequential(nn.Hardswish(), nn.Conv2d(dim, dim, 3, 1, 1, groups=dim))
        self.to_out = nn.Sequential(nn.Linear(dim, dim))
        self.attn_bn = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        b, n, c = x.shape
        q, v = self.to_qkv(x).chunk(2, -1)
        u = self.parallel_conv(v.transpose(1, 2).reshape(b, c, *size)).flatten(2).transpose(1, 2)
        qh, qv = q.view(b, *size, c).chunk(2, -1)
        vh, vv = v.view(b, *size, c).chunk(2, -1)
        horizontal = self._attend(qh, vh)
        vertical = self._attend(qv.transpose(1, 2), vv.transpose(1, 2)).transpose(1, 2)
        z = torch.cat([horizontal, vertical], -1).reshape(b, n, c)
        z = self.to_out(F.hardswish(z + u))
        normed: Tensor = self.attn_bn(z.reshape(b * n, c)).view(b, n, c)
        return normed

    def _attend(self, q: Tensor, v: Tensor) -> Tensor:
        """Strips of `window` whole rows: (B, H, W, C / 2) -> the same."""
        b, h, w, c = q.shape
        pad = -h % self.window
        strips = (h + pad) // self.window

        def cut(t: Tensor) -> Tensor:
            if pad:
                t = F.pad(t, (0, 0, 0, 0, 0, pad))
            t = t.reshape(b, strips, self.window * w, self.heads, c // self.heads)
            return t.transpose(2, 3)

        q, v = cut(q), cut(v)
        logits = q @ v.transpose(-2, -1) * self.scale
        if pad:
            mask = logits.new_zeros(strips, 1, 1, self.window * w)
            mask[-1, ..., -pad * w :] = -100.0
            logits = logits + mask
        out: Tensor = (logits.softmax(-1) @ v).transpose(2, 3)
        return out.reshape(b, h + pad, w, c)[:, :h]


class Shortcut(nn.Module):
    """Kronecker-style: every token as a k x p matrix, mixed from the right and the left: (B, N, C) -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        e = dim.bit_length() - 1
        self.p = 2 ** (e - e // 2)
        self.k = dim // self.p
        self.proj_right = nn.Linear(self.p, self.p)
        self.proj_left = nn.Linear(self.k, self.k)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        t = F.gelu(self.proj_right(x.reshape(b, n, self.k, self.p)))
        y: Tensor = self.proj_left(t.transpose(-2, -1)).transpose(-2, -1)
        return y.reshape(b, n, c)


class MixCFN(nn.Module):
    """Feed-forward with 3 x 3 and 5 x 5 depthwise convolutions on halves of its channels: (B, N, C) -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = RATIO * dim // 2
        self.fc1 = nn.Linear(dim, 2 * half)
        self.conv = nn.ModuleDict(
            {
                "conv_3": nn.Conv2d(half, half, 3, 1, 1, groups=half),
                "conv_5": nn.Conv2d(half, half, 5, 1, 2, groups=half),
            }
        )
        self.fc2 = nn.Linear(2 * half, dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = self.fc1(x)
        x = x.transpose(1, 2).reshape(x.shape[0], -1, *size)
        fine, coarse = x.chunk(2, 1)
        x = torch.cat([self.conv["conv_3"](fine), self.conv["conv_5"](coarse)], 1)
        out: Tensor = self.fc2(F.gelu(x.flatten(2).transpose(1, 2)))
        return out


class Block(nn.Module):
    """Attention beside the shortcut, then the feed-forward, each a residual: (B, N, C) -> the same."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.attn_norm = nn.LayerNorm(dim)
        self.attn = Attention(dim, window)
        self.des = Shortcut(dim)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = MixCFN(dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = x + self.attn(self.attn_norm(x), size) + self.des(x)
        out: Tensor = x + self.ffn(self.ffn_norm(x), size)
        return out


class Fusion(nn.Module):
    """Every branch receives the sum of all, and one branch may be new: list of maps -> list of maps."""

    def __init__(self, sources: tuple[int, ...], targets: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(_path(c_in, c_out, i - j) for j, c_in in enumerate(sources))
            for i, c_out in enumerate(targets)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        fused = []
        for row in self.blocks:
            paths = list(row)  # type: ignore[call-overload]
            y = paths[0](maps[0])
            for path, x in zip(paths[1:], maps[1:], strict=True):
                y = y + path(x)
            fused.append(F.gelu(y))
        return fused


def _path(c_in: int, c_out: int, octaves: int) -> nn.Module:
    if octaves == 0:
        return nn.Identity()
    scale = 2 ** abs(octaves)
    if octaves < 0:
        up = nn.Upsample(scale_factor=scale, mode="nearest")
        return nn.Sequential(nn.Conv2d(c_in, c_out, 1), nn.BatchNorm2d(c_out), up)
    return nn.Sequential(
        nn.Conv2d(c_in, c_in, scale + 1, scale, scale // 2, groups=c_in, bias=False),
        nn.BatchNorm2d(c_in),
        nn.Conv2d(c_in, c_out, 1),
        nn.BatchNorm2d(c_out),
    )


class PatchEmbedding(nn.Module):
    """A 1 x 1 and a depthwise 3 x 3 convolution, then tokens and layer norm: (B, C, H, W) -> (B, N, C')."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(c_in, c_out, 1), nn.Conv2d(c_out, c_out, 3, 1, 1, groups=c_out))
        self.norm = nn.LayerNorm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.norm(self.proj(x).flatten(2).transpose(1, 2))
        return tokens


class Stage(nn.Module):
    """Patch embedding, blocks and layer norm of each branch: list of maps -> list of maps."""

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        outputs = WIDTHS[: len(depths)]
        self.patch_embed = nn.ModuleList(PatchEmbedding(*each) for each in zip(widths, outputs, strict=True))
        self.branches = nn.ModuleList(
            nn.ModuleList(Block(width, window) for _ in range(depth))
            for width, window, depth in zip(outputs, WINDOWS, depths, strict=False)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(width) for width in outputs)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        out = []
        for x, embed, blocks, norm in zip(maps, self.patch_embed, self.branches, self.norm, strict=True):
            size = (x.shape[2], x.shape[3])
            tokens = embed(x)
            for block in list(blocks):  # type: ignore[call-overload]
                tokens = block(tokens, size)
            out.append(norm(tokens).transpose(1, 2).reshape(x.shape[0], -1, *size))
        return out


class Stem(nn.Module):
    """Two strided convolutions: (B, 3, H, W) -> (B, 64, H / 4, W / 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, 2, 1)
        self.bn2 = nn.BatchNorm2d(64)

    def forward(self, image: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(image))))))


class HRViT(nn.Module):
    """Image (B, 3, H, W), sides multiples of 32 -> (B, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem()
        layers: list[nn.Module] = []
        widths: tuple[int, ...] = (64,)
        for depths in BLOCKS:
            grown = widths if len(widths) == len(depths) else (*widths, WIDTHS[len(depths) - 1])
            layers += [Fusion(widths, grown), Stage(grown, depths)]
            widths = WIDTHS[: len(depths)]
        self.features = nn.Sequential(*layers)
        self.head = Classifier(WIDTHS, depthwise=False)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features([self.stem(image)]))
        return logits
