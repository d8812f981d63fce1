"""Exact costs: a network is a sum of parts, and each distinct part is counted once.

FLOPs follow the papers and fvcore: one multiply-accumulate is one. Convolutions, linear layers and both products of
attention are counted; norms, activations, softmax, pooling, upsampling and sums are not.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from hrsearch.arch import Arch, Branch, Map, Part, Stage, inputs_of
from hrsearch.build import widths_of
from hrsearch.nets.link import InParts, Piece
from hrsearch.nets.norm import NORMS
from hrsearch.objective import Cost
from hrsearch.registry import BLOCKS, HEADS, LINKS

Size = tuple[int, int]
Maps = tuple[Map, ...]
Count = tuple[str, int, int]  # name of the part, parameters, FLOPs

_FREE = (
    "aten::batch_norm",
    "aten::group_norm",
    "aten::layer_norm",
    "aten::instance_norm",
    "aten::upsample_nearest2d",
    "aten::upsample_bilinear2d",
    "aten::adaptive_avg_pool2d",
    "aten::grid_sampler",
)


def cost(arch: Arch, image: Size | None = None, classes: int = 1000) -> Cost:
    """Parameters and FLOPs of one image; an impossible network is an InputError.

    `image` is its height and width in pixels: by default the network's own, or 224 x 224 where it has none.
    """
    image = image or arch.image or (224, 224)
    counts: list[Count] = []
    for index, stage in enumerate(arch.stages):
        counts += [(f"stages.{index}.{name}", p, f) for name, p, f in _stage(stage, inputs_of(arch, index), image)]
    counts += [(f"head.{name}".rstrip("."), p, f) for name, p, f in _head(arch.head, arch.maps, classes, image)]
    return Cost(
        params=sum(params for _, params, _ in counts),
        flops=sum(flops for _, _, flops in counts),
        params_by_part={name: params for name, params, _ in counts},
        flops_by_part={name: flops for name, _, flops in counts},
    )


def size_at(image: Size, stride: int) -> Size:
    """Height and width of a map: each halving rounds up, so the whole does."""
    return -(-image[0] // stride), -(-image[1] // stride)


def _stage(stage: Stage, inputs: Sequence[Map], image: Size) -> Iterator[Count]:
    delivered, counts = _link(stage.link, tuple(inputs), stage.maps, image)
    for name, params, flops in counts:
        yield f"link.{name}".rstrip("."), params, flops
    for index, (branch, width) in enumerate(zip(stage.branches, widths_of(stage, delivered), strict=True)):
        for place, (params, flops) in enumerate(_branch(branch, width, image)):
            yield f"branches.{index}.{place}", params, flops


def _branch(branch: Branch, width: int, image: Size) -> Iterator[tuple[int, int]]:
    """Parameters and FLOPs of each block of a branch that is given `width` channels, then of its norm."""
    size, channels = size_at(image, branch.stride), branch.channels
    if branch.block and branch.depth:
        yield _block(branch.block, width, channels, size)
        yield from [_block(branch.block, channels, channels, size)] * (branch.depth - 1)
    if branch.norm:
        yield _norm(branch.norm, branch.channels), 0


@cache
def _link(link: Part, inputs: Maps, outputs: Maps, image: Size) -> tuple[Maps, tuple[Count, ...]]:
    """The maps that a link delivers, and its counts."""
    with torch.device("meta"):
        module = LINKS[link.kind](inputs, outputs, **link.keywords())
    return module.outputs, _counted(module, inputs, image)


@cache
def _head(head: Part, inputs: Maps, classes: int, image: Size) -> tuple[Count, ...]:
    with torch.device("meta"):
        module = HEADS[head.kind](inputs, classes, **head.keywords())
    return _counted(module, inputs, image)


@cache
def _block(block: Part, c_in: int, c_out: int, size: Size) -> tuple[int, int]:
    with torch.device("meta"):
        module = BLOCKS[block.kind](c_in, c_out, 0.0, **block.keywords())
    return _params(module), _flops(Piece("", module, ((1, c_in, *size),)))


@cache
def _norm(kind: str, channels: int) -> int:
    with torch.device("meta"):
        return _params(NORMS[kind](channels))


def _counted(module: nn.Module, inputs: Sequence[Map], image: Size) -> tuple[Count, ...]:
    """The pieces of a link or a head; parameters outside every piece are an error of ours."""
    sizes = [size_at(image, one.stride) for one in inputs]
    pieces: list[Piece] = list(module.parts(sizes))  # type: ignore[operator]
    counts = tuple((piece.name, _params(piece.module), _flops(piece)) for piece in pieces)
    assert sum(params for _, params, _ in counts) == _params(module), f"{type(module).__name__}.parts leaves some out"
    return counts


def _params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


_memory: dict[tuple[str, tuple[tuple[int, ...], ...]], int] = {}


def _flops(piece: Piece) -> int:
    """Multiply-accumulates of a piece: counted once for equal text of the module and equal shapes."""
    key = (repr(piece.module), piece.shapes)
    if key not in _memory:
        _memory[key] = count_module(piece.module, piece.shapes)
    return _memory[key]


def count_module(module: nn.Module, shapes: Sequence[Sequence[int]]) -> int:
    """Multiply-accumulates of one call with a tensor (a link or a head: a list of tensors) of `shapes`, by fvcore.

    fvcore traces with real tensors, so a module on the meta device is given memory first.
    """
    real = module.to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in (*real.parameters(), *real.buffers()):
            tensor.zero_()
        example = [torch.zeros(*shape) for shape in shapes]
        analysis = FlopCountAnalysis(real, (example if isinstance(module, InParts) else example[0],))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        analysis.set_op_handle("aten::scaled_dot_product_attention", attention_flops)
        for operator in _FREE:
            analysis.set_op_handle(operator, lambda inputs, outputs: 0)
        return int(analysis.total())


def attention_flops(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Multiply-accumulates of both products of scaled dot-product attention: (..., L, D), (..., S, D), (..., S, E)."""
    query, key, value = (_shape_of(tensor) for tensor in inputs[:3])
    *batch, length, width = query
    return torch.Size(batch).numel() * length * key[-2] * (width + value[-1])


def _shape_of(value: Any) -> list[int]:
    shape: list[int] = value.type().sizes()
    return shape
