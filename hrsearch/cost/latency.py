"""One timer for every engine: warm-up until steady, a reference network in between so that drift cancels.

On one CPU thread the clock is the thread's own CPU time: it is blind to what else the machine runs (measured on this
kind of work, two rounds agree at Kendall tau .96 to .98, against .71 to .82 for wall time). On several threads it is
wall time, on CUDA the events of the stream.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from torch.nn import functional

from hrsearch.objective import Latency
from hrsearch.registry import ENGINES

BLOCK_S = 0.02  # a sample lasts at least this long: shorter ones measure the clock
AGREE = 0.05  # successive samples of a warm network differ by less than this share
FEWEST, MOST = 5, 60  # samples

Clock = Callable[[Callable[[], object], int], float]  # seconds of so many runs


@dataclass(frozen=True)
class Timing:
    """A measurement before it is put into words."""

    ratios: tuple[float, ...]  # candidate over reference, pair by pair
    seconds: tuple[float, ...]  # of the candidate, by the clock
    wall: tuple[float, ...]  # of the candidate, by a stopwatch
    reference: tuple[float, ...]
    warm: bool


def measure(
    network: nn.Module,
    image: tuple[int, int] = (512, 512),
    engine: str = "eager",
    *,
    batch: int = 1,
    threads: int = 1,
    seconds: float = 6.0,
    reference_ms: float | None = None,
) -> Latency:
    """The latency of a batch of `image` (height, width) pixels; takes about `seconds`, and leaves `network` as it was.

    `reference_ms` is the reference network's time to which all latencies of a study are scaled; without it, its time
    beside this network is taken.
    """
    example = torch.randn(batch, 3, *image, generator=torch.Generator().manual_seed(0))
    with _threads(threads):
        run = ENGINES[engine](network, example)
        clock = _clock(engine, threads)
        timing = _timed(run, _reference("cuda" if engine == "cuda" else "cpu"), clock, seconds)
    scale = reference_ms or statistics.median(timing.reference) * 1e3
    low, high = _interval(timing.ratios)
    middle = statistics.median(timing.ratios)
    return Latency(
        median_ms=middle * scale,
        low_ms=low * scale,
        high_ms=high * scale,
        runs=len(timing.ratios),
        batch=batch,
        image=image,
        engine=engine,
        device=_device(engine),
        threads=threads,
        steady=timing.warm and (high - low) / middle < 2 * AGREE,
        wall_ms=statistics.median(timing.wall) * 1e3,
        reference_ms=statistics.median(timing.reference) * 1e3,
    )


def reference_time(engine: str = "eager", threads: int = 1) -> float:
    """Milliseconds of the reference network here and now: what a study scales its latencies to."""
    device = "cuda" if engine == "cuda" else "cpu"
    with _threads(threads):
        clock, run = _clock(engine, threads), _reference(device)
        _warm(run, clock, 2.0)
        return statistics.median(clock(run, 1) for _ in range(15)) * 1e3


def _timed(run: Callable[[], object], reference: Callable[[], object], clock: Clock, seconds: float) -> Timing:
    start = time.perf_counter()
    warm = _warm(run, clock, seconds / 3) and _warm(reference, clock, seconds / 6)
    repeats = _repeats(run, clock)
    between = _repeats(reference, clock)
    ratios: list[float] = []
    own: list[float] = []
    wall: list[float] = []
    beside = [clock(reference, between) / between]
    while len(ratios) < FEWEST or (len(ratios) < MOST and time.perf_counter() - start < seconds):
        stopwatch = time.perf_counter()
        own.append(clock(run, repeats) / repeats)
        wall.append((time.perf_counter() - stopwatch) / repeats)
        beside.append(clock(reference, between) / between)
        ratios.append(2 * own[-1] / (beside[-2] + beside[-1]))
        if len(ratios) >= 2 * FEWEST and _settled(ratios):
            break
    return Timing(tuple(ratios), tuple(own), tuple(wall), tuple(beside), warm)


def _warm(run: Callable[[], object], clock: Clock, seconds: float) -> bool:
    """Run until two successive samples agree, for at most about `seconds`; whether they did."""
    end = time.perf_counter() + seconds
    clock(run, 1)  # the first run allocates
    last = clock(run, 1)
    while True:
        now = clock(run, 1)
        if abs(now - last) <= AGREE * min(now, last):
            return True
        if time.perf_counter() > end:
            return False
        last = now


def _repeats(run: Callable[[], object], clock: Clock) -> int:
    return max(1, math.ceil(BLOCK_S / max(clock(run, 1), 1e-6)))


def _settled(ratios: list[float]) -> bool:
    low, high = _interval(ratios)
    return (high - low) / statistics.median(ratios) < AGREE / 2


def _interval(samples: tuple[float, ...] | list[float]) -> tuple[float, float]:
    """A 95 % interval of the median from order statistics: no assumption about the noise (David & Nagaraja, 2003)."""
    ordered, count = sorted(samples), len(samples)
    inside = 0.0
    for rank in range(count // 2 + 1):
        inside += math.comb(count, rank) / 2**count
        if inside > 0.025:
            return ordered[max(rank - 1, 0)], ordered[count - max(rank, 1)]
    return ordered[0], ordered[-1]


def _clock(engine: str, threads: int) -> Clock:
    if engine == "cuda":
        return _cuda_seconds
    return _thread_seconds if threads == 1 else _wall_seconds


def _thread_seconds(run: Callable[[], object], times: int) -> float:
    start = time.thread_time()
    for _ in range(times):
        run()
    return time.thread_time() - start


def _wall_seconds(run: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return time.perf_counter() - start


def _cuda_seconds(run: Callable[[], object], times: int) -> float:
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


@cache
def _reference(device: str) -> Callable[[], object]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _Reference()
    example = torch.zeros(1, 3, 512, 512, device=device)  # maps that leave the cache, as candidates do
    run: Callable[[], object] = ENGINES["eager"](network, example)
    return run


def _device(engine: str) -> str:
    return torch.cuda.get_device_name() if engine == "cuda" else processor()


@cache
def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else "cpu"


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
