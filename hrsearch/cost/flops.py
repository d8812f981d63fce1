"""Exact costs: a network is a sum of parts, and each distinct part is counted once.

FLOPs follow the papers and fvcore: one multiply-accumulate is one. Convolutions, linear layers and both products of
attention are counted; norms, activations, softmax, pooling, upsampling and sums are not.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from hrsearch.arch import Arch, Branch, Map, Part, Stage, inputs_of
from hrsearch.build import widths_of
from hrsearch.cost.delivered import delivered
from hrsearch.nets.link import InParts, Piece
from hrsearch.nets.norm import NORMS
from hrsearch.nets.sharing import sharing
from hrsearch.objective import Cost
from hrsearch.registry import BLOCKS, HEADS, LINKS

Size = tuple[int, int]
Maps = tuple[Map, ...]
Shapes = tuple[tuple[int, ...], ...]
Count = tuple[str, int, int]  # name of the part, parameters, FLOPs

OF_ALL = vars(nn.Module()).keys()  # attributes that every module has

_made: dict[Hashable, nn.Module] = {}  # what links share
_described: WeakKeyDictionary[nn.Module, tuple[str, int]] = WeakKeyDictionary()
_flops: dict[tuple[str, Shapes], int] = {}  # by a module's text and what it is called with


def cost(arch: Arch, image: Sequence[int] | None = None, classes: int = 1000) -> Cost:
    """Parameters and FLOPs of one image; an impossible network is an InputError.

    `image` is its height and width in pixels: by default the network's own, or 224 x 224 where it has none.
    """
    height, width = image or arch.image or (224, 224)
    size = (height, width)
    counts: list[Count] = []
    for index, stage in enumerate(arch.stages):
        counts += [(f"stages.{index}.{name}", p, f) for name, p, f in _stage(stage, inputs_of(arch, index), size)]
    counts += [(f"head.{name}".rstrip("."), p, f) for name, p, f in _head(arch.head, arch.maps, classes, size)]
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
    with _bare():
        module = LINKS[link.kind](inputs, outputs, **link.keywords())
    return module.outputs, _counted(module, inputs, image)


@cache
def _head(head: Part, inputs: Maps, classes: int, image: Size) -> tuple[Count, ...]:
    with _bare():
        module = HEADS[head.kind](inputs, classes, **head.keywords())
    return _counted(module, inputs, image)


@cache
def _block(block: Part, c_in: int, c_out: int, size: Size) -> tuple[int, int]:
    with _bare():
        module = BLOCKS[block.kind](c_in, c_out, 0.0, **block.keywords())
    return _piece(Piece("", module, ((1, c_in, *size),)))


@cache
def _norm(kind: str, channels: int) -> int:
    with _bare():
        return _params(NORMS[kind](channels))


@contextmanager
def _bare() -> Iterator[None]:
    """Inside, modules hold no memory, and links share the paths that they have in common."""
    with torch.device("meta"), sharing(_made):
        yield


def _counted(module: nn.Module, inputs: Sequence[Map], image: Size) -> tuple[Count, ...]:
    """The pieces of a link or a head; parameters outside every piece are an error of ours."""
    sizes = [size_at(image, one.stride) for one in inputs]
    pieces: list[Piece] = list(module.parts(sizes))  # type: ignore[operator]
    counts = tuple((piece.name, *_piece(piece)) for piece in pieces)
    all_of_it = sum(tensor.numel() for _, tensor in module.named_parameters(remove_duplicate=False))
    assert sum(params for _, params, _ in counts) == all_of_it, f"{type(module).__name__}.parts leaves some out"
    return counts


def _piece(piece: Piece) -> tuple[int, int]:
    """Parameters and FLOPs: the latter counted once for equal text of the module and equal shapes."""
    if piece.module not in _described:
        _described[piece.module] = _text(piece.module), _params(piece.module)
    text, params = _described[piece.module]
    key = (text, piece.shapes)
    if key not in _flops:
        _flops[key] = count_module(piece.module, piece.shapes)
    return params, _flops[key]


def _text(module: nn.Module) -> str:
    """What tells a module from others: its text and, for what that leaves out of a plug-in, its own attributes and the
    shapes of its tensors."""
    plain = [
        (place, name, value)
        for place, each in module.named_modules()
        for name, value in vars(each).items()
        if name not in OF_ALL and not isinstance(value, nn.Module)
    ]
    shapes = [tuple(tensor.shape) for tensor in (*module.parameters(), *module.buffers())]
    return f"{module!r} {plain!r} {shapes!r}"


def _params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def count_module(module: nn.Module, shapes: Sequence[Sequence[int]]) -> int:
    """Multiply-accumulates of one call with a tensor (a link or a head: a list of tensors) of `shapes`.

    By torch's own formulas, which take a multiplication and a sum for two: on meta tensors they see all of attention,
    while a fused kernel of the CPU hides it. A module elsewhere is moved there.
    """
    module.to("meta").eval()
    example = [torch.empty(*shape, device="meta") for shape in shapes]
    counter = _Counter()
    with torch.no_grad(), counter:
        module(example if isinstance(module, InParts) else example[0])
    return counter.flops // 2


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what torch's FlopCounterMode does, in half of its time."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and torch would load its compiler to be told so: more than a second

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: int = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = delivered(func, args, kwargs)
        if result is None and torch.is_inference_mode_enabled():  # then what is made of others arrives whole
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
            result = None
        if result is None:
            result = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        self.flops += formula(*args, **kwargs, out_val=result) if formula else 0
        return result
