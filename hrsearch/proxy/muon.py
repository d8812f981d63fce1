"""Muon (Jordan et al., 2024) for the weights that mix channels: torch's, given convolutions as matrices.

Shapes: O outputs, I inputs times the size of the kernel.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SMALLEST = 16  # shorter side of a matrix that is worth it


class Muon(torch.optim.Muon):
    """Steps that go equally far in every direction of a matrix, of the size of AdamW's: both share a rate.

    Training a small transformer shortly is mostly waiting for the directions whose gradients are small, and how long
    depends on the seed; these are not waited for. torch's takes matrices alone, so it is shown every weight as one of
    (O, I), in the same memory.
    """

    def __init__(self, weights: Sequence[Tensor], *, rate: float, decay: float) -> None:
        self.weights = weights
        self.matrices = [nn.Parameter(_matrix(weight.detach())) for weight in weights]
        super().__init__(self.matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")

    def take_gradients(self) -> None:
        """See the gradients that the weights have now; to be called after each backward pass."""
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            matrix.grad = None if weight.grad is None else _matrix(weight.grad)


def is_mixing(weight: Tensor) -> bool:
    """Whether Muon is for it: a matrix of two sides of some size; a depthwise kernel does not mix channels."""
    depthwise = weight.ndim == 4 and weight.shape[1] == 1
    return weight.ndim > 1 and not depthwise and min(weight.flatten(1).shape) >= SMALLEST


def _matrix(weight: Tensor) -> Tensor:
    """(O, I) in the memory of `weight`, a matrix or a kernel whose channels come last in memory."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).view(len(weight), -1)
