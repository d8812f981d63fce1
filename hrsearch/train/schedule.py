"""The learning rate of a long training, step by step."""

import math

from hrsearch.proxy.learning import rate_factor
from hrsearch.train.recipe import Recipe

FALL = 0.1  # of the rate at each milestone of a schedule in steps


def rate_at(recipe: Recipe, step: int) -> float:
    """The rate of `step`, counted from 0: a linear warm-up, then the schedule.

    A cosine begins after the warm-up; poly and step are shares of the whole training, over which the warm-up lies.
    """
    if recipe.schedule == "stable":
        return recipe.rate * rate_factor(recipe, step)
    warm = min((step + 1) / (recipe.warmup + 1), 1.0) if step < recipe.warmup else 1.0
    return recipe.rate * warm * (recipe.floor + (1 - recipe.floor) * _left(recipe, step))


def _left(recipe: Recipe, step: int) -> float:
    """What share of the way from the floor to the peak is left."""
    end = recipe.steps * (1 - recipe.cooldown)
    if recipe.schedule == "step":
        return float(FALL ** sum(step >= share * recipe.steps for share in recipe.milestones))
    if recipe.schedule == "poly":
        return float(max(1 - step / end, 0.0) ** recipe.power)
    gone = max(step - recipe.warmup, 0) / max(end - recipe.warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min(gone, 1.0)))
