"""What operations deliver on meta tensors, without torch's own answer where that costs time.

For some torch asks Python programs, and for some of these it loads its compiler, which takes more than a second.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

aten = torch.ops.aten
SAME_SHAPE = {aten.gelu.default, aten.hardswish.default, aten._safe_softmax.default, aten.mul.Scalar}
NO_STATISTICS = (torch.empty(0, device="meta"), torch.empty(0, device="meta"))


def delivered(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the operation delivers, if what it is given says that; None elsewhere, and where torch has to refuse it.

    None, too, for tensors that hold values, which a module may compute its sizes by.
    """
    if func not in KNOWN or not _are_meta(args):
        return None
    if func in SAME_SHAPE:
        return torch.empty_like(args[0]) if args[0].is_floating_point() else None
    if func is aten.native_batch_norm.default:
        return torch.empty_like(args[0]), *NO_STATISTICS
    if func is aten.native_layer_norm.default:
        return _layer_normed(*args[:4])
    return None if kwargs else LOADING[func](*args)


def _are_meta(args: tuple[Any, ...]) -> bool:
    tensors = args[0] if isinstance(args[0], list | tuple) else args
    return all(one.is_meta for one in tensors if isinstance(one, Tensor))


def _layer_normed(one: Tensor, shape: Sequence[int], *scales: Tensor | None) -> tuple[Tensor, ...] | None:
    shapes = [one.shape[-len(shape) :], *(scale.shape for scale in scales if scale is not None)]
    if any(list(each) != list(shape) for each in shapes):
        return None
    return torch.empty_like(one, memory_format=torch.contiguous_format), *NO_STATISTICS


def _elementwise(one: Tensor, other: object) -> Tensor | None:
    if not isinstance(other, Tensor) or one.dtype != other.dtype:
        return None
    found: Tensor = aten.addcmul.default(one, other, other)  # broadcasts alike
    return found


def _linear(bias: Tensor, one: Tensor, other: Tensor) -> Tensor | None:
    product: Tensor | None = aten.mm.default(one, other) if bias.shape == other.shape[1:] else None
    return product


def _bilinear(one: Tensor, size: Sequence[int], _align: bool, *scales: float | None) -> Tensor:
    resized: Tensor = aten.upsample_nearest2d.default(one, size, *scales)
    return resized


def _mean(one: Tensor, *where: Any) -> Tensor | None:
    found: Tensor | None = aten.sum.dim_IntList(one, *where) if one.is_floating_point() else None
    return found


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    if not -first.dim() <= dim < first.dim():
        return None
    dim %= first.dim()
    kinds = {(one.dtype, one.dim(), one.shape[:dim], one.shape[dim + 1 :]) for one in tensors}
    channels_last = any(one.dim() > 3 and one.stride(1) == 1 for one in tensors)  # or may be: so would the result
    if len(kinds) > 1 or channels_last:
        return None
    return first.new_empty(*first.shape[:dim], sum(one.shape[dim] for one in tensors), *first.shape[dim + 1 :])


# For these the compiler is loaded.
LOADING: dict[OpOverload, Callable[..., Tensor | None]] = {
    aten.add.Tensor: _elementwise,
    aten.mul.Tensor: _elementwise,
    aten.mean.dim: _mean,
    aten.addmm.default: _linear,
    aten.upsample_bilinear2d.default: _bilinear,
    aten.cat.default: _joined,
}
KNOWN = {*SAME_SHAPE, *LOADING, aten.native_batch_norm.default, aten.native_layer_norm.default}
