"""One step of a long training: its images in parts and over processes, the teacher, the average.

What a step does is a function of the weights, the seed and the step alone, as in a proxy's training.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hrsearch.build import Network
from hrsearch.proxy.checkpoint import restore, state_of
from hrsearch.proxy.data import Dataset, Split
from hrsearch.proxy.learning import (
    Learner,
    autocast,
    checked,
    descend,
    finite,
    losses_of,
    mixed_seed,
    norms_watched,
    seen,
    set_rate,
    weighted,
)
from hrsearch.proxy.tasks import LEARNING
from hrsearch.train.averaging import Average
from hrsearch.train.distill import lesson, share_at, taught
from hrsearch.train.distributed import Predict, Team, alone
from hrsearch.train.hard import hard_loss, hard_weight
from hrsearch.train.recipe import Recipe
from hrsearch.train.schedule import rate_at

RANKS = 7_919  # by so much the seeds of the processes differ: each drops other paths


@dataclass(frozen=True)
class Trainer:
    """A network in long training, and all that its training changes."""

    learner: Learner
    predict: Predict  # its network, compiled and shared as the recipe and the team have it
    average: Average | None
    team: Team

    @property
    def judged(self) -> Network:
        """The network that is validated and kept: the average where there is one."""
        network = self.average.network if self.average else self.learner.network
        assert isinstance(network, Network)
        return network

    def state(self) -> dict[str, object]:
        """All that training changes, as tensors and plain values."""
        return {**state_of(self.learner), "average": self.average and self.average.network.state_dict()}

    def restore(self, state: dict[str, object]) -> None:
        """Put everything where `state` found it."""
        restore(self.learner, state)
        if self.average:
            self.average.network.load_state_dict(state["average"])  # type: ignore[arg-type]


def learn(trainer: Trainer, data: Dataset, recipe: Recipe, *, step: int, given: Split) -> float:
    """Do one step, counted from 0, with this process' part of its batch, and return the loss of the whole batch.

    The loss is a mean over all pixels, images or keypoints of the batch, by their weights, however it is divided.
    A loss that is not finite is a CandidateFailed, a prediction that is none of the data's task an InputError.
    """
    learner = trainer.learner
    torch.manual_seed(mixed_seed(recipe.seed, step) + RANKS * trainer.team.rank)  # of what the network draws
    learner.network.train()
    set_rate(learner, rate_at(recipe, step))
    learner.network.zero_grad(set_to_none=True)
    parts = _parts(given.to(learner.device), recipe.accumulate)
    total = torch.zeros((), device=learner.device, dtype=torch.float64)
    is_told_ahead = recipe.ohem and len(parts) > 1  # which pixels are hard
    whole = _ahead(trainer, data, recipe, parts) if is_told_ahead else []
    for number, part in enumerate(parts, 1):
        images = seen(part.images, data, recipe.zoom)
        with alone(trainer.predict, is_last=number == len(parts)):
            loss = _loss(trainer, data, recipe, step, (images, part), parts, whole)
            learner.scaler.scale(loss * trainer.team.size).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    value = finite(trainer.team.summed(total), step)
    descend(learner, recipe.clip)
    if trainer.average:
        trainer.average.update(learner.network, step + 1)
    return value


def _parts(batch: Split, count: int) -> list[Split]:
    return [Split(*both) for both in zip(batch.images.chunk(count), batch.labels.chunk(count), strict=True)]


def _loss(
    trainer: Trainer,
    data: Dataset,
    recipe: Recipe,
    step: int,
    given: tuple[Tensor, Split],
    parts: list[Split],
    whole: list[Tensor],
) -> Tensor:
    """What the part `given`, its images as the network sees them first, adds to the loss of the batch.

    `whole`, the weight of the batch in the loss of each prediction, may be empty at the first part.
    """
    images, part = given
    share = share_at(recipe, step)
    with autocast(trainer.learner.device, recipe.precision):
        teaching = lesson(trainer.average.network, images) if trainer.average and share else None
        with norms_watched(len(part)):
            predictions = trainer.predict(images)
    losses = losses_of(predictions, part, data, trainer.learner.weights)
    if recipe.ohem:  # auxiliary predictions learn from all pixels
        losses[0] = hard_loss(predictions[0], part, trainer.learner.weights, recipe)
    several = len(parts) * trainer.team.size
    if several > 1:
        ours = _weighed(trainer, data, recipe, predictions, part)
        if not whole:
            whole += _summed(trainer, [_weighed(trainer, data, recipe, predictions, each) for each in parts])
        # Taken from each part's own mean to its share of the batch's.
        losses = [loss * one / all_ for loss, one, all_ in zip(losses, ours, whole, strict=True)]
    loss = weighted(losses)
    return loss if teaching is None else taught(loss, predictions[0], teaching, recipe, share, several)


def _ahead(trainer: Trainer, data: Dataset, recipe: Recipe, parts: list[Split]) -> list[Tensor]:
    """The weight of the whole batch in the loss of each prediction, where only the predictions of all parts tell it.

    It costs a forward pass of each. None of it is left: neither gradients, nor statistics, nor what was drawn.
    """
    network, device = trainer.learner.network, trainer.learner.device
    before = [buffer.clone() for buffer in network.buffers()]
    each = []
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        for part in parts:
            with autocast(device, recipe.precision), norms_watched(len(part)):
                predictions = trainer.predict(seen(part.images, data, recipe.zoom))
            each.append(_weighed(trainer, data, recipe, [checked(one, data) for one in predictions], part))
        for buffer, old in zip(network.buffers(), before, strict=True):
            buffer.copy_(old)
    return _summed(trainer, each)


def _summed(trainer: Trainer, each: list[list[Tensor]]) -> list[Tensor]:
    """Of the weights of each part those of the whole batch, over all processes."""
    whole = torch.stack([torch.stack(weights) for weights in each]).sum(dim=0)
    return list(trainer.team.summed(whole).clamp(min=1e-6))


def _weighed(trainer: Trainer, data: Dataset, recipe: Recipe, predictions: list[Tensor], part: Split) -> list[Tensor]:
    """The part's weight in the loss of each prediction: by their shapes, but for hard pixels by what was predicted."""
    weight, weights = LEARNING[data.task].weight, trainer.learner.weights
    found = [weight(tuple(each.shape), part, weights) for each in predictions]
    if recipe.ohem:
        found[0] = hard_weight(predictions[0].detach(), part, weights, recipe)
    return found
