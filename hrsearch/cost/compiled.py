"""Engine `compiled`: torch.compile on the CPU, float32, channels-last.

For a few networks, not for a search: compiling one of `spaces/hrvit.yaml` took 130 s on two busy cores, and it then
ran no faster than eager (86.6 and 85.4 ms).
"""

import shutil
from collections.abc import Callable

import torch
from torch import nn

from hrsearch.cost.eager import prepared
from hrsearch.errors import InputError
from hrsearch.registry import ENGINES

COMPILERS = ("c++", "g++", "clang++", "cl")


@ENGINES.add("compiled")
def compiled(network: nn.Module, example: torch.Tensor) -> Callable[[], object]:
    """One forward pass of the compiled copy; an InputError where there is no C++ compiler."""
    if not any(map(shutil.which, COMPILERS)):
        raise InputError(f"engine 'compiled' needs a C++ compiler ({', '.join(COMPILERS)}); install g++")
    ready, image = prepared(network, example)
    torch.compiler.reset()  # graphs of earlier candidates
    fast = torch.compile(ready, dynamic=False)

    def run() -> object:
        with torch.inference_mode():
            return fast(image)

    return run
