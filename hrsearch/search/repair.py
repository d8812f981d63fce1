"""A draw that breaks a limit on its counted costs, changed knob by knob until it keeps it.

What is rare within the limits would hardly be drawn else: of 705 random networks of HRViT's space with four stages 3
keep the laptop runner's 1.2 GFLOPs. Counting costs a millisecond, so looking for it is cheaper than leaving it out.
"""

import random
from collections.abc import Callable

from hrsearch.arch import Arch, Value
from hrsearch.space import Draw, Knob, Space

STEPS = 40  # changes that are tried


def repaired(space: Space, draw: Draw, excess: Callable[[Arch | None], float], seed: int) -> Draw | None:
    """A draw like this one whose excess over the limits is 0; None if none was found.

    Every change lowers the excess and leaves alone which knobs there are: a network of four stages stays one.
    """
    generator = random.Random(seed)
    above = excess(draw.arch)
    for _ in range(STEPS):
        if above <= 0:
            return draw
        knob = space.knobs[generator.choice(sorted(draw.setting))]
        value = generator.choice(knob.values)
        changed = space.draw(_chooser({**draw.setting, knob.name: value}, generator))
        if changed.setting.keys() == draw.setting.keys() and (less := excess(changed.arch)) < above:
            draw, above = changed, less
    return draw if above <= 0 else None


def _chooser(setting: dict[str, Value], generator: random.Random) -> Callable[[Knob], Value]:
    return lambda knob: setting[knob.name] if knob.name in setting else generator.choice(knob.values)
