"""Proxy training: a short schedule on small images whose score ranks candidates as long training would."""

import math
import re
import time

import torch
from torch import Tensor, nn

from hrsearch.errors import CandidateFailed
from hrsearch.objective import Score
from hrsearch.proxy import learning
from hrsearch.proxy.data import Dataset
from hrsearch.runner import Proxy

RECALIBRATION = 16  # batches that batch norms' statistics are taken from before the evaluation


def train_proxy(
    network: nn.Module, data: Dataset, proxy: Proxy, *, seed: int, device: torch.device | str = "cpu"
) -> Score:
    """Train `network` for `proxy.steps` and return its mean IoU over the validation images.

    `network` maps images (B, 3, H, W) to logits (B, classes, h, w) and is trained in place. `seed` fixes the batches
    and what the network draws while it trains; its weights are the caller's. A loss that is not finite and memory
    that runs out raise CandidateFailed.
    """
    start = time.perf_counter()
    torch.manual_seed(seed)
    try:
        losses = _trained(network, data.to(device), proxy, seed)
        value = _judged(network, data.to(device), proxy, seed)
    except (MemoryError, RuntimeError) as error:
        raise _failure(error) from error
    tail = losses[-max(len(losses) // 10, 1) :]
    return Score(
        value=value,
        metric="mIoU",
        rung=0,
        steps=proxy.steps,
        images=proxy.steps * proxy.batch,
        seconds=time.perf_counter() - start,
        seed=seed,
        loss=sum(tail) / len(tail),
    )


def _trained(network: nn.Module, data: Dataset, proxy: Proxy, seed: int) -> list[float]:
    """Train; the loss of every step."""
    device = data.train.images.device
    network.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = learning.optimizer_of(network, rate=proxy.rate, decay=proxy.decay)
    weights = learning.class_weights(data.train.labels, len(data.classes), proxy.balance).to(device)
    losses = []
    for step in range(proxy.steps):
        batch = learning.batch_of(data.train, learning.chosen(step, proxy.batch, len(data.train), seed))
        factor = learning.rate_factor(step, proxy.steps, proxy.warmup)
        for group in optimizer.param_groups:
            group["lr"] = proxy.rate * factor
        with learning.autocast(device, proxy.precision):
            logits = network(learning.normalised(batch.images, data))
        loss = learning.loss_of(logits, batch.labels, weights)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise CandidateFailed(f"loss is {losses[-1]} at step {step}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), proxy.clip)
        optimizer.step()
    return losses


def _judged(network: nn.Module, data: Dataset, proxy: Proxy, seed: int) -> float:
    steps = range(min(RECALIBRATION, proxy.steps))
    learning.recalibrate(network, [_images(data, proxy, step, seed) for step in steps])
    return learning.validate(network, data, batch=proxy.batch, precision=proxy.precision)


def _images(data: Dataset, proxy: Proxy, step: int, seed: int) -> Tensor:
    indices = learning.chosen(step, proxy.batch, len(data.train), seed)
    return learning.normalised(learning.batch_of(data.train, indices).images, data)


def _failure(error: Exception) -> Exception:
    """CandidateFailed where memory ran out, else the error itself."""
    memory = isinstance(error, MemoryError) or re.search("out of memory|can't allocate", str(error), re.IGNORECASE)
    return (
        CandidateFailed(f"out of memory ({str(error).splitlines()[0][:200] if str(error) else 'no details'})")
        if memory
        else error
    )
