"""What a space holds, seen by drawing from it: what `hrsearch check` prints."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hrsearch.arch import Arch
from hrsearch.errors import InputError
from hrsearch.objective import Cost, readable
from hrsearch.space import Space


@dataclass(frozen=True)
class Survey:
    """The outcome of random draws."""

    draws: int
    settings: int  # settings that the knobs allow, requirements and unread knobs aside
    costs: tuple[Cost, ...]  # of each distinct network
    refusals: Counter[str]  # how many draws were refused, by reason
    sized: bool  # whether networks have image sizes of their own


def survey(space: Space, cost_of: Callable[[Arch], Cost], draws: int, seed: int = 0) -> Survey:
    """Draw at random, and count the cost of each distinct network."""
    generator = random.Random(seed)
    costs: dict[str, Cost] = {}
    refusals: Counter[str] = Counter()
    sized = False
    for _ in range(draws):
        draw = space.draw(lambda knob: generator.choice(knob.values))
        if draw.arch is None:
            refusals[f"require: {draw.refused}"] += 1
            continue
        sized = sized or draw.arch.image is not None
        try:
            costs.setdefault(draw.arch.digest(), cost_of(draw.arch))
        except InputError as error:
            refusals[str(error)] += 1
    settings = math.prod(len(knob.values) for knob in space.knobs.values())
    return Survey(draws, settings, tuple(costs.values()), refusals, sized)


def lines_of(outcome: Survey, image: tuple[int, int]) -> Iterator[str]:
    """The survey in words."""
    refused = outcome.refusals.total()
    yield f"{outcome.settings:.3g} settings of the knobs; {outcome.draws:,} drawn at random:"
    yield f"  {len(outcome.costs):,} distinct architectures"
    yield f"  {refused:,} refused ({100 * refused / outcome.draws:.1f} %)"
    for reason, count in outcome.refusals.most_common():
        yield f"    {count:,} by {reason}"
    if outcome.costs:
        yield f"  params  {_range([cost.params for cost in outcome.costs])}"
        where = "each at its own image size" if outcome.sized else f"at {image[0]}x{image[1]}"
        yield f"  FLOPs   {_range([cost.flops for cost in outcome.costs])} {where}"


def json_of(outcome: Survey) -> dict[str, Any]:
    """The survey for machines."""
    names = ("least", "median", "most")
    ranges = {
        name: dict(zip(names, _picks([getattr(cost, name) for cost in outcome.costs]), strict=True))
        for name in ("params", "flops")
        if outcome.costs
    }
    return {
        "settings": outcome.settings,
        "draws": outcome.draws,
        "architectures": len(outcome.costs),
        "refused": dict(outcome.refusals.most_common()),
        **ranges,
    }


def _range(values: list[int]) -> str:
    low, middle, high = map(readable, _picks(values))
    return f"{low} to {high}, median {middle}"


def _picks(values: list[int]) -> tuple[int, int, int]:
    """The least, the median and the greatest."""
    ordered = sorted(values)
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]
