"""How a network learns each task and how its score is taken: the loss, the metric, what moving an image does to labels.

Shapes: B images of side S pixels, C classes or keypoints, h and w the sides of a prediction (stride 4 or 8).
Predictions are (B, C, h, w) of "segment" and "pose", (B, C) of "classify"; labels stand at `Split`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hrsearch.proxy.data.dataset import IGNORE, Split
from hrsearch.proxy.metrics import confusion_of, mean_iou, share_of

WIDTH = 1 / 32  # deviation of a keypoint's Gaussian, of the heatmap's side: 2 cells of 64 (Sun et al., HRNet, 2019)
NARROWEST = 1.0  # cells: below this a heatmap of a small crop is one cell, and nothing shows the way to it
NEAR = 0.1  # a keypoint is found within this share of the image's side


@dataclass(frozen=True)
class Learning:
    """One task, as training and validation see it."""

    metric: str
    dimensions: int  # of a prediction
    weights: Callable[[Tensor, int, float], Tensor]  # labels, classes, balance -> (C,)
    loss: Callable[[Tensor, Split, Tensor], Tensor]  # prediction, the batch, (C,) weights -> (), a weighted mean
    weight: Callable[[tuple[int, ...], Split, Tensor], Tensor]  # a prediction's shape, ... -> (), what it is divided by
    tally: Callable[[Tensor, Split], Tensor]  # prediction, the batch -> counts that add up over batches
    value: Callable[[Tensor], float]  # their sum -> the metric, in 0..1
    moved: Callable[[Tensor, int, int, int], Tensor]  # labels, pixels down and across, S -> labels
    flipped: Callable[[Tensor, int], Tensor]  # labels, S -> labels of the images mirrored left to right


def class_weights(labels: Tensor, classes: int, balance: float) -> Tensor:
    """(C,) weight of each class in the loss: its frequency to the power of minus `balance`, 1 for the mean pixel."""
    sample = labels[:: max(len(labels) // 512, 1)]
    return balanced(sample[sample != IGNORE].flatten(), classes, balance)


def balanced(labels: Tensor, classes: int, balance: float) -> Tensor:
    """(C,) frequency of each class among labels of any shape to the power of minus `balance`, 1 for the mean label."""
    share = torch.bincount(labels.long(), minlength=classes).float()
    share = share / share.sum().clamp(min=1)
    weights = share.clamp(min=1e-4) ** -balance
    return weights / (weights * share).sum().clamp(min=1e-6)


def shares_of(labels: Tensor, classes: int, height: int, width: int) -> Tensor:
    """(B, C, h, w): the share of each class in the pixels (B, S, S) under a cell; sums to 1 less the ignored share."""
    side = labels.shape[-1] // max(width, 1)
    if labels.shape[1:] == (height * side, width * side):
        return _counted(labels, classes, side) / side**2
    known = F.one_hot(labels.long().clamp(max=classes), classes + 1)[..., :classes]
    return F.adaptive_avg_pool2d(known.permute(0, 3, 1, 2).float(), (height, width))


def _counted(labels: Tensor, classes: int, side: int) -> Tensor:
    """(B, C, h, w): pixels of each class in cells of `side` pixels, without a tensor of pixels times classes."""
    count, height, width = labels.shape[0], labels.shape[1] // side, labels.shape[2] // side
    cells = labels.long().clamp(max=classes).reshape(count, height, side, width, side)
    cells = cells.permute(0, 2, 4, 1, 3).reshape(count, side**2, height, width)
    found = torch.zeros(count, classes + 1, height, width, device=labels.device)
    found.scatter_add_(1, cells, torch.ones_like(cells, dtype=found.dtype))
    return found[:, :classes].contiguous(memory_format=torch.channels_last)  # as predictions lie


def segment_loss(logits: Tensor, batch: Split, weights: Tensor) -> Tensor:
    """Cross-entropy of logits (B, C, h, w) against the shares of the classes (C weights) under each of their cells.

    Shares instead of one label a cell keep what thin strokes say, at the price of the small map.
    """
    shares = shares_of(batch.labels, logits.shape[1], *logits.shape[2:]) * weights[:, None, None]
    return -(shares * logits.float().log_softmax(dim=1)).sum() / shares.sum().clamp(min=1e-6)


def segment_weight(shape: tuple[int, ...], batch: Split, weights: Tensor) -> Tensor:
    """() what `segment_loss` divides by, for logits of that shape."""
    return (shares_of(batch.labels, *shape[1:]) * weights[:, None, None]).sum()


def segment_tally(logits: Tensor, batch: Split) -> Tensor:
    """(C, C) pixels by label and prediction, the logits (B, C, h, w) brought to the labels' resolution."""
    full = F.interpolate(logits, size=batch.labels.shape[1:], mode="bilinear", align_corners=False)
    return confusion_of(full.argmax(dim=1), batch.labels, logits.shape[1])


def classify_loss(logits: Tensor, batch: Split, weights: Tensor) -> Tensor:
    """Cross-entropy of logits (B, C), each image weighted by its class; labels may be shares of classes (B, C)."""
    if not batch.labels.is_floating_point():
        return F.cross_entropy(logits.float(), batch.labels, weights)
    shares = batch.labels * weights
    return -(shares * logits.float().log_softmax(dim=1)).sum() / shares.sum().clamp(min=1e-6)


def classify_weight(shape: tuple[int, ...], batch: Split, weights: Tensor) -> Tensor:
    """() what `classify_loss` divides by."""
    soft = batch.labels.is_floating_point()
    return (batch.labels * weights).sum() if soft else weights[batch.labels].sum()


