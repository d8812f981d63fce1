"""An average of the weights over the steps, which is validated, kept, and may teach."""

import copy

import torch
from torch import nn


class Average:
    """A network whose weights follow another's: after each step `decay` of its own and the rest of the other's.

    Buffers, those of batch norms above all, follow likewise. It is never trained itself.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, steps: int) -> None:
        """Follow `network`, which has done so many steps; the decay grows to its own, or a short run would lag."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        for ours, theirs in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if ours.is_floating_point():
                ours.lerp_(theirs, 1 - decay)
            else:
                ours.copy_(theirs)
