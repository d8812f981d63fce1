"""Latency with its certificate: a median, an interval, and all that it depends on."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hrsearch.cost import machine
from hrsearch.cost.command import AGREE, CALLS, agree, is_command, milliseconds
from hrsearch.cost.cuda import is_cuda, require_gpu
from hrsearch.cost.timer import Timing, clock_of, interval, reference_on, timed, warmed
from hrsearch.errors import InputError
from hrsearch.objective import Latency
from hrsearch.registry import ENGINES

TRIES = 3  # a measurement that is not steady is made so often; then it is kept with the interval that it has


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
    """The latency of a batch of `image` (height, width) pixels, which leaves `network` as it was.

    One try takes about `seconds`; there are up to three. `reference_ms` is the reference network's time to which all
    latencies of a study are scaled; without it, its time beside this network is taken. What a program of the user's
    prints (engine "command: ...") is taken as it is.
    """
    example = torch.randn(batch, 3, *image, generator=torch.Generator().manual_seed(0))
    if is_command(engine):
        return _told(network, example, engine, threads)
    device = device_of(engine)
    with threads_set(threads):
        run = ENGINES[engine](network, example)
        clock = clock_of(device, threads)
        timing, tries = timed(run, clock, seconds, device), 1
        while timing.trouble and tries < TRIES:
            timing, tries = timing.joined_with(timed(run, clock, seconds, device)), tries + 1
    scale = reference_ms or statistics.median(timing.reference) * 1e3
    low, high = interval(timing.ratios)
    return Latency(
        median_ms=statistics.median(timing.ratios) * scale,
        low_ms=low * scale,
        high_ms=high * scale,
        runs=len(timing.ratios),
        batch=batch,
        image=image,
        engine=engine,
        device=device_name(engine),
        threads=threads,
        steady=not timing.trouble,
        reference_ms=statistics.median(timing.reference) * 1e3,
        **_certificate(timing, engine, tries),
    )


def _told(network: nn.Module, example: torch.Tensor, engine: str, threads: int) -> Latency:
    calls, output = milliseconds(engine, network, example, threads)
    runs = [each for call in calls for each in call]
    low, high = interval(runs)
    return Latency(
        median_ms=statistics.median(runs),
        low_ms=low,
        high_ms=high,
        runs=len(runs),
        batch=len(example),
        image=(example.shape[2], example.shape[3]),
        engine=engine,
        device=device_name(engine),
        threads=threads,
        steady=agree(calls[-CALLS:]),
        wall_ms=statistics.median(runs),
        reference_ms=0.0,  # there is none beside it
        tries=len(calls),
        trouble=""
        if agree(calls[-CALLS:])
        else f"the medians of the last {CALLS} calls differ by more than {AGREE:.0%}",
        output=output,
    )


def _certificate(timing: Timing, engine: str, tries: int) -> dict[str, Any]:
    """What else is known of the measurement: plain values under the names of `Latency`."""
    packages = ("torch", "onnxruntime") if engine == "onnx" else ("torch",)
    return {
        "wall_ms": statistics.median(timing.wall) * 1e3,
        "cpu_ms": statistics.median(timing.cpu) * 1e3,
        "warm_up": timing.warm_up,
        "tries": tries,
        "trouble": timing.trouble,
        "load": machine.load(),
        "clock_mhz": machine.clock_mhz(),
        "versions": {package: machine.version_of(package) for package in packages},
    }


def device_of(engine: str) -> str:
    """Where an engine runs: "cpu" or "cuda"."""
    return "cuda" if is_cuda(engine) else "cpu"


def require_engine(engine: str, *, here: bool = True) -> None:
    """An InputError where there is no such engine, or, if it is to run `here`, no GPU for it."""
    if is_command(engine):
        return
    ENGINES[engine]
    if here and is_cuda(engine):
        require_gpu(engine)


def engine_on(engine: str, device: str | None) -> str:
    """The engine for "cpu" or "cuda": `eager` on cuda is the engine `cuda`. A contradiction is an InputError."""
    if device not in (None, "cpu", "cuda"):
        raise InputError(f"device {device!r} does not exist; choose from cpu, cuda")
    if device and is_command(engine):
        raise InputError("an engine 'command: ...' runs where its program says; leave --device out")
    if device in (None, device_of(engine)):
        return engine
    if engine == "eager":
        return "cuda"
    there = [name for name in ENGINES if device_of(name) == device]
    raise InputError(f"engine {engine!r} does not run on {device}; there choose from {', '.join(there)}")


def device_name(engine: str) -> str:
    """What the engine runs on, as its maker calls it."""
    if is_command(engine):
        return "what the command runs on"
    return torch.cuda.get_device_name() if device_of(engine) == "cuda" else machine.processor()


def reference_time(engine: str = "eager", threads: int = 1) -> float:
    """Milliseconds of the reference network on this machine: what a study scales its latencies to.

    A tenth of forty runs are quicker: of a busy machine that tells more than their median, which moved by 12 % from one
    hour to the next.
    """
    require_engine(engine)
    device = device_of(engine)
    with threads_set(threads):
        clock, run = clock_of(device, threads), reference_on(device)
        warmed(run, clock, 2.0)
        return statistics.quantiles((clock(run, 1) for _ in range(40)), n=10)[0] * 1e3


@contextmanager
def threads_set(count: int) -> Iterator[None]:
    """torch on so many threads as long as this holds; what is freed stays with the process, from now on."""
    machine.keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
