"""Peak memory of one forward pass, and of one training step.

On the CPU it is counted, not measured: the pass runs on tensors that know their shapes and hold no memory, and the
bytes of all that are alive at once are summed after every operator. So it does not depend on the machine or its load,
and a step that would not fit can be counted, too. What a kernel allocates for itself is not seen: up to 1 % of what
torch's profiler finds for HRViT-b1, HRFormer-T and a draw of spaces/hrvit.yaml at 512 x 512.

On CUDA it is what torch's allocator has handed out at most, with what the kernels asked of it.
"""

import copy
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeCopyMode,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode

from hrsearch.cost.cuda import has_cuda
from hrsearch.cost.eager import prepared
from hrsearch.errors import CandidateFailed, InputError
from hrsearch.objective import Memory

COUNTED = "counted by the tensors that are alive at once"
MEASURED = "measured by torch.cuda.max_memory_allocated"


def peak_memory(
    network: nn.Module, image: tuple[int, int] = (512, 512), batch: int = 1, training: bool = False, device: str = "cpu"
) -> Memory:
    """The peak of a batch of `image` (height, width) pixels in float32 on "cpu" or "cuda"; `network` stays as it was.

    Parameters, buffers, the images and the prediction are included. With `training` it is a step as all but the first
    are: AdamW's two moments are there from the start, then a forward pass, a backward pass from the sum of every
    prediction, and a fused AdamW step. A forward pass alone is in evaluation mode.

    "cuda" without a GPU is an InputError, a network that cannot be counted a CandidateFailed.
    """
    shape = (batch, 3, *image)
    try:
        held, above = (_measured if device == "cuda" else _counted)(network, shape, training)
    except ValueError as error:
        if not training or isinstance(error, InputError):
            raise
        # a batch norm behind pooling to one pixel has nothing to norm in a single image
        words = f"no training step with batch {batch} ({error}); a larger batch in the runner's measure: may help"
        raise CandidateFailed(words) from error
    return Memory(
        bytes=held + above,
        of="training step" if training else "forward pass",
        how=MEASURED if device == "cuda" else COUNTED,
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        image=image,
        batch=batch,
    )


def _counted(network: nn.Module, shape: tuple[int, ...], training: bool) -> tuple[int, int]:
    """Bytes that are held throughout, and the most that come on top."""
    fake = FakeTensorMode()
    with FakeCopyMode(fake):
        ready = copy.deepcopy(network)
    try:
        with fake:
            example = torch.empty(shape, memory_format=torch.channels_last)
            alive = Alive([*ready.parameters(), *ready.buffers(), example])
            with alive:
                _once(ready, example, training)
    except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException) as error:
        raise CandidateFailed(f"its memory cannot be counted: what it does depends on values ({error})") from error
    return _held(ready, example, training), alive.peak


def _measured(network: nn.Module, shape: tuple[int, ...], training: bool) -> tuple[int, int]:
    """The same on the GPU. What the libraries keep for themselves from the first pass on is not the network's."""
    if not has_cuda():
        raise InputError("memory on 'cuda' needs an NVIDIA GPU and a CUDA build of torch; count it on cpu here")
    ready, example = prepared(network, torch.zeros(shape, device="cuda"))
    optimizer = torch.optim.AdamW(_trained(ready), fused=True) if training else None
    for _ in range(2):  # the first one makes the moments and the libraries' workspaces
        ready.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        resting = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _once(ready, example, training)
        if optimizer:
            optimizer.step()
    return _held(ready, example, training), torch.cuda.max_memory_allocated() - resting


def _once(network: nn.Module, example: Tensor, training: bool) -> None:
    """A forward pass, or a step up to the gradients; the fused AdamW step after it allocates nothing."""
    network.train(training)
    with torch.set_grad_enabled(training):
        predict: Callable[[Tensor], list[Tensor]] | None = getattr(network, "predictions", None) if training else None
        predictions = [network(example)] if predict is None else predict(example)
        if training:
            torch.stack([each.sum() for each in predictions]).sum().backward()  # type: ignore[no-untyped-call]


def _held(network: nn.Module, example: Tensor, training: bool) -> int:
    """Bytes of the parameters, the buffers and the images; in training of AdamW's moments and counts of steps, too."""
    tensors = [*network.parameters(), *network.buffers(), example]
    held = {each.untyped_storage()._cdata: each.untyped_storage().nbytes() for each in tensors}
    moments = sum(2 * each.nbytes + 4 for each in _trained(network)) if training else 0
    return sum(held.values()) + moments


def _trained(network: nn.Module) -> list[nn.Parameter]:
    return [each for each in network.parameters() if each.requires_grad]


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operators inside it make, while they are alive; `held` are not counted."""

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._known = {each.untyped_storage()._cdata: 0 for each in held}  # storages that live, and their bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known[key] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self._now -= self._known.pop(key)


def _tensors(made: Any) -> Iterator[Tensor]:
    if isinstance(made, Tensor):
        yield made
    elif isinstance(made, list | tuple):
        for each in made:
            yield from _tensors(each)
