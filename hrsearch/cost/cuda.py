"""Engine `cuda`: PyTorch on an NVIDIA GPU, float32 (TF32 as PyTorch is set), channels-last, timed with events."""

from collections.abc import Callable

import torch
from torch import nn

from hrsearch.cost.eager import forward_of
from hrsearch.errors import InputError
from hrsearch.registry import ENGINES


def has_cuda() -> bool:
    """Whether this machine and this build of torch have a GPU to run on."""
    return torch.cuda.is_available()


@ENGINES.add("cuda")
def cuda(network: nn.Module, example: torch.Tensor) -> Callable[[], object]:
    """One forward pass of a copy of `network` on the GPU; an InputError where there is none."""
    if not has_cuda():
        raise InputError("engine 'cuda' needs an NVIDIA GPU and a CUDA build of torch; use engine eager here")
    return forward_of(network, example.cuda())
