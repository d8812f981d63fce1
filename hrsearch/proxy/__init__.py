"""Proxy training: a short schedule on small images whose score ranks candidates as long training would."""

import time

import torch
from torch import nn

from hrsearch.objective import Score
from hrsearch.proxy.data import Dataset
from hrsearch.proxy.learning import learn, learner_of, memory_watched, validate
from hrsearch.runner import Proxy


def train_proxy(
    network: nn.Module, data: Dataset, proxy: Proxy, *, seed: int, device: torch.device | str = "cpu"
) -> Score:
    """Train `network` for `proxy.steps` and return its mean IoU over the validation images.

    `network` maps images (B, 3, H, W) to logits (B, classes, h, w) and is trained in place. `seed` fixes the batches
    and what the network draws while it trains; its weights are the caller's. A loss that is not finite and memory
    that runs out raise CandidateFailed.
    """
    start = time.perf_counter()
    with memory_watched():
        learner = learner_of(network, data, proxy, device)
        losses = [learn(learner, data, proxy, step=step, seed=seed) for step in range(proxy.steps)]
        value = validate(learner, data, proxy)
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
