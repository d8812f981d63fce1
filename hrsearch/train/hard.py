"""Hard pixels alone: online hard example mining (Shrivastava et al., 2016), as HRFormer's segmentation is trained.

Shapes: B images, C classes, h and w the sides of a prediction.
"""

import math

import torch
from torch import Tensor

from hrsearch.errors import InputError
from hrsearch.proxy.data import Split
from hrsearch.proxy.tasks import shares_of
from hrsearch.train.recipe import Recipe


def require_pixels(recipe: Recipe, task: str) -> None:
    """An InputError where no pixels are told apart."""
    if recipe.ohem and task != "segment":
        raise InputError(f"ohem: is for task 'segment', not {task!r}; leave it at 0")


def hard_loss(logits: Tensor, batch: Split, weights: Tensor, recipe: Recipe) -> Tensor:
    """() the cross-entropy of logits (B, C, h, w), a mean over the hard cells, weighted by their classes (C weights).

    Hard are cells whose class has less than the probability `recipe.ohem`; where these hold fewer pixels than
    `recipe.ohem_keep` an image, the least probable others, too. Of several classes in a cell their geometric mean
    counts. Differs from the papers: they enlarge the prediction first, so that each cell is one pixel.
    """
    logs = _logs(logits)
    shares = _hard(logs, batch, weights, recipe)
    return -(shares * logs).sum() / shares.sum().clamp(min=1e-6)


def hard_weight(logits: Tensor, batch: Split, weights: Tensor, recipe: Recipe) -> Tensor:
    """() what `hard_loss` divides by."""
    return _hard(_logs(logits), batch, weights, recipe).sum()


def _logs(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=1)


def _hard(logs: Tensor, batch: Split, weights: Tensor, recipe: Recipe) -> Tensor:
    """(B, C, h, w) the shares of the classes in the hard cells, weighted; `logs` are of their probabilities."""
    shares = shares_of(batch.labels, logs.shape[1], *logs.shape[2:])
    known = shares.sum(dim=1)
    surprise = -(shares * logs.detach()).sum(dim=1) / known.clamp(min=1e-6)  # -log of a cell's probability
    kept = math.ceil(recipe.ohem_keep * len(batch) * known.numel() / batch.labels.numel())  # of all cells
    hardest = surprise[known > 0].sort(descending=True).values[:kept]
    limit = torch.cat([hardest[-1:], hardest.new_tensor([-math.log(recipe.ohem)])]).min()
    return shares * weights[:, None, None] * ((surprise >= limit) & (known > 0))[:, None]
