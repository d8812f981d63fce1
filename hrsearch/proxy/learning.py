"""What short and long training share: the schedule, the optimiser, the batches, the loss and the evaluation.

Shapes: B images, C classes, H = W the side of an image, h and w the sides of the logits (stride 4 or 8).
"""

from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from hrsearch.proxy.data.dataset import IGNORE, Dataset, Split
from hrsearch.proxy.metrics import confusion_of, mean_iou

DECAY = 0.35  # share of the schedule in which the learning rate falls to zero
AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """The learning rate of `step`, counted from 0, as a share of its peak: warm-up, stable, decay, each linear.

    A long stable phase ranks better than a cosine at these lengths: on four pairs of short runs the seeds' spread
    fell from .06 to .02 while scores rose by .05.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return min(1.0, (steps - step) / (DECAY * steps))


def optimizer_of(network: nn.Module, *, rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019); biases and norms, which have one dimension, are not decayed."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def chosen(step: int, batch: int, count: int, seed: int) -> Tensor:
    """(B,) indices of the images of a step: every image once an epoch, in an order that (seed, epoch) fixes.

    A function of the step alone, so that a run that is taken up again sees the same batches.
    """
    places = range(step * batch, (step + 1) * batch)
    orders = {epoch: _order(epoch, count, seed) for epoch in {place // count for place in places}}
    return torch.stack([orders[place // count][place % count] for place in places])


def _order(epoch: int, count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=Generator().manual_seed(seed * 1_000_003 + epoch))


def batch_of(split: Split, indices: Tensor) -> Split:
    """The images and labels at these indices."""
    where = indices.to(split.images.device)
    return Split(split.images[where], split.labels[where])


def augmented(batch: Split, *, mirrors: bool, generator: Generator) -> Split:
    """The batch moved by up to an eighth of its side, what comes in ignored; some images flipped if `mirrors`."""
    reach = batch.images.shape[-1] // 8
    down, across = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    images, labels = _moved(batch.images, down, across, 0), _moved(batch.labels, down, across, IGNORE)
    if mirrors:
        flip = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        images = torch.where(flip[:, None, None, None], images.flip(-1), images)
        labels = torch.where(flip[:, None, None], labels.flip(-1), labels)
    return Split(images, labels)


def _moved(pixels: Tensor, down: int, across: int, fill: int) -> Tensor:
    pads = (max(across, 0), max(-across, 0), max(down, 0), max(-down, 0))
    height, width = pixels.shape[-2:]
    return F.pad(pixels, pads, value=fill)[..., max(-down, 0) :, max(-across, 0) :][..., :height, :width]


def normalised(images: Tensor, data: Dataset) -> Tensor:
    """(B, 3, H, W) uint8 to float32 of mean 0 and deviation 1 by channel, channels last in memory."""
    mean = torch.tensor(data.mean, device=images.device)[:, None, None] * 255
    std = torch.tensor(data.std, device=images.device)[:, None, None] * 255
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def class_weights(labels: Tensor, classes: int, balance: float) -> Tensor:
    """(C,) weight of each class in the loss: its frequency to the power of minus `balance`, 1 for the mean pixel."""
    sample = labels[:: max(len(labels) // 512, 1)]
    share = torch.bincount(sample[sample != IGNORE].flatten().long(), minlength=classes)[:classes].float()
    share = share / share.sum().clamp(min=1)
    weights = share.clamp(min=1e-4) ** -balance
    return weights / (weights * share).sum().clamp(min=1e-6)


def shares_of(labels: Tensor, classes: int, height: int, width: int) -> Tensor:
    """(B, C, h, w): the share of each class in the pixels (B, H, W) under a cell; sums to 1 less the ignored share."""
    known = F.one_hot(labels.long().clamp(max=classes), classes + 1)[..., :classes]
    return F.adaptive_avg_pool2d(known.permute(0, 3, 1, 2).float(), (height, width))


def loss_of(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of logits (B, C, h, w) against the shares of the classes (C weights) under each of their cells.

    Shares instead of one label a cell keep what thin strokes say, at the price of the small map.
    """
    shares = shares_of(labels, logits.shape[1], *logits.shape[2:]) * weights[:, None, None]
    return -(shares * logits.float().log_softmax(dim=1)).sum() / shares.sum().clamp(min=1)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """The precision of the forward pass: "fp32", "bf16" or "fp16"."""
    return torch.autocast(device.type, dtype=AUTOCAST[precision], enabled=precision != "fp32")


@torch.no_grad()
def recalibrate(network: nn.Module, batches: list[Tensor]) -> None:
    """Batch norms' statistics from these batches alone: moving averages lag behind weights in a short schedule."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for batch in batches if norms else []:
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def validate(network: nn.Module, data: Dataset, *, batch: int, precision: str = "fp32") -> float:
    """Mean IoU over the validation images, predictions upsampled to the labels' resolution."""
    network.eval()
    classes = len(data.classes)
    device = data.val.images.device
    total = torch.zeros(classes, classes, dtype=torch.long, device=device)
    for images, labels in zip(torch.split(data.val.images, batch), torch.split(data.val.labels, batch), strict=True):
        with autocast(device, precision):
            logits = network(normalised(images, data))
        full = F.interpolate(logits.float(), size=labels.shape[1:], mode="bilinear", align_corners=False)
        total += confusion_of(full.argmax(dim=1), labels, classes)
    return mean_iou(total)
