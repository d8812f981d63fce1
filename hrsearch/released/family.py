"""What the release of a family of networks is described by."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from hrsearch.arch import Arch

Weights = Mapping[str, Tensor]


class Family(NamedTuple):
    """How a family's released keys are called."""

    name_of: Callable[[Arch], Callable[[str], str | None]]  # our key -> theirs, None where they have nothing like it
    heads: tuple[str, ...]  # our kinds of their heads
    head: str  # a pattern that begins their keys of any head
    read: Callable[[Weights, Weights], Weights]  # a file's spelling -> the names that ours (the second) have
