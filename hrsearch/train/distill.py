"""EMA distillation (Yao et al., HIRI-ViT, 2024): the average of the weights teaches the network, on the same images.

Shapes: B images, C classes; logits are (B, C) to classify, (B, C, h, w) to segment.
"""

import torch
from torch import Tensor

from hrsearch.errors import InputError
from hrsearch.train.recipe import Recipe


def require_classes(recipe: Recipe, task: str) -> None:
    """An InputError where nothing that a softmax could compare is predicted."""
    if recipe.distill and task == "pose":
        raise InputError("distill: heatmaps have no classes to compare; leave it at 0 for task 'pose'")


def taught(loss: Tensor, student: Tensor, teacher: Tensor, recipe: Recipe, share: float, parts: int = 1) -> Tensor:
    """(1 - a) * loss + a * t^2 * KL(softmax(teacher / t), softmax(student / t)), t the recipe's temperature.

    The divergence is a mean over images and cells, of which these are one of so many `parts` of a batch; `loss` is its
    share already. `share` is a; as a sum, the loss counts in full.
    """
    warmth = recipe.temperature
    ours, theirs = ((logits.float() / warmth).log_softmax(dim=1) for logits in (student, teacher))
    apart = (theirs.exp() * (theirs - ours)).sum(dim=1).mean()
    kept = 1 - share if recipe.distill_as == "share" else 1.0
    return kept * loss + share * warmth**2 * apart / parts


def share_at(recipe: Recipe, step: int) -> float:
    """How much the teacher counts at `step`, counted from 0: nothing at first, all from the end of the warm-up on."""
    return recipe.distill * (min(step / recipe.warmup, 1.0) if recipe.warmup else 1.0)


@torch.no_grad()
def lesson(teacher: torch.nn.Module, images: Tensor) -> Tensor:
    """What the teacher says of the images."""
    teacher.eval()
    prediction: Tensor = teacher(images)
    return prediction
