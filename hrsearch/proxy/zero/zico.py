"""Inverse coefficient of variation of gradients: weights that all mini-batches pull alike learn fast."""

import torch
from torch import nn

from hrsearch.proxy.zero.probe import Probe
from hrsearch.registry import ZERO_COST

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


@ZERO_COST.add("zico")
def zico(network: nn.Module, probe: Probe) -> float:
    """Sum over layers of log(sum over their weights of E|g| / sqrt(Var|g|)) (Li et al., 2023).

    g is the gradient of the loss; mean and variance are over the mini-batches. The variance is that of |g|, as in the
    paper; the authors' code takes that of g, sign and all. Layers are convolutions and linear ones; weights whose |g|
    does not vary, and layers without others, are left out, as the authors do.
    """
    network.train()
    weights = [layer.weight for layer in network.modules() if isinstance(layer, LAYERS)]
    sizes = [[] for _ in weights]  # type: list[list[torch.Tensor]]
    for place, images in enumerate(probe.images):
        loss = probe.loss(network(images), place)
        for seen, gradient in zip(sizes, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
            if gradient is not None:
                seen.append(gradient.abs().double())
    return sum(_layer(torch.stack(seen)) for seen in sizes if seen)


def _layer(sizes: torch.Tensor) -> float:
    """The layer's term, from the absolute gradients (mini-batches, ...) of its weights."""
    deviation = sizes.std(dim=0, correction=0)
    varies = deviation > 0
    total = (sizes.mean(dim=0)[varies] / deviation[varies]).sum()
    return float(total.log()) if total > 0 else 0.0
