"""The golden files' recipe for weights, and how its outputs are compared."""

import math
import zlib
from typing import Any

import numpy as np
import torch
from archs import flops_of
from torch import Tensor

from hrsearch.build import Network
from hrsearch.nets.link import InParts, Piece
from hrsearch.released import released_names


def recipe_weights(network: Network, family: str) -> dict[str, Tensor]:
    """A file as the family's authors would release it for this network, with the recipe's values."""
    ours = network.state_dict()
    shapes: dict[str, torch.Size] = {}
    for key, name in released_names(network, family).items():
        letters = "qkv" if family == "hrformer" and ".qkv." in name else ""
        if not letters:
            shapes[name] = ours[key].shape
        for letter in letters:  # ours are in one
            shapes[name.replace(".qkv.", f".{letter}_proj.")] = torch.Size([len(ours[key]) // 3, *ours[key].shape[1:]])
    return {name: recipe_weight(name, shape) for name, shape in shapes.items()}


def recipe_weight(key: str, shape: torch.Size) -> Tensor:
    """The tensor that the recipe gives a released key."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("running_var"):
        return torch.tensor(0.5 + random.random_sample(shape))
    if key.endswith(("running_mean", "bias")):
        return torch.tensor(0.1 * random.standard_normal(shape))
    if key.endswith("relative_position_bias_table"):
        return torch.tensor(random.standard_normal(shape))
    if len(shape) == 1:
        return torch.tensor(0.5 + random.random_sample(shape))
    return torch.tensor(random.standard_normal(shape) / math.sqrt(math.prod(shape[1:])))


def recipe_image(size: str) -> Tensor:
    """The image of a size like "224x168": (1, 3, height, width)."""
    height, width = map(int, size.split("x"))
    return torch.tensor(np.random.RandomState(2022).standard_normal((1, 3, height, width)))


def require_equal(got: Tensor, wanted: dict[str, Any]) -> None:
    """Shape, values at the recipe's places and moments agree to a relative 1e-9."""
    assert list(got.shape) == wanted["shape"]
    flat = got.contiguous().numpy().ravel()
    np.testing.assert_allclose(flat[wanted["idx"]], wanted["val"], rtol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(flat), wanted["l2"], rtol=1e-9)
    np.testing.assert_allclose(flat.mean(), wanted["mean"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(flat.std(), wanted["std"], rtol=1e-9)


def piece_flops(piece: Piece) -> int:
    """FLOPs of a piece, counted once for equal text and shapes: the text of a module determines them."""
    key = (repr(piece.module), piece.shapes)
    if key not in COUNTED:
        inputs = [torch.empty(shape, device="meta") for shape in piece.shapes]
        COUNTED[key] = flops_of(lambda: piece.module(inputs if isinstance(piece.module, InParts) else inputs[0]))
    return COUNTED[key]


COUNTED: dict[tuple[str, tuple[tuple[int, ...], ...]], int] = {}
