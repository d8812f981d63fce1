"""Our networks and blocks against direct implementations of the same formulas, in one run.

    python benchmarks/blocks.py            # some 40 minutes
    python benchmarks/blocks.py --quick    # three minutes: 224 x 224, one thread

`benchmarks/plain/` writes HRFormer-T and HRViT-b1 down as their papers read. It is given our weights, both must deliver
the same in float64 to 1e-9, and then they run by turns: ours, plain, ours, ... A row says how many times as fast ours
is: the median of the pairs' ratios and its 95 % interval. On one thread the clock is the thread's own CPU time, which
does not see what else the machine runs; on two it is wall time. Memory is the peak of a process of its own, above what
it held before the first run. Batch 1, float32.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from plain.hrformer import HRFormer
from plain.hrvit import HRViT
from torch import Tensor, nn

from hrsearch.build import build
from hrsearch.nets.link import Link
from hrsearch.released import released_names
from hrsearch.space import load_arch

PLAIN: dict[str, Callable[[], nn.Module]] = {"hrformer_t": HRFormer, "hrvit_b1": HRViT}


@dataclass(frozen=True)
class Side:
    """A module that is called with maps in the layout that it works in: "map", "last" (both B, C, H, W, the latter
    channels last in memory), "pixels" (B, H, W, C) or "tokens" (B, N, C, and the size of the map)."""

    module: nn.Module
    layout: str
    call: Callable[..., Any] | None = None  # where it is not the module itself

    def prepared(self, maps: list[Tensor]) -> tuple[Any, ...]:
        """The arguments for maps (B, C, H, W)."""
        laid = [_laid(each, self.layout) for each in maps]
        if self.layout == "tokens":
            return laid[0], (maps[0].shape[2], maps[0].shape[3])
        return (laid if len(maps) > 1 else laid[0],)

    def __call__(self, *arguments: Any) -> Any:
        """What the module delivers."""
        return (self.call or self.module)(*arguments)


@dataclass(frozen=True)
class Pair:
    """Two implementations of one formula, and the maps that both are given: (channels, stride) of each."""

    name: str
    maps: tuple[tuple[int, int], ...]
    ours: Side
    plain: Side

    def inputs(self, side: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Random maps for an image of this side."""
        generator = torch.Generator().manual_seed(0)
        shapes = [(1, channels, -(-side // stride), -(-side // stride)) for channels, stride in self.maps]
        return [torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]


def pairs(name: str) -> Iterator[Pair]:
    """The whole network, then some of its blocks, as they stand in it."""
    ours, plain = networks(name)
    yield Pair(name, ((3, 1),), Side(ours, "map"), Side(plain, "map"))
    yield from {"hrformer_t": _of_hrformer, "hrvit_b1": _of_hrvit}[name](ours.get_submodule, plain.get_submodule)


def networks(name: str) -> tuple[nn.Module, nn.Module]:
    """Ours and the plain one in eval mode with the same weights, those of norms drawn at random."""
    torch.manual_seed(0)
    ours, plain = build(load_arch(name, task="classify")), PLAIN[name]()
    weights = ours.state_dict()
    for key, value in weights.items():
        if value.ndim == 1 and key.endswith(("running_var", "weight")):
            value.uniform_(0.5, 1.5)
    plain.load_state_dict({theirs: weights[key] for key, theirs in released_names(ours, name.split("_")[0]).items()})
    return ours.eval(), plain.eval()


Part = Callable[[str], nn.Module]


def _of_hrformer(ours: Part, plain: Part) -> Iterator[Pair]:
    for width, stride, place, twin in (
        (18, 4, "stages.2.branches.0.0", "stage2.0.branches.0.0"),
        (72, 16, "stages.3.branches.2.0", "stage3.0.branches.2.0"),
    ):
        name = f"HRFormer window block, {width} channels"
        yield Pair(name, ((width, stride),), Side(ours(place), "last"), Side(plain(twin), "map"))
    feeds = Side(ours("stages.2.branches.0.0.feed"), "last"), Side(plain("stage2.0.branches.0.0.mlp"), "map")
    yield Pair("HRFormer CFFN, 18 channels", ((18, 4),), *feeds)
    module: Any = plain("stage4.0")
    maps = ((18, 4), (36, 8), (72, 16), (144, 32))
    yield Pair("HRFormer fusion", maps, Side(ours("stages.7.link.fuse"), "last"), Side(module, "map", module.fuse))


def _of_hrvit(ours: Part, plain: Part) -> Iterator[Pair]:
    for width, stride, place, twin in (
        (32, 4, "stages.1.branches.0.0", "features.1.branches.0.0"),
        (128, 16, "stages.3.branches.2.0", "features.5.branches.2.0"),
    ):
        name = f"HRViT cross block, {width} channels"
        yield Pair(name, ((width, stride),), Side(ours(place), "last"), Side(plain(twin), "tokens"))
    feeds = Side(ours("stages.1.branches.0.0.feed"), "pixels"), Side(plain("features.1.branches.0.0.ffn"), "tokens")
    yield Pair("HRViT MixCFN, 32 channels", ((32, 4),), *feeds)
    maps = ((32, 4), (64, 8), (128, 16), (256, 32))
    yield Pair("HRViT fusion", maps, Side(_fusion(ours("stages.6.link")), "last"), Side(plain("features.10"), "map"))


def _fusion(link: nn.Module) -> Link:
    """A link without what comes after its sums."""
    assert isinstance(link, Link)
    places = [(int(i), int(j)) for i, j in (name.split("_") for name in link.paths)]
    return Link(link.inputs, link.inputs, {(i, j): link.paths[f"{i}_{j}"] for i, j in places}, link.act)


def require_equal(pair: Pair, side: int) -> None:
    """Both deliver the same to 1e-9 in float64; else an AssertionError."""
    maps = pair.inputs(side, torch.float64)
    torch.testing.assert_close(_in_double(pair.ours, maps), _in_double(pair.plain, maps), rtol=1e-9, atol=1e-9)


def _in_double(side: Side, maps: list[Tensor]) -> list[Tensor]:
    """What a module, left in float32, delivers in float64, as maps."""
    side.module.double()
    with torch.inference_mode():
        out = _listed(side(*side.prepared(maps)))
    side.module.float()
    return [_as_map(each, side.layout, like) for each, like in zip(out, maps, strict=True)]


def _laid(x: Tensor, layout: str) -> Tensor:
    if layout == "map":
        return x
    if layout == "last":
        return x.contiguous(memory_format=torch.channels_last)
    pixels = x.permute(0, 2, 3, 1).contiguous()
    return pixels if layout == "pixels" else pixels.flatten(1, 2)


def _as_map(out: Tensor, layout: str, like: Tensor) -> Tensor:
    """What was delivered in a layout, as a map of the size of `like`."""
    if layout == "tokens":
        out = out.view(*out.shape[:1], *like.shape[2:], -1)
    return out.permute(0, 3, 1, 2) if layout in ("tokens", "pixels") else out


def _listed(out: Any) -> list[Tensor]:
    return out if isinstance(out, list) else [out]


def forward(side: Side, maps: list[Tensor]) -> Callable[[], object]:
    """A call without gradients, in eval mode."""
    arguments = side.prepared(maps)

    def run() -> object:
        with torch.inference_mode():
            return side(*arguments)

    side.module.eval()
    return run


def training(side: Side, maps: list[Tensor]) -> Callable[[], object]:
    """A step without the optimiser: forward, backward into weights and maps, gradients forgotten."""
    inner = maps[0].shape[1] != 3  # an image needs no gradient
    arguments = side.prepared([each.clone().requires_grad_(inner) for each in maps])

    def run() -> None:
        side.module.train()
        out = _listed(side(*arguments))
        torch.autograd.backward(out, [torch.ones_like(each) for each in out])
        side.module.zero_grad(set_to_none=True)

    return run


MODES = {"forward": forward, "training": training}


def ratios(pair: Pair, mode: str, side: int, seconds: float, clock: Callable[[], float]) -> tuple[list[float], float]:
    """Plain time over ours, pair by pair for about so many seconds; and our median in seconds."""
    maps = pair.inputs(side)
    runs = [MODES[mode](each, maps) for each in (pair.ours, pair.plain)]
    for run in runs * 2:
        run()
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(times) < 7 or (time.perf_counter() < end and len(times) < 200):
        order = (0, 1) if len(times) % 2 else (1, 0)  # who comes first finds another's cache
        took = {which: _timed(runs[which], clock) for which in order}
        times.append((took[0], took[1]))
    return [plain / ours for ours, plain in times], statistics.median(ours for ours, _ in times)


def _timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def interval(samples: list[float]) -> tuple[float, float]:
    """A 95 % interval of the median, from order statistics in the normal approximation."""
    ordered, half = sorted(samples), 0.98 * len(samples) ** 0.5
    middle = (len(samples) - 1) / 2
    return ordered[max(round(middle - half), 0)], ordered[min(round(middle + half), len(samples) - 1)]


def peak_mib(name: str, which: str, mode: str, side: int) -> float:
    """MiB that two runs of a network add to the peak of a fresh process, the median of three: allocators differ."""
    command = [sys.executable, __file__, "--peak", name, which, mode, str(side)]
    outs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(3)]
    return statistics.median(float(out.split()[-1]) for out in outs)


def _report_peak(name: str, which: str, mode: str, side: int) -> None:
    torch.set_num_threads(1)
    pair = next(pairs(name))
    run = MODES[mode](pair.ours if which == "ours" else pair.plain, pair.inputs(side))
    before = _resident_mib("VmRSS")
    run()
    run()
    print(_resident_mib("VmHWM") - before)


def _resident_mib(what: str) -> float:
    """Memory of this process that the system tells under this name, "VmRSS" now and "VmHWM" at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def main() -> None:
    """Check, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="224 x 224 on one thread, 2 seconds a row")
    parser.add_argument("--threads", type=int, nargs="+")
    parser.add_argument("--image", type=int, nargs="+")
    parser.add_argument("--network", nargs="+", choices=list(PLAIN), default=list(PLAIN))
    parser.add_argument("--seconds", type=float, help="of each row")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        network, which, mode, image = options.peak
        return _report_peak(network, which, mode, int(image))
    images = options.image or ([224] if options.quick else [224, 512])
    threads = options.threads or ([1] if options.quick else [1, 2])
    seconds = options.seconds or (2.0 if options.quick else 20.0)
    print("| what | image | threads | mode | ours, ms | times as fast | 95 % |\n|---|---|---|---|---|---|---|")
    for name in options.network:
        for pair in pairs(name):
            require_equal(pair, 96)
            _print_rows(pair, images, threads, seconds)
    print("\n| peak memory | image | mode | ours, MiB | plain, MiB |\n|---|---|---|---|---|")
    for name in options.network:
        for side in images:
            for mode in MODES:
                ours, plain = (peak_mib(name, which, mode, side) for which in ("ours", "plain"))
                print(f"| {name} | {side} | {mode} | {ours:.0f} | {plain:.0f} |", flush=True)


def _print_rows(pair: Pair, images: list[int], threads: list[int], seconds: float) -> None:
    for side in images:
        for count in threads:
            torch.set_num_threads(count)
            clock = time.thread_time if count == 1 else time.perf_counter
            for mode in MODES:
                samples, ours = ratios(pair, mode, side, seconds, clock)
                low, high = interval(samples)
                figures = f"{ours * 1e3:.1f} | **{statistics.median(samples):.2f}** | {low:.2f} to {high:.2f}"
                print(f"| {pair.name} | {side} | {count} | {mode} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
