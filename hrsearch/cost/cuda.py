"""Engines on an NVIDIA GPU: PyTorch, channels-last, timed with events.

`cuda` is float32 (TF32 as PyTorch is set), `cuda-fp16` and `cuda-bf16` compute under autocast. With `-graph` behind it
the pass is recorded once and played again: what remains is the GPU's own time, without Python's between the kernels.
"""

from collections.abc import Callable

import torch
from torch import nn

from hrsearch.cost.eager import prepared
from hrsearch.errors import CandidateFailed, InputError
from hrsearch.registry import ENGINES

TYPES = {"cuda": None, "cuda-fp16": torch.float16, "cuda-bf16": torch.bfloat16}
WARM_UP = 3  # passes before the recording, in which the libraries choose their kernels


def has_cuda() -> bool:
    """Whether this machine and this build of torch have a GPU to run on."""
    return torch.cuda.is_available()


def require_gpu(engine: str) -> None:
    """An InputError where there is no GPU for this engine."""
    if not has_cuda():
        raise InputError(f"engine {engine!r} needs an NVIDIA GPU and a CUDA build of torch; use engine eager here")


def is_cuda(engine: str) -> bool:
    """Whether the engine is one of these."""
    return engine.removesuffix("-graph") in TYPES


def _add(engine: str, dtype: torch.dtype | None, graph: bool) -> None:
    @ENGINES.add(engine)
    def cuda(network: nn.Module, example: torch.Tensor) -> Callable[[], object]:
        """One forward pass of a copy of `network` on the GPU; an InputError where there is none."""
        require_gpu(engine)
        run = _pass(network, example.cuda(), dtype)
        return _recorded(run) if graph else run


def _pass(network: nn.Module, example: torch.Tensor, dtype: torch.dtype | None) -> Callable[[], object]:
    ready, image = prepared(network, example)

    def run() -> object:
        # No cache of cast weights: a pass uses each once, and a recording must not depend on what an earlier one left.
        with torch.inference_mode(), torch.autocast("cuda", dtype, enabled=dtype is not None, cache_enabled=False):
            return ready(image)

    return run


def _recorded(run: Callable[[], object]) -> Callable[[], object]:
    """The pass as a CUDA graph; one that waits for the CPU cannot be recorded, which is a CandidateFailed."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            prediction = run()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise CandidateFailed(f"no CUDA graph: {error}".splitlines()[0]) from error

    def replay() -> object:
        graph.replay()  # writes the prediction where the recording left it
        return prediction

    return replay


for _name, _type in TYPES.items():
    _add(_name, _type, graph=False)
    _add(f"{_name}-graph", _type, graph=True)
