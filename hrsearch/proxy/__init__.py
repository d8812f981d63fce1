"""Proxy training: a short schedule on small images whose score ranks candidates as long training would."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from hrsearch.errors import CandidateFailed, InputError
from hrsearch.objective import LIKELIHOOD, Score
from hrsearch.proxy.checkpoint import read_state, restore, state_of, write_state
from hrsearch.proxy.data import Dataset, load_dataset
from hrsearch.proxy.feed import How, batches
from hrsearch.proxy.learning import Learner, learn, learner_of, memory_watched, validate
from hrsearch.proxy.tasks import LEARNING
from hrsearch.proxy.zero import probe_of
from hrsearch.registry import ZERO_COST
from hrsearch.runner import Proxy, trunk_of


def proxy_data(proxy: Proxy, task: str) -> Dataset:
    """The data that candidates for the task train on."""
    found = load_dataset(
        proxy.data, image=proxy.image, train_images=proxy.train_images, val_images=proxy.val_images, task=task
    )
    return found.flipped_if(proxy.mirrors)


def train_proxy(
    network: nn.Module,
    data: Dataset,
    proxy: Proxy,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    rung: int | None = None,
    checkpoint: Path | None = None,
) -> Score:
    """Train `network` to a rung, by default the last, and return its score in the task of `data` over the validation
    images.

    `network` maps images (B, 3, H, W) to predictions, (B, classes) to classify and (B, classes, h, w) otherwise, and is
    trained in place. `seed` fixes the batches and what the network draws while it trains; its weights are the caller's.
    Every rung ends with the decay of a schedule of its length. What stands before that decay is kept at `checkpoint`:
    the next rung goes on from there, and ends where training to it at once would have.
    A loss that is not finite and memory that runs out raise CandidateFailed, predictions of another shape InputError.
    """
    begin = time.perf_counter()
    ladder = proxy.ladder
    rung = len(ladder) - 1 if rung is None else rung
    if ladder[rung] == 0:
        return _untrained(network, data, proxy, seed)
    plan = proxy.model_copy(update={"steps": ladder[rung]})
    losses = []
    with memory_watched():
        learner = learner_of(network, data, plan, device)
        start = _gone_on(learner, checkpoint, seed)
        given = batches(data, plan, How(augments=proxy.augment), seed=seed, start=start)
        for step, batch in enumerate(given, start):
            if checkpoint and step == trunk_of(plan.steps) and rung + 1 < len(ladder):
                write_state(checkpoint, {"seed": seed, "step": step, **state_of(learner)})
            losses.append(learn(learner, data, plan, step=step, seed=seed, given=batch))
        value, loss = validate(learner, data, plan)
    found = {LEARNING[data.task].metric: value, LIKELIHOOD: math.exp(-loss)}
    metric = LIKELIHOOD if proxy.score == LIKELIHOOD else LEARNING[data.task].metric
    return Score(
        value=found[metric],
        metric=metric,
        rung=rung,
        steps=plan.steps,
        images=plan.steps * plan.batch,
        seconds=time.perf_counter() - begin,
        seed=seed,
        loss=loss,
        losses=_curve(losses, start, max(plan.steps // 10, 1)),
        metrics=found,
    )


def _curve(losses: Sequence[float], start: int, tenth: int) -> tuple[tuple[int, float], ...]:
    """The mean of every `tenth` losses, after the step that it ends at; the first loss is that of step `start`."""
    parts = [losses[begin : begin + tenth] for begin in range(0, len(losses), tenth)]
    ends = [min(start + tenth * (index + 1), start + len(losses)) for index in range(len(parts))]
    return tuple((end, round(sum(part) / len(part), 5)) for end, part in zip(ends, parts, strict=True))


def _untrained(network: nn.Module, data: Dataset, proxy: Proxy, seed: int) -> Score:
    """What the zero-cost proxy that screens says of the network; a value that is not finite fails the candidate."""
    begin = time.perf_counter()
    value = float(ZERO_COST[str(proxy.screen)](network, probe_of(data, proxy, seed)))
    if not math.isfinite(value):
        raise CandidateFailed(f"{proxy.screen} is {value}")
    seconds = time.perf_counter() - begin
    return Score(value, str(proxy.screen), rung=0, steps=0, images=0, seconds=seconds, seed=seed, loss=-value)


def _gone_on(learner: Learner, checkpoint: Path | None, seed: int) -> int:
    """The step from which training goes on: that of the checkpoint, or the first where there is none to be read."""
    try:
        state = read_state(checkpoint, learner.device) if checkpoint else None
    except InputError:
        return 0
    if state is None or state["seed"] != seed:  # of another candidate
        return 0
    restore(learner, state)
    return int(state["step"])
