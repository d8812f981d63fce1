"""Architectures that the tests of networks are made of."""

from collections.abc import Sequence

from hrsearch.arch import Arch, Branch, Map, Part, Stage, Value
from hrsearch.registry import BLOCKS, HEADS, LINKS, Registry

HRVIT_B1 = {
    "channels": (32, 64, 128, 256),
    "depths": ((1,), (1, 1), (1, 1, 6), (1, 1, 6), (1, 1, 6, 2), (1, 1, 2, 2)),
    "head_dim": 32,
    "ratios": (4, 4, 4, 4),
}
HRVIT_B2 = {
    "channels": (48, 96, 240, 384),
    "depths": ((1,), (1, 1), (1, 1, 6), (1, 1, 6), (1, 1, 6, 2), (1, 1, 6, 2)),
    "head_dim": 24,
    "ratios": (2, 3, 3, 3),
}


def part(registry: Registry, kind: str, **options: Value) -> Part:
    """A part with the defaults of its kind filled in."""
    return Part.of(kind, {**registry.options(kind), **options})


def hrvit(
    channels: Sequence[int],
    depths: Sequence[Sequence[int]],
    *,
    head_dim: int = 32,
    ratios: Sequence[float] = (4, 4, 4, 4),
    windows: Sequence[int] = (1, 2, 7, 7),
    stem: int = 64,
    head: Part | None = None,
) -> Arch:
    """A network of the HRViT family."""
    stages = [Stage(part(LINKS, "conv_stem"), (Branch(stem, 4),))]
    for row in depths:
        branches = []
        for index, depth in enumerate(row):
            block = part(BLOCKS, "cross", window=windows[index], head_dim=head_dim, ratio=ratios[index])
            branches.append(Branch(channels[index], 4 * 2**index, depth, block if depth else None, "layer"))
        stages.append(Stage(part(LINKS, "hrvit"), tuple(branches)))
    return Arch(tuple(stages), head or part(HEADS, "classify_hr"))


def pyramid(*channels: int, stride: int = 4) -> list[Map]:
    """Maps of these channels, the stride of the first doubling from map to map."""
    return [Map(width, stride * 2**index) for index, width in enumerate(channels)]
