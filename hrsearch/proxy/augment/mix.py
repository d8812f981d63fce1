"""Batches to classify, mixed: mixup (Zhang et al., 2018) or CutMix (Yun et al., 2019), by turns at random.

Shapes: B images, C classes, H = W their side.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hrsearch.proxy.data.dataset import Split

MIXUP, CUTMIX = 0.8, 1.0  # both parameters of the Beta that the share is drawn from, as Swin and HRFormer have them


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """(B, C) shares of the classes: of classes (B,), `smoothing` of the whole is spread evenly over all."""
    return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


def mixed(batch: Split, random: np.random.Generator) -> Split:
    """Each image with the one at its place from the end; labels (B, C) are shares, mixed as the pixels are."""
    images, others = batch.images, batch.images.flip(0)
    if random.random() < 0.5:
        share = float(random.beta(MIXUP, MIXUP))
        images = images.float().lerp(others.float(), 1 - share).round().to(torch.uint8)
    else:
        images = images.clone()
        top, left, lower, right = _box(images.shape[-1], math.sqrt(1 - random.beta(CUTMIX, CUTMIX)), random)
        images[..., top:lower, left:right] = others[..., top:lower, left:right]
        share = 1 - (lower - top) * (right - left) / images.shape[-1] ** 2
    return Split(images, share * batch.labels + (1 - share) * batch.labels.flip(0))


def _box(side: int, reach: float, random: np.random.Generator) -> tuple[int, int, int, int]:
    """A square of that share of the side around a random pixel, cut off at the edges."""
    half = reach * side / 2
    down, across = random.integers(side, size=2)
    low = [max(int(middle - half), 0) for middle in (down, across)]
    high = [min(int(middle + half), side) for middle in (down, across)]
    return low[0], low[1], high[0], high[1]
