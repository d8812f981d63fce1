"""Gradient checkpointing (Chen et al., 2016): blocks keep their input alone and are computed again when needed."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from hrsearch.build import Network


def checkpointed(network: Network) -> None:
    """Let every block of the network's branches be computed again in the backward pass."""
    for stage in network.stages:
        for branch in stage.branches:  # type: ignore[union-attr]
            for block in branch:
                inner = partial(checkpoint, block.forward, use_reentrant=False, context_fn=partial(_contexts, block))
                block.forward = inner


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _norms_as_they_are(block)


@contextmanager
def _norms_as_they_are(block: nn.Module) -> Iterator[None]:
    """The second time the same images must not move the statistics of batch norms again."""
    norms = [each for each in block.modules() if isinstance(each, nn.modules.batchnorm._NormBase)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
