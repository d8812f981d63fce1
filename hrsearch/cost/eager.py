"""Engine `eager`: PyTorch as it is, float32, channels-last, on the CPU."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from hrsearch.registry import ENGINES


@ENGINES.add("eager")
def eager(network: nn.Module, example: torch.Tensor) -> Callable[[], object]:
    """One forward pass of a copy of `network` on `example` (B, 3, H, W)."""
    return forward_of(network, example)


def forward_of(network: nn.Module, example: torch.Tensor) -> Callable[[], object]:
    """A callable that runs a channels-last evaluation copy of `network` where `example` lies."""
    ready, image = prepared(network, example)

    def run() -> object:
        with torch.inference_mode():
            return ready(image)

    return run


def prepared(network: nn.Module, example: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """A copy of the network for evaluation where `example` lies, and the example, channels last in memory."""
    ready = copy.deepcopy(network).eval().to(example.device)
    ready.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ready, example.contiguous(memory_format=torch.channels_last)
