"""The timer that all engines share: warm-up until steady, a reference network in between so that drift cancels.

On one CPU thread the clock is the thread's own CPU time: it is blind to what else the machine runs (measured on this
kind of work, two rounds agree at Kendall tau .96 to .98, against .71 to .82 for wall time). On several threads it is
wall time, on CUDA the events of the stream.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from torch.nn import functional

from hrsearch.registry import ENGINES

BLOCK_S = 0.02  # a sample lasts at least this long: shorter ones measure the clock
AGREE = 0.05  # successive samples of a warm network differ by less than this share
FEWEST, MOST = 6, 60  # samples; the interval of six is from the least to the greatest, and holds 97 %

Run = Callable[[], object]
Clock = Callable[[Run, int], float]  # seconds of so many runs


@dataclass(frozen=True)
class Timing:
    """A measurement before it is put into words; seconds are of one run."""

    ratios: tuple[float, ...]  # candidate over reference, pair by pair
    wall: tuple[float, ...]  # of the candidate, by a stopwatch
    cpu: tuple[float, ...]  # of the candidate, CPU time of all threads
    reference: tuple[float, ...]
    warm_up: int  # runs before the first sample
    warm: bool  # whether successive samples agreed then

    @property
    def trouble(self) -> str:
        """Why the measurement is not steady; empty if it is."""
        if not self.warm:
            return f"successive samples did not agree to {AGREE:.0%} after {self.warm_up} runs of warm-up"
        low, high = interval(self.ratios)
        width = (high - low) / statistics.median(self.ratios)
        return f"the interval is {width:.0%} of the median wide" if width >= 2 * AGREE else ""

    def joined_with(self, more: "Timing") -> "Timing":
        """This measurement and another of the same network as one."""
        return Timing(
            self.ratios + more.ratios,
            self.wall + more.wall,
            self.cpu + more.cpu,
            self.reference + more.reference,
            self.warm_up + more.warm_up,
            self.warm or more.warm,
        )


def timed(run: Run, clock: Clock, seconds: float, device: str = "cpu") -> Timing:
    """Time `run` beside the reference network on "cpu" or "cuda", for about `seconds`."""
    reference = reference_on(device)
    start = time.perf_counter()
    own_runs, own_warm, once = warmed(run, clock, seconds / 3)
    _, reference_warm, once_between = warmed(reference, clock, seconds / 6)
    repeats, between = _repeats(once), _repeats(once_between)
    ratios: list[float] = []
    wall: list[float] = []
    cpu: list[float] = []
    beside = [clock(reference, between) / between]
    while len(ratios) < FEWEST or (len(ratios) < MOST and time.perf_counter() - start < seconds):
        stopwatch, processing = time.perf_counter(), time.process_time()
        own = clock(run, repeats) / repeats
        wall.append((time.perf_counter() - stopwatch) / repeats)
        cpu.append((time.process_time() - processing) / repeats)
        beside.append(clock(reference, between) / between)
        ratios.append(2 * own / (beside[-2] + beside[-1]))
        if len(ratios) >= FEWEST and _settled(ratios):
            break
    return Timing(tuple(ratios), tuple(wall), tuple(cpu), tuple(beside), own_runs, own_warm and reference_warm)


def warmed(run: Run, clock: Clock, seconds: float) -> tuple[int, bool, float]:
    """Run until two successive samples agree, for at most about `seconds`.

    How many runs, whether they agreed, and the seconds of the last one.
    """
    end = time.perf_counter() + seconds
    clock(run, 1)  # the first run allocates
    last, runs = clock(run, 1), 2
    while True:
        now, runs = clock(run, 1), runs + 1
        if abs(now - last) <= AGREE * min(now, last):
            return runs, True, now
        if time.perf_counter() > end:
            return runs, False, now
        last = now


def interval(samples: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the median from order statistics (David and Nagaraja, 2003): whatever the noise, it holds.

    A percentile bootstrap of 15 samples, about as many as are taken, held the median in 91 % of 2,000 trials.
    """
    ordered, count = sorted(samples), len(samples)
    inside = 0.0
    for rank in range(count // 2 + 1):
        inside += math.comb(count, rank) / 2**count
        if inside > 0.025:
            return ordered[max(rank - 1, 0)], ordered[count - max(rank, 1)]
    return ordered[0], ordered[-1]


def clock_of(device: str, threads: int) -> Clock:
    """The clock that disturbances reach least."""
    if device == "cuda":
        return _cuda_seconds
    return _thread_seconds if threads == 1 else _wall_seconds


@cache
def reference_on(device: str) -> Run:
    """The reference network, ready to run on "cpu" or "cuda"."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _Reference()
    example = torch.zeros(1, 3, 512, 512, device=device)  # maps that leave the cache, as candidates do
    run: Run = ENGINES["eager"](network, example)
    return run


def _repeats(once: float) -> int:
    return max(1, math.ceil(BLOCK_S / max(once, 1e-6)))


def _settled(ratios: list[float]) -> bool:
    """Whether the median is known well enough to stop: to about half of AGREE either way."""
    low, high = interval(ratios)
    return (high - low) / statistics.median(ratios) < AGREE


def _thread_seconds(run: Run, times: int) -> float:
    start = time.thread_time()
    for _ in range(times):
        run()
    return time.thread_time() - start


def _wall_seconds(run: Run, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return time.perf_counter() - start


def _cuda_seconds(run: Run, times: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    for _ in range(times):
        run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


class _Reference(nn.Module):
    """A fixed small network of the operators that the candidates are made of. Changing it changes what is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=4, padding=1)
        self.wide = nn.Conv2d(32, 96, 1)
        self.depthwise = nn.Conv2d(96, 96, 3, padding=1, groups=96)
        self.narrow = nn.Linear(96, 32)
        self.norm = nn.LayerNorm(32)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, H / 4 * W / 4, 32)."""
        fine = self.depthwise(functional.gelu(self.wide(self.stem(image))))
        tokens = self.norm(self.narrow(fine.permute(0, 2, 3, 1)))  # (B, h, w, 32): each row of the map is a window
        return functional.scaled_dot_product_attention(tokens, tokens, tokens).flatten(1, 2)
