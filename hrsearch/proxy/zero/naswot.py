"""Neural architecture search without training: how differently an untrained network codes different images."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hrsearch.proxy.zero.probe import Probe
from hrsearch.registry import ZERO_COST

ACTIVATIONS = {F.relu, F.relu_, F.gelu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


@ZERO_COST.add("naswot")
def naswot(network: nn.Module, probe: Probe) -> float:
    """log|det K|, K the sum over activations of how many codes two images of a mini-batch share (Mellor et al., 2021).

    The code of an image has a bit per activation: whether what goes into it is positive. Differs from the paper: GELU
    counts like ReLU. No other activation is seen, such as Hardswish in HRViT's attention. In HRViT's shortcut the rows
    of all images lie side by side, so that codes there are of parts of several. -inf where two images have the same
    code.
    """
    images = probe.images[0]
    network.train()  # batch norm by the batch, as a network that was never trained needs it
    with torch.no_grad(), _Codes(len(images)) as codes:
        network(images)
    return float(torch.linalg.slogdet(codes.kernel).logabsdet)


class _Codes(TorchFunctionMode):
    """Watches activations, whether a module or a function calls them, and adds up the kernel (B, B)."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.kernel = torch.zeros(images, images, dtype=torch.float64)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in ACTIVATIONS:
            given = args[0]
            # Windows of an image stand beside each other in the batch: they are its own again.
            code = (given.detach().reshape(len(self.kernel), -1) > 0).double().cpu()
            self.kernel += code @ code.T + (1 - code) @ (1 - code).T
        return func(*args, **(kwargs or {}))
