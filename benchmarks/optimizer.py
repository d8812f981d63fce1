"""What Muon costs: our step and torch's, by turns, beside the forward and backward pass of the laptop runner.

    python benchmarks/optimizer.py --rounds 15

CPU-milliseconds of one thread, medians over the rounds; torch's Muon orthogonalises matrix by matrix in bfloat16, ours
those of one shape together and, on a CPU, in float32.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import nn

from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.proxy import proxy_data
from hrsearch.proxy.learning import batch_at, learner_of, losses_of, predictions_of, seen, weighted
from hrsearch.proxy.muon import Muon
from hrsearch.runner import load_runner
from hrsearch.space import load_arch, load_space


def timed(work: Callable[[], object]) -> float:
    """CPU-milliseconds."""
    begun = time.process_time()
    work()
    return (time.process_time() - begun) * 1e3


def times(arch: Arch, rounds: int) -> tuple[float, float, float]:
    """Milliseconds of the passes, of torch's step and of ours."""
    plan = load_runner("laptop").proxy
    data = proxy_data(plan, "segment")
    learner = learner_of(build(arch, classes=len(data.classes)), data, plan, "cpu")
    ours = next(optimizer for optimizer in learner.optimizers if isinstance(optimizer, Muon))
    copies = [nn.Parameter(matrix.detach().clone()) for matrix in ours.matrices]
    torchs = torch.optim.Muon(copies, lr=plan.rate, weight_decay=plan.decay, adjust_lr_fn="match_rms_adamw")
    batch = batch_at(data, plan.batch, step=0, seed=0)

    def passes() -> None:
        learner.network.zero_grad(set_to_none=True)
        predictions = predictions_of(learner.network, seen(batch.images, data, plan.zoom))
        weighted(losses_of(predictions, batch, data, learner.weights)).backward()  # type: ignore[no-untyped-call]

    found = []
    for _ in range(rounds + 2):
        both = timed(passes)
        ours.take_gradients()
        for copy, matrix in zip(copies, ours.matrices, strict=True):
            copy.grad = None if matrix.grad is None else matrix.grad.clone()
        found.append((both, timed(torchs.step), timed(ours.step)))
    first, second, third = zip(*found[2:], strict=True)  # the first two warm up
    return median(first), median(second), median(third)


def rows(draws: int, rounds: int) -> Iterator[str]:
    """A line for each network."""
    space = load_space("hrvit")
    archs = {f"hrvit, seed {seed}": space.sample(seed)[1] for seed in range(draws)}
    for name, arch in ({"hrvit_b1": load_arch("hrvit_b1", "segment")} | archs).items():
        passes, torchs, ours = times(arch, rounds)
        share = torchs / (passes + torchs)
        gain = (passes + torchs) / (passes + ours)
        yield f"| {name} | {passes:.0f} | {torchs:.0f} ({share:.0%}) | {ours:.0f} | {torchs / ours:.1f} | {gain:.2f} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4, help="random networks of spaces/hrvit.yaml")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | passes, ms | torch's Muon, ms | ours, ms | times as fast | a training step |")
    print("|---|---|---|---|---|---|")
    for row in rows(asked.draws, asked.rounds):
        print(row, flush=True)


if __name__ == "__main__":
    main()
