"""Synaptic flow: how much passes through all of the weights at once."""

import copy

import torch
from torch import nn

from hrsearch.proxy.zero.probe import Probe
from hrsearch.registry import ZERO_COST


@ZERO_COST.add("synflow")
def synflow(network: nn.Module, probe: Probe) -> float:
    """Sum over all parameters of |theta * dR/dtheta|, R the sum of the output (Tanaka et al., 2020).

    The weights are taken absolute and the one input image is all ones. In float64 and as in evaluation: batch norm
    does what its running statistics say, so that the flow is not levelled.
    """
    double = copy.deepcopy(network).double().eval()
    parameters = [parameter for parameter in double.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in parameters:
            parameter.abs_()
    flow = double(torch.ones_like(probe.images[0][:1], dtype=torch.float64)).sum()
    gradients = torch.autograd.grad(flow, parameters, allow_unused=True)
    passed = zip(parameters, gradients, strict=True)
    return float(sum((weight * grad).abs().sum().item() for weight, grad in passed if grad is not None))
