"""What short and long training share: the schedule, the optimiser, the batches, the loss, the step, the evaluation.

What a step does is a function of the weights, the seed and the step alone, so that a run can be taken up anywhere.

Shapes: B images, C classes or keypoints, H = W the side of an image; predictions and labels stand at `tasks`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from hrsearch.errors import CandidateFailed, InputError, as_out_of_memory
from hrsearch.proxy.data.dataset import Dataset, Split
from hrsearch.proxy.groups import USUAL, Groups, groups_of
from hrsearch.proxy.muon import Muon, is_mixing
from hrsearch.proxy.tasks import LEARNING, moved_pixels
from hrsearch.runner import DECAY
from hrsearch.task import TASKS

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
AUXILIARY = 0.4  # weight of the loss of each auxiliary prediction, as OCR (Yuan et al., 2020) and UPerNet train
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


def learner_of(
    network: nn.Module, data: Dataset, plan: Plan, device: torch.device | str, groups: Groups = USUAL
) -> Learner:
    """The network on its device, channels last in memory, with a fresh optimiser."""
    device = torch.device(device)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Learner(
        network,
        optimizers_of(network, plan, groups),
        torch.amp.GradScaler(device.type, enabled=plan.precision == "fp16"),
        LEARNING[data.task].weights(data.train_labels, len(data.classes), plan.balance).to(device),
        device,
    )


def learn(learner: Learner, data: Dataset, plan: Plan, *, step: int, seed: int, given: Split | None = None) -> float:
    """Do one step, counted from 0, and return its loss; CandidateFailed if that is not finite.

    It learns from `given`, or else from the batch of the step as it lies in memory.

    Auxiliary predictions of the head, which only training asks for, add to it. A prediction that is none of the
    data's task is an InputError.
    """
    torch.manual_seed(mixed_seed(seed, step))  # of what the network draws: dropped paths, dropout
    learner.network.train()
    batch = batch_at(data, plan.batch, step=step, seed=seed) if given is None else given
    batch = batch.to(learner.device)
    set_rate(learner, plan.rate * rate_factor(plan, step))
    with autocast(learner.device, plan.precision), norms_watched(len(batch)):
        predictions = predictions_of(learner.network, seen(batch.images, data, plan.zoom))
    loss = weighted(losses_of(predictions, batch, data, learner.weights))
    value = finite(loss, step)
    learner.network.zero_grad(set_to_none=True)
    learner.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    descend(learner, plan.clip)
    return value


def set_rate(learner: Learner, rate: float) -> None:
    """Learn at this rate, some groups of parameters at a multiple of it."""
    for group in (group for optimizer in learner.optimizers for group in optimizer.param_groups):
        group["lr"] = rate * group.get("factor", 1.0)


def finite(loss: Tensor, step: int) -> float:
    """The loss as a number; CandidateFailed if it is not finite."""
    value = float(loss.item())
    if not math.isfinite(value):
        raise CandidateFailed(f"loss is {value} at step {step}")
    return value


def predictions_of(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The prediction, then the auxiliary ones of a head that has them."""
    predict: Callable[[Tensor], list[Tensor]] | None = getattr(network, "predictions", None)
    return [network(images)] if predict is None else predict(images)


def losses_of(predictions: list[Tensor], batch: Split, data: Dataset, weights: Tensor) -> list[Tensor]:
    """The loss of each prediction, a mean over the batch; one that is none of the data's task is an InputError."""
    return [LEARNING[data.task].loss(checked(each, data), batch, weights) for each in predictions]


def weighted(losses: list[Tensor]) -> Tensor:
    """The loss of the prediction and, at their weight, of the auxiliary ones."""
    return losses[0] if len(losses) == 1 else losses[0] + AUXILIARY * torch.stack(losses[1:]).sum()


def checked(prediction: Tensor, data: Dataset) -> Tensor:
    """The prediction, if its shape is that of the data's task."""
    shape, classes = tuple(prediction.shape), len(data.classes)
    dimensions = LEARNING[data.task].dimensions
    if len(shape) != dimensions or shape[1] != classes:
        wanted = ", ".join(["images", str(classes), "height", "width"][:dimensions])
        raise InputError(
            f"task {data.task!r} needs a head that predicts ({wanted}), but this network's gives {shape}; "
            f"leave the head out for {TASKS[data.task].head!r}, or give one of that shape"
        )
    return prediction


def descend(learner: Learner, clip: float) -> None:
    """Clip the gradients that the parameters have, and take the optimisers' steps.

    Where a gradient overflowed in fp16 none takes its step: clipping has spread it to all by their common norm.
    """
    for optimizer in learner.optimizers:
        if isinstance(optimizer, Muon):
            optimizer.take_gradients()
        learner.scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(learner.network.parameters(), clip)
    overflowed = learner.scaler.is_enabled() and not norm.isfinite()
    for optimizer in () if overflowed else learner.optimizers:
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


