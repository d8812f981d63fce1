"""How long exact FLOPs take: thousands of candidates of every shipped space, and beside what a user would do otherwise.

    python benchmarks/counting.py                                     # some ten minutes
    python benchmarks/counting.py --count 100 --warm 20 --check 5     # two

First table: `--warm` candidates of a space are counted in a process that has counted nothing (cold), then `--count`
others, drawn before; then some of these as whole networks by torch's counter on meta tensors, which must say the same.
Second table: whole networks by tools as they come. The truth, torch's counter on meta tensors, is ours exactly; its
attention products are what is missing when attention is replaced by something that multiplies nothing. A tool that is
not installed is left out (`pip install ptflops fvcore`). Seconds are CPU time of the one thread.
"""

import argparse
import contextlib
import io
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.cost import cost
from hrsearch.space import load_arch, load_space

SPACES = ("hrvit", "hrformer", "hrnet", "hirivit", "mixed")
CLASSES = 19
PUBLISHED = ("hrvit_b1", "hrformer_t", "hirivit_s")
Size = tuple[int, int]


class Scale(NamedTuple):
    """Seconds for the candidates of one space."""

    drawing: float  # the counted ones
    cold: float  # counting the first ones
    counting: float  # counting the others
    checked: int  # of these, how many equal the whole network's count


def at_scale(name: str, warm: int, count: int, check: int, image: Size) -> Scale:
    """Draw and count candidates of a space; a count that is wrong is an AssertionError."""
    torch.set_num_threads(1)
    space = load_space(name)
    first = [space.sample(f"first {seed}")[1] for seed in range(warm)]
    start = time.thread_time()
    archs = [space.sample(seed)[1] for seed in range(count)]
    drawn = time.thread_time()
    for arch in first:
        cost(arch, image, CLASSES)
    cold = time.thread_time()
    counts = [cost(arch, image, CLASSES).flops for arch in archs]
    end = time.thread_time()
    for place in range(0, count, max(1, count // check)) if check else ():
        whole = on_meta(archs[place], image)
        assert counts[place] == whole, f"{name}, seed {place}: {counts[place]:,}, but the whole has {whole:,}"
    return Scale(drawn - start, cold - drawn, end - cold, check)


def on_meta(arch: Arch, image: Size) -> int:
    """Multiply-accumulates of the whole network by torch's counter, which counts each twice."""
    with torch.device("meta"):
        network = build(arch, CLASSES).eval()
        example = torch.empty(1, 3, *image)
    return flop_counter(network, example)


def flop_counter(network: nn.Module, example: Tensor) -> int:
    """torch's counter as it comes."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(example)
    return int(counter.get_total_flops()) // 2


def fvcore(network: nn.Module, example: Tensor) -> int:
    """fvcore as it comes."""
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(network, example)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return int(analysis.total())


def ptflops(network: nn.Module, example: Tensor, backend: str = "pytorch") -> int:
    """ptflops as it comes: hooks on modules by default, which miss a layer that is not called as a module."""
    from ptflops import get_model_complexity_info

    with contextlib.redirect_stdout(io.StringIO()):
        counted, _ = get_model_complexity_info(
            network,
            tuple(example.shape[1:]),
            as_strings=False,
            print_per_layer_stat=False,
            verbose=False,
            backend=backend,
        )
    return int(counted)


TOOLS: dict[str, Callable[[nn.Module, Tensor], int]] = {
    "fvcore": fvcore,
    "FlopCounterMode / 2": flop_counter,
    "ptflops": ptflops,
    "ptflops, aten": partial(ptflops, backend="aten"),
}


@contextlib.contextmanager
def without_attention() -> Iterator[None]:
    """Inside, attention delivers something of the right shape and multiplies nothing."""

    def nothing(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
        return query.new_zeros(*query.shape[:-1], value.shape[-1])

    with mock.patch.object(nn.functional, "scaled_dot_product_attention", nothing):
        yield


class Row(NamedTuple):
    """One network counted by one tool: seconds and FLOPs; ours cold and warm; the truth, and its attention products."""

    network: str
    tool: str
    seconds: float
    flops: int
    cold: float
    warm: float
    truth: int
    attention: int
    attention_seen: int  # by the tool

    def line(self) -> str:
        """A row of the table."""
        error = (self.flops - self.truth) / self.truth
        seen = f"{self.attention_seen / self.attention - 1:+.1%}" if self.attention else "none there"
        times = f"{self.seconds:.2f} | {self.seconds / self.cold:.1f} | {self.seconds / self.warm:,.0f}"
        return f"| {self.network} | {self.truth / 1e9:.2f} | {self.tool} | {times} | {error:+.1%} | {seen} |"


def beside(name: str, arch: Arch, image: Size) -> list[Row]:
    """One network by every tool; to be called in a process that has counted nothing."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    network, example = build(arch, CLASSES).eval(), torch.zeros(1, 3, *image)
    cold, ours = timed(lambda: cost(arch, image, CLASSES).flops)
    warm, _ = timed(lambda: [cost(arch, image, CLASSES) for _ in range(20)])
    truth = on_meta(arch, image)
    assert ours == truth, f"{name}: {ours:,}, but the whole has {truth:,}"
    with without_attention():
        attention = truth - on_meta(arch, image)
    rows = []
    for tool, count in TOOLS.items():
        try:
            seconds, flops = timed(lambda count=count: count(network, example))  # type: ignore[misc]
        except ImportError:
            continue
        with without_attention():
            seen = flops - count(network, example)
        rows.append(Row(name, tool, seconds, flops, cold, warm / 20, truth, attention, seen))
    return rows


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it gives."""
    start = time.thread_time()
    result = call()
    return time.thread_time() - start, result


def networks(published: list[str], drawn: int) -> Iterator[tuple[str, Arch]]:
    """Published networks, then some drawn from two spaces."""
    for name in published:
        yield name, load_arch(name)
    for space in ("hrvit", "hrformer"):
        for seed in range(drawn):
            yield f"{space}, seed {seed}", load_space(space).sample(seed)[1]


def fresh(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call gives in a process of its own, which has counted nothing."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def main() -> None:
    """Count, check and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="*", default=list(SPACES), choices=SPACES)
    parser.add_argument("--count", type=int, default=10_000, help="candidates counted after the warm start")
    parser.add_argument("--warm", type=int, default=2_000, help="candidates counted before")
    parser.add_argument("--check", type=int, default=40, help="candidates of a space counted as whole networks, too")
    parser.add_argument("--networks", nargs="*", default=list(PUBLISHED), help="published ones in the second table")
    parser.add_argument("--drawn", type=int, default=3, help="networks of hrvit and of hrformer in the second table")
    parser.add_argument("--image", type=int, default=512, help="side of the images")
    options = parser.parse_args()
    image = (options.image, options.image)
    print(f"| space | first {options.warm:,}, cold, s | drawing {options.count:,}, s | counting them, s | checked |")
    print("|---|---|---|---|---|")
    for name in options.spaces:
        scale = fresh(at_scale, name, options.warm, options.count, options.check, image)
        seconds = f"{scale.cold:.1f} | {scale.drawing:.1f} | {scale.counting:.1f}"
        print(f"| {name} | {seconds} | {scale.checked} equal |", flush=True)
    times = "seconds | times ours, cold | times ours, warm"
    print(f"\n| network | true GFLOPs | tool | {times} | error | error on attention |")
    print("|---|---|---|---|---|---|---|---|")
    for name, arch in networks(options.networks, options.drawn):
        for row in fresh(beside, name, arch, image):
            print(row.line(), flush=True)


if __name__ == "__main__":
    main()
