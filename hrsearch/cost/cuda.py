"""Engine `cuda`: PyTorch on an NVIDIA GPU, float32 (TF32 as PyTorch is set), channels-last, timed with events."""

from collections.abc import Callable

import torch
from torch import nn

from hrsearch.cost.eager import forward_of
from hrsearch.errors import InputError
from hrsearch.registry import ENGINES


@ENGINES.add("cuda")
def cuda(network: nn.Module, example: torch.Tensor) -> Callable[[], object]:
    """One forward pass of a copy of `network` on the GPU; an InputError where there is none."""
    if not torch.cuda.is_available():
        raise InputError("engine 'cuda' needs an NVIDIA GPU and a CUDA build of torch; use engine eager here")
    return forward_of(network, example.cuda())
