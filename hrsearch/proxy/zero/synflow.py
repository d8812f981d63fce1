"""Synaptic flow: how much passes through all of the weights at once."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hrsearch.proxy.zero.probe import Probe
from hrsearch.registry import ZERO_COST


@ZERO_COST.add("synflow")
def synflow(network: nn.Module, probe: Probe) -> float:
    """Sum over all parameters of |theta * dR/dtheta|, R the sum of the output (Tanaka et al., 2020).

    The weights are taken absolute and the one input image is all ones. In float64 and as in evaluation: batch norm
    does what its running statistics say, so that the flow is not levelled.
    """
    weights = {name: _absolute(weight) for name, weight in network.named_parameters() if weight.requires_grad}
    others = {name: _double(one) for name, one in (*network.named_parameters(), *network.named_buffers())}
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:  # the network itself stays as it is: to copy one takes as long as all of the rest
        flow = functional_call(
            network, {**others, **weights}, torch.ones_like(probe.images[0][:1], dtype=torch.float64)
        ).sum()
    finally:
        for module, mode in modes:
            module.training = mode
    gradients = torch.autograd.grad(flow, list(weights.values()), allow_unused=True)
    passed = zip(weights.values(), gradients, strict=True)
    return float(sum((weight * grad).abs().sum().item() for weight, grad in passed if grad is not None))


def _absolute(weight: Tensor) -> Tensor:
    return weight.detach().double().abs().requires_grad_()


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().double() if tensor.is_floating_point() else tensor