def optimizers_of(network: nn.Module, plan: Plan, groups: Groups = USUAL) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW (Loshchilov and Hutter, 2019) for all, or Muon for what mixes channels and AdamW for the rest.

    `groups` says which parameters AdamW does not decay: usually biases and norms, which have one dimension.
    """
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    mixing = {name: each for name, each in trained.items() if plan.optimizer == "muon" and is_mixing(each)}
    rest = {name: each for name, each in trained.items() if name not in mixing}
    adamw = torch.optim.AdamW(groups_of(network, rest, plan.decay, groups), lr=plan.rate, fused=True)
    return (adamw, Muon(list(mixing.values()), rate=plan.rate, decay=plan.decay)) if mixing else (adamw,)


def batch_at(data: Dataset, batch: int, *, step: int, seed: int) -> Split:
    """The training images of a step: each once an epoch, as they are in the first, moved and flipped from then on."""
    count = len(data.train)
    indices = indices_at(range(step * batch, (step + 1) * batch), count, seed)
    found = Split(data.train.images[indices], data.train.labels[indices])
    if step * batch < count:
        return found
    generator = Generator().manual_seed(mixed_seed(seed, step))
    return augmented(found, task=data.task, mirrors=data.mirrors, generator=generator, swap=data.swap)


def indices_at(places: range, count: int, seed: int) -> Tensor:
    """(B,) which images stand at these places of an endless row of epochs, each in an order of its own."""
    epochs = {place // count for place in places}
    orders = {
        epoch: torch.randperm(count, generator=Generator().manual_seed(mixed_seed(seed, epoch))) for epoch in epochs
    }
    return torch.stack([orders[place // count][place % count] for place in places])


def mixed_seed(seed: int, number: int) -> int:
    """A seed for each step or epoch of each seed."""
    return seed * 1_000_003 + number


def augmented(batch: Split, *, task: str, mirrors: bool, generator: Generator, swap: tuple[int, ...] = ()) -> Split:
    """The batch moved by up to an eighth of its side, its labels with it; some images flipped if `mirrors`.

    `swap` is the keypoint that each one is in a flipped image, if another.
    """
    side, learning = batch.images.shape[-1], LEARNING[task]
    reach = side // REACH
    down, across = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    images, labels = moved_pixels(batch.images, down, across, 0), learning.moved(batch.labels, down, across, side)
    if mirrors:
        flip = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(flip[:, None, None, None], images.flip(-1), images)
        flipped = learning.flipped(labels, side)
        flipped = flipped[:, list(swap)] if swap else flipped
        labels = torch.where(flip.view(-1, *[1] * (labels.ndim - 1)), flipped, labels)
    return Split(images, labels)


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


@torch.no_grad()
def validate(learner: Learner, data: Dataset, plan: Plan) -> tuple[float, float]:
    """The metric of the data's task over the validation images, in 0..1 (mean IoU, top-1 or PCK), and the mean loss.

    A loss that is not finite raises CandidateFailed.
    """
    learner.network.eval()
    counts, losses = [], []
    for batch in _validation(data, plan, learner.device):
        prediction = _predicted(learner.network, batch, data, plan, learner.device)
        counts.append(LEARNING[data.task].tally(prediction, batch))
        losses.append(len(batch.images) * LEARNING[data.task].loss(prediction, batch, learner.weights))
    loss = float(torch.stack(losses).sum() / len(data.val))
    if not math.isfinite(loss):
        raise CandidateFailed(f"loss is {loss} on the validation images")
    return LEARNING[data.task].value(torch.stack(counts).sum(dim=0)), loss


@torch.no_grad()
def tally(network: nn.Module, data: Dataset, plan: Plan, device: torch.device, turn: int = 0, turns: int = 1) -> Tensor:
    """The counts behind the metric; of every `turns`-th batch from number `turn` on. They add up to those of all."""
    network.eval()
    counts = [
        LEARNING[data.task].tally(_predicted(network, batch, data, plan, device), batch)
        for batch in _validation(data, plan, device, turn, turns)
    ]
    is_given_any = turn * plan.batch < len(data.val)  # whoever is not counts a batch for nothing
    return torch.stack(counts).sum(dim=0) * is_given_any


def _validation(data: Dataset, plan: Plan, device: torch.device, turn: int = 0, turns: int = 1) -> Iterator[Split]:
    batches = list(zip(*(torch.split(each, plan.batch) for each in (data.val.images, data.val.labels)), strict=True))
    for images, labels in batches[turn % len(batches) :: turns]:
        yield Split(images, labels).to(device)


def _predicted(network: nn.Module, batch: Split, data: Dataset, plan: Plan, device: torch.device) -> Tensor:
    with autocast(device, plan.precision):
        prediction = network(seen(batch.images, data, plan.zoom))
    return checked(prediction, data).float()


@contextmanager
def memory_watched() -> Iterator[None]:
    """Turns running out of memory, of whatever device, into OutOfMemory."""
    try:
        yield
    except Exception as error:
        short = as_out_of_memory(error)
        if short is None or short is error:
            raise
        raise short from error


@contextmanager
def norms_watched(images: int) -> Iterator[None]:
    """In which a batch norm behind pooling, or on a map of one pixel, that has one value to norm is an InputError."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        told = f"this network's batch norms need at least 2 images at a time to train, but got {images}"
        raise InputError(f"batch: {told}; give a larger batch, or a lower accumulate") from None


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """In which forward passes are in half precision, if that is the plan's."""
    return torch.autocast(device.type, dtype=TYPES[precision], enabled=precision != "fp32")
