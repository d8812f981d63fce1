"""Proxy training: a short schedule on small images whose score ranks candidates as long training would."""

import time

import torch
from torch import nn

from hrsearch.objective import Score
from hrsearch.proxy.data import Dataset, load_dataset
from hrsearch.proxy.feed import How, batches
from hrsearch.proxy.learning import learn, learner_of, memory_watched, validate
from hrsearch.proxy.tasks import LEARNING
from hrsearch.runner import Proxy


def proxy_data(proxy: Proxy, task: str) -> Dataset:
    """The data that candidates for the task train on."""
    return load_dataset(
        proxy.data, image=proxy.image, train_images=proxy.train_images, val_images=proxy.val_images, task=task
    )


def train_proxy(
    network: nn.Module, data: Dataset, proxy: Proxy, *, seed: int, device: torch.device | str = "cpu"
) -> Score:
    """Train `network` for `proxy.steps` and return its score in the task of `data` over the validation images.

    `network` maps images (B, 3, H, W) to predictions, (B, classes) to classify and (B, classes, h, w) otherwise, and is
    trained in place. `seed` fixes the batches and what the network draws while it trains; its weights are the caller's.
    A loss that is not finite and memory that runs out raise CandidateFailed, predictions of another shape InputError.
    """
    start = time.perf_counter()
    with memory_watched():
        learner = learner_of(network, data, proxy, device)
        given = enumerate(batches(data, proxy, How(augments=proxy.augment), seed=seed))
        losses = [learn(learner, data, proxy, step=step, seed=seed, given=batch) for step, batch in given]
        value = validate(learner, data, proxy)
    tail = losses[-max(len(losses) // 10, 1) :]
    return Score(
        value=value,
        metric=LEARNING[data.task].metric,
        rung=0,
        steps=proxy.steps,
        images=proxy.steps * proxy.batch,
        seconds=time.perf_counter() - start,
        seed=seed,
        loss=sum(tail) / len(tail),
    )
