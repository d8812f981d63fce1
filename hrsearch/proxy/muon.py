"""Muon (Jordan et al., 2024) for the weights that mix channels, convolutions as matrices.

Shapes: N matrices, O outputs, I inputs times the size of the kernel.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

SMALLEST = 16  # shorter side of a matrix that is worth it
MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that lifts small singular values fastest
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Steps that go equally far in every direction of a matrix, of the size of AdamW's: both share a rate.

    Training a small transformer shortly is mostly waiting for the directions whose gradients are small, and how long
    depends on the seed; these are not waited for. It sees every weight as a matrix (O, I), in the same memory.
    Not torch.optim.Muon, which orthogonalises matrix by matrix in bfloat16: on a processor that has no instructions for
    that, these products took three quarters of a training.
    """

    def __init__(self, weights: Sequence[Tensor], *, rate: float, decay: float) -> None:
        self.weights = weights
        self.matrices = [nn.Parameter(_matrix(weight.detach())) for weight in weights]
        super().__init__(self.matrices, {"lr": rate, "weight_decay": decay})

    def take_gradients(self) -> None:
        """See the gradients that the weights have now; to be called after each backward pass."""
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            matrix.grad = None if weight.grad is None else _matrix(weight.grad)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Decay the matrices that have a gradient, and move them; those of one shape together."""
        for group in self.param_groups:
            for (outputs, inputs), matrices in _by_shape(group["params"]).items():
                directions = orthogonal(torch.stack([self._ahead(matrix) for matrix in matrices]))
                rate = group["lr"] * 0.2 * math.sqrt(max(outputs, inputs))  # of AdamW's size: Liu et al., 2025
                for matrix, direction in zip(matrices, directions, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=rate)

    def _ahead(self, matrix: Tensor) -> Tensor:
        """(O, I): the mean of the gradients so far, after another like this one (Nesterov)."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        average = state["momentum_buffer"]
        average.lerp_(matrix.grad, 1 - MOMENTUM)
        return matrix.grad.lerp(average, MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, O, I) the matrices with every singular value brought to about 1, .7 to 1.2, by Newton and Schulz' iteration.

    In float32 on a CPU; in bfloat16, which is enough, on a GPU, where it is faster.
    """
    a, b, c = COEFFICIENTS
    is_wide = matrices.shape[-2] <= matrices.shape[-1]
    found = matrices if is_wide else matrices.mT
    found = found if matrices.device.type == "cpu" else found.bfloat16()
    found = found / found.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return (found if is_wide else found.mT).to(matrices.dtype)


def is_mixing(weight: Tensor) -> bool:
    """Whether Muon is for it: a matrix of two sides of some size, or a kernel of images; a depthwise one does not mix
    channels, and of what other dimensions a plug-in's weight may have nothing is known."""
    depthwise = weight.ndim == 4 and weight.shape[1] == 1
    return weight.ndim in (2, 4) and not depthwise and min(weight.flatten(1).shape) >= SMALLEST


def _matrix(weight: Tensor) -> Tensor:
    """(O, I) in the memory of `weight`, a matrix or a kernel whose channels come last in memory."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).view(len(weight), -1)


def _by_shape(matrices: Iterable[Tensor]) -> dict[tuple[int, int], list[Tensor]]:
    """Those that have a gradient."""
    found: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
    for matrix in matrices:
        if matrix.grad is not None:
            found[matrix.shape[0], matrix.shape[1]].append(matrix)
    return found