def classify_tally(logits: Tensor, batch: Split) -> Tensor:
    """(2,) images whose largest logit is their class, and images."""
    right = (logits.argmax(dim=1) == batch.labels).sum()
    return torch.stack([right, torch.full_like(right, len(batch))])


def pose_loss(heatmaps: Tensor, batch: Split, weights: Tensor) -> Tensor:
    """Squared error of heatmaps (B, C, h, w) against a Gaussian around each keypoint; absent ones have no weight.

    As HRNet's (Sun et al., 2019), but as a share of the targets' own squares: a network that says nothing has loss 1
    whatever the size of the heatmaps.
    """
    targets = gaussians(batch, heatmaps.shape[2], heatmaps.shape[3])
    seen = batch.labels[..., 2][..., None, None] * weights[:, None, None]
    error = ((heatmaps.float() - targets).square() * seen).sum()
    return error / (targets.square() * seen).sum().clamp(min=1e-6)


def pose_weight(shape: tuple[int, ...], batch: Split, weights: Tensor) -> Tensor:
    """() what `pose_loss` divides by, for heatmaps of that shape."""
    seen = batch.labels[..., 2][..., None, None] * weights[:, None, None]
    return (gaussians(batch, shape[2], shape[3]).square() * seen).sum()


def gaussians(batch: Split, height: int, width: int) -> Tensor:
    """(B, C, h, w): for each keypoint a Gaussian around its place that is 1 at its peak."""
    side = batch.images.shape[-1]
    x, y = batch.labels[..., 0] * width / side, batch.labels[..., 1] * height / side
    across = (torch.arange(width, device=x.device) + 0.5 - x[..., None])[..., None, :]
    down = (torch.arange(height, device=y.device) + 0.5 - y[..., None])[..., :, None]
    deviation = max(WIDTH * max(height, width), NARROWEST)
    return torch.exp(-(across.square() + down.square()) / (2 * deviation**2))


def keypoints_of(heatmaps: Tensor) -> Tensor:
    """(B, C, 2): x and y, in cells from the upper left corner, of each heatmap (B, C, h, w).

    The middle of the highest cell, moved a quarter of a cell towards the higher of its neighbours to the left and
    right, and above and below. A highest cell at the edge is not moved across it.
    """
    height, width = heatmaps.shape[2:]
    flat = heatmaps.flatten(2)
    best = flat.argmax(dim=2)
    row, column = best // width, best % width

    def at(row: Tensor, column: Tensor) -> Tensor:
        place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        return flat.gather(2, place[..., None])[..., 0]

    right = torch.sign(at(row, column + 1) - at(row, column - 1)) * ((column > 0) & (column < width - 1))
    below = torch.sign(at(row + 1, column) - at(row - 1, column)) * ((row > 0) & (row < height - 1))
    return torch.stack([column + 0.5 + right / 4, row + 0.5 + below / 4], dim=2)


def pose_tally(heatmaps: Tensor, batch: Split) -> Tensor:
    """(2,) visible keypoints found within a tenth of the image's side, and visible keypoints."""
    side, cells = batch.images.shape[-1], torch.tensor(heatmaps.shape[:1:-1], device=heatmaps.device)
    found = keypoints_of(heatmaps) * side / cells
    near = (found - batch.labels[..., :2]).norm(dim=2) <= NEAR * side
    seen = batch.labels[..., 2] > 0
    return torch.stack([(near & seen).sum(), seen.sum()])


def moved_pixels(pixels: Tensor, down: int, across: int, fill: int) -> Tensor:
    """(..., S, S) moved, what comes in filled with `fill`."""
    pads = (max(across, 0), max(-across, 0), max(down, 0), max(-down, 0))
    height, width = pixels.shape[-2:]
    return F.pad(pixels, pads, value=fill)[..., max(-down, 0) :, max(-across, 0) :][..., :height, :width]


def moved_keypoints(labels: Tensor, down: int, across: int, side: int) -> Tensor:
    """(B, C, 3) moved; what leaves the image is no longer visible."""
    places = labels[..., :2] + torch.tensor([across, down], dtype=labels.dtype)
    inside = ((places >= 0) & (places <= side)).all(dim=2)
    return torch.cat([places, (labels[..., 2] * inside)[..., None]], dim=2)


def flipped_keypoints(labels: Tensor, side: int) -> Tensor:
    """(B, C, 3) of images mirrored left to right; a keypoint keeps its number (see `Dataset.swap`)."""
    return torch.stack([side - labels[..., 0], labels[..., 1], labels[..., 2]], dim=2)


LEARNING = {
    "segment": Learning(
        metric="mIoU",
        dimensions=4,
        weights=class_weights,
        loss=segment_loss,
        weight=segment_weight,
        tally=segment_tally,
        value=mean_iou,
        moved=lambda labels, down, across, side: moved_pixels(labels, down, across, IGNORE),
        flipped=lambda labels, side: labels.flip(-1),
    ),
    "classify": Learning(
        metric="top-1",
        dimensions=2,
        weights=balanced,
        loss=classify_loss,
        weight=classify_weight,
        tally=classify_tally,
        value=share_of,
        moved=lambda labels, down, across, side: labels,
        flipped=lambda labels, side: labels,
    ),
    "pose": Learning(
        metric=f"PCK@{NEAR}",
        dimensions=4,
        weights=lambda labels, classes, balance: torch.ones(classes),
        loss=pose_loss,
        weight=pose_weight,
        tally=pose_tally,
        value=share_of,
        moved=moved_keypoints,
        flipped=flipped_keypoints,
    ),
}
