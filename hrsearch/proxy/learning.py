"""What short and long training share: the schedule, the optimiser, the batches, the loss, the step, the evaluation.

What a step does is a function of the weights, the seed and the step alone, so that a run can be taken up anywhere.

Shapes: B images, C classes, H = W the side of an image, h and w the sides of the logits (stride 4 or 8).
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from hrsearch.errors import CandidateFailed
from hrsearch.proxy.data.dataset import IGNORE, Dataset, Split
from hrsearch.proxy.metrics import confusion_of, mean_iou
from hrsearch.proxy.muon import Muon, is_mixing

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DECAY = 0.35  # share of the schedule in which the learning rate falls to zero
REACH = 8  # an augmented image moves by up to its side over this


class Plan(Protocol):
    """How to train: what a proxy and a recipe have in common. Their fields say what each means."""

    @property
    def optimizer(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def warmup(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def decay(self) -> float: ...
    @property
    def clip(self) -> float: ...
    @property
    def balance(self) -> float: ...
    @property
    def zoom(self) -> tuple[float, float]: ...
    @property
    def schedule(self) -> str: ...
    @property
    def precision(self) -> str: ...


@dataclass(frozen=True)
class Learner:
    """A network in training, and all that its training changes."""

    network: nn.Module
    optimizers: tuple[torch.optim.Optimizer, ...]  # each has parameters of its own
    scaler: torch.amp.GradScaler  # does nothing but in fp16
    weights: Tensor  # (C,) of the classes in the loss
    device: torch.device


def learner_of(network: nn.Module, data: Dataset, plan: Plan, device: torch.device | str) -> Learner:
    """The network on its device, channels last in memory, with a fresh optimiser."""
    device = torch.device(device)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Learner(
        network,
        optimizers_of(network, plan),
        torch.amp.GradScaler(device.type, enabled=plan.precision == "fp16"),
        class_weights(data.train.labels, len(data.classes), plan.balance).to(device),
        device,
    )


def learn(learner: Learner, data: Dataset, plan: Plan, *, step: int, seed: int) -> float:
    """Do one step, counted from 0, and return its loss; CandidateFailed if that is not finite."""
    torch.manual_seed(_mixed(seed, step))  # of what the network draws: dropped paths, dropout
    learner.network.train()
    batch = batch_at(data, plan.batch, step=step, seed=seed)
    for group in (group for optimizer in learner.optimizers for group in optimizer.param_groups):
        group["lr"] = plan.rate * rate_factor(plan, step)
    with _autocast(learner.device, plan.precision):
        logits = learner.network(seen(batch.images.to(learner.device), data, plan.zoom))
    loss = loss_of(logits, batch.labels.to(learner.device), learner.weights)
    value = float(loss.item())
    if not math.isfinite(value):
        raise CandidateFailed(f"loss is {value} at step {step}")
    _descend(learner, loss, plan.clip)
    return value


def _descend(learner: Learner, loss: Tensor, clip: float) -> None:
    learner.network.zero_grad(set_to_none=True)
    learner.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    for optimizer in learner.optimizers:
        if isinstance(optimizer, Muon):
            optimizer.take_gradients()
        learner.scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(learner.network.parameters(), clip)
    for optimizer in learner.optimizers:
        learner.scaler.step(optimizer)
    learner.scaler.update()


def rate_factor(plan: Plan, step: int) -> float:
    """The learning rate of `step`, counted from 0, as a share of its peak: a linear warm-up, then the schedule.

    "stable" stays at the peak and falls linearly at the end, "cosine" falls all the way. At a proxy's length the stable
    one ranks better: for two networks with two seeds each, 150 steps on six of the digits, the seeds differed by .13
    and .05 with a cosine, by .02 and .02 with this, and the mean score rose from .49 to .54.
    """
    if step < plan.warmup:
        return (step + 1) / (plan.warmup + 1)
    if plan.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - plan.warmup) / max(plan.steps - plan.warmup, 1)))
    return min(1.0, (plan.steps - step) / (DECAY * plan.steps))


def optimizers_of(network: nn.Module, plan: Plan) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW (Loshchilov and Hutter, 2019) for all, or Muon for what mixes channels and AdamW for the rest.

    Biases and norms, which have one dimension, are not decayed.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    mixing = [parameter for parameter in trained if plan.optimizer == "muon" and is_mixing(parameter)]
    known = set(map(id, mixing))
    rest = [parameter for parameter in trained if id(parameter) not in known]
    groups = [
        {"params": [parameter for parameter in rest if parameter.ndim > 1], "weight_decay": plan.decay},
        {"params": [parameter for parameter in rest if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=plan.rate, fused=True)
    return (adamw, Muon(mixing, rate=plan.rate, decay=plan.decay)) if mixing else (adamw,)


def batch_at(data: Dataset, batch: int, *, step: int, seed: int) -> Split:
    """The training images of a step: each once an epoch, as they are in the first, moved and flipped from then on."""
    count = len(data.train)
    indices = _indices(range(step * batch, (step + 1) * batch), count, seed)
    found = Split(data.train.images[indices], data.train.labels[indices])
    if step * batch < count:
        return found
    return augmented(found, mirrors=data.mirrors, generator=Generator().manual_seed(_mixed(seed, step)))


def _indices(places: range, count: int, seed: int) -> Tensor:
    """(B,) which images stand at these places of an endless row of epochs, each in an order of its own."""
    epochs = {place // count for place in places}
    orders = {epoch: torch.randperm(count, generator=Generator().manual_seed(_mixed(seed, epoch))) for epoch in epochs}
    return torch.stack([orders[place // count][place % count] for place in places])


def _mixed(seed: int, number: int) -> int:
    """A seed for each step or epoch of each seed."""
    return seed * 1_000_003 + number


def augmented(batch: Split, *, mirrors: bool, generator: Generator) -> Split:
    """The batch moved by up to an eighth of its side, what comes in ignored; some images flipped if `mirrors`."""
    reach = batch.images.shape[-1] // REACH
    down, across = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    images, labels = _moved(batch.images, down, across, 0), _moved(batch.labels, down, across, IGNORE)
    if mirrors:
        flip = torch.rand(len(images), generator=generator) < 0.5
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


def seen(images: Tensor, data: Dataset, zoom: tuple[float, float]) -> Tensor:
    """What the network is given: the images (B, 3, H, W) normalised, resized by `zoom` (height, width)."""
    found = normalised(images, data)
    if zoom == (1.0, 1.0):
        return found
    size = [max(round(side * factor), 1) for side, factor in zip(found.shape[-2:], zoom, strict=True)]
    return F.interpolate(found, size, mode="bilinear", align_corners=False, antialias=True)


def class_weights(labels: Tensor, classes: int, balance: float) -> Tensor:
    """(C,) weight of each class in the loss: its frequency to the power of minus `balance`, 1 for the mean pixel."""
    sample = labels[:: max(len(labels) // 512, 1)]
    share = torch.bincount(sample[sample != IGNORE].flatten().long(), minlength=classes).float()
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
    return -(shares * logits.float().log_softmax(dim=1)).sum() / shares.sum().clamp(min=1e-6)


@torch.no_grad()
def validate(learner: Learner, data: Dataset, plan: Plan) -> float:
    """Mean IoU over the validation images, predictions upsampled to the labels' resolution."""
    learner.network.eval()
    classes = len(data.classes)
    total = torch.zeros(classes, classes, dtype=torch.long, device=learner.device)
    for some, labels in zip(
        torch.split(data.val.images, plan.batch), torch.split(data.val.labels, plan.batch), strict=True
    ):
        with _autocast(learner.device, plan.precision):
            logits = learner.network(seen(some.to(learner.device), data, plan.zoom))
        full = F.interpolate(logits.float(), size=labels.shape[1:], mode="bilinear", align_corners=False)
        total += confusion_of(full.argmax(dim=1), labels.to(learner.device), classes)
    return mean_iou(total)


@contextmanager
def memory_watched() -> Iterator[None]:
    """Turns running out of memory, of whatever device, into CandidateFailed."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = str(error).splitlines() or ["no details"]
        if isinstance(error, MemoryError) or re.search("out of memory|can't allocate", str(error), re.IGNORECASE):
            raise CandidateFailed(f"out of memory ({words[0][:200]})") from error
        raise


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, dtype=TYPES[precision], enabled=precision != "fp32")
