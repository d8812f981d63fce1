"""The bill of a network's latency: the milliseconds of every part, taken while the whole network runs.

A part timed alone finds its maps in the cache and its allocator idle; timed in its place it costs what it costs there.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from hrsearch.build import Network, pieces
from hrsearch.cost.eager import prepared
from hrsearch.cost.latency import threads_set

FEWEST, MOST = 3, 15  # passes


@dataclass(frozen=True)
class Bill:
    """Milliseconds of one forward pass of a batch, by the path of the part in the network.

    `between` is what lies between the parts: sums, activations, resizing of maps. All together are the latency.
    """

    parts: Mapping[str, float]
    between: float

    @property
    def total(self) -> float:
        """Milliseconds of the whole network."""
        return sum(self.parts.values()) + self.between

    @property
    def by_path(self) -> dict[str, float]:
        """The parts, and under the empty path what lies between them."""
        return {**self.parts, "": self.between}

    def scaled_to(self, total: float) -> "Bill":
        """The same shares of another latency: one that was measured with more care."""
        factor = total / self.total
        return Bill({name: each * factor for name, each in self.parts.items()}, self.between * factor)


def bill_of(
    network: Network, image: tuple[int, int] = (512, 512), *, batch: int = 1, threads: int = 1, seconds: float = 1.0
) -> Bill:
    """The bill of a batch of `image` (height, width) pixels, run by engine `eager` for about `seconds`.

    Medians over at least three passes after a first one; on one thread by its own CPU time, else by wall time.
    """
    example = torch.randn(batch, 3, *image, generator=torch.Generator().manual_seed(0))
    ready, ready_example = prepared(network, example)
    assert isinstance(ready, Network)
    clock = time.thread_time if threads == 1 else time.perf_counter
    with threads_set(threads), torch.inference_mode():
        ready(ready_example)
        passes = list(_passes(ready, ready_example, clock, seconds))
    parts = {name: statistics.median(one[name] for one in passes) * 1e3 for name in passes[0] if name}
    whole = statistics.median(one[""] for one in passes) * 1e3
    return Bill(parts, max(whole - sum(parts.values()), 0.0))


def _passes(
    network: Network, example: torch.Tensor, clock: Callable[[], float], seconds: float
) -> Iterator[dict[str, float]]:
    """Seconds of every part, and of the whole under the empty name, pass after pass."""
    end = time.perf_counter() + seconds
    for done in range(MOST):
        if done >= FEWEST and time.perf_counter() > end:
            return
        with _watched(network, (example.shape[2], example.shape[3]), clock) as spent:
            begin = clock()
            network(example)
            spent[""] = clock() - begin
        yield spent


@contextmanager
def _watched(network: Network, image: tuple[int, int], clock: Callable[[], float]) -> Iterator[dict[str, float]]:
    spent: dict[str, float] = {}
    handles: list[RemovableHandle] = []
    for piece in pieces(network, image):
        handles += _hooked(piece.module, piece.name, clock, spent)
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


def _hooked(module: nn.Module, name: str, clock: Callable[[], float], spent: dict[str, float]) -> list[RemovableHandle]:
    spent[name] = 0.0  # a part that a network leaves out costs nothing

    def begin(*_: Any) -> None:
        spent[name] -= clock()

    def end(*_: Any) -> None:
        spent[name] += clock()

    return [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
