"""Where a network's tensors hold several things, one after another: queries and keys, the halves of a layer, the maps.

Of a plug-in's block nothing is known: each of its tensors counts as one.
"""

from collections.abc import Iterator, Sequence

from torch import nn

from hrsearch.nets.heads import Classify, Concatenation, SegFormer
from hrsearch.nets.hrformer import RelativePosition, WindowAttention
from hrsearch.nets.hrvit import CrossAttention, KroneckerShortcut, MixedFeedForward
from hrsearch.nets.ocr import ObjectContext
from hrsearch.nets.transformer import GlobalAttention
from hrsearch.nets.uper import UnifiedPerception

Sizes = list[int] | None  # of what lies one after another along a dimension; None: it means something as a whole only
Sections = list[Sizes]  # of a tensor's first dimensions


def sections_of(network: nn.Module) -> dict[str, Sections]:
    """Of the tensors that hold several things or cannot be cut, by their names."""
    return {
        f"{path}.{name}".removeprefix("."): sections
        for path, module in network.named_modules()
        for name, sections in _sections(module)
    }


def _sections(module: nn.Module) -> Iterator[tuple[str, Sections]]:
    match module:
        case WindowAttention():
            yield from _outputs("query_key_value", [module.channels] * 3)
        case GlobalAttention():
            yield from _outputs("key_value", [module.channels] * 2)
        case CrossAttention():  # rows and columns, of queries and of values
            half = module.channels // 2
            yield from _outputs("query_value", [half] * 4)
            yield from _outputs("local", [half] * 2)
            yield _inputs("output", module.output, [half] * 2)
        case MixedFeedForward():
            half = module.conv3.in_channels
            yield from _outputs("expand", [half] * 2)
            yield _inputs("reduce", module.reduce, [half] * 2)
        case KroneckerShortcut():  # channels are rows and columns of a matrix: the first of a wider one are others
            for name in ("left", "right"):
                yield f"{name}.weight", [None, None]
                yield f"{name}.bias", [None]
        case RelativePosition():  # distances of another window are others
            yield "table", [None]
        case Classify() | Concatenation() | SegFormer() | ObjectContext() | UnifiedPerception():
            yield from _of_head(module)
        case _:
            pass


def _of_head(
    head: Classify | Concatenation | SegFormer | ObjectContext | UnifiedPerception,
) -> Iterator[tuple[str, Sections]]:
    widths = [each.channels for each in head.inputs]
    match head:
        case Classify():
            yield _inputs("classifier", head.classifier, widths)
        case Concatenation():
            yield _inputs("fuse.0", head.fuse[0], widths)
        case SegFormer():
            yield _inputs("fuse.0", head.fuse[0], [head.classifier.in_channels] * len(widths))
        case UnifiedPerception():
            width = head.classifier.in_channels
            yield _inputs("coarsest.0", head.coarsest[0], [widths[-1], *[width] * len(head.pool)])
            yield _inputs("fuse.0", head.fuse[0], [width] * len(widths))
        case ObjectContext():
            for name, layer in (("coarse.0", head.coarse[0]), ("pixels.0", head.pixels[0])):
                yield _inputs(name, layer, widths)
            yield _inputs("fuse.0", head.fuse[0], [head.classifier.in_channels] * 2)


def _outputs(layer: str, sizes: Sequence[int]) -> Iterator[tuple[str, Sections]]:
    yield f"{layer}.weight", [list(sizes)]
    yield f"{layer}.bias", [list(sizes)]


def _inputs(name: str, layer: nn.Module, sizes: Sequence[int]) -> tuple[str, Sections]:
    """A grouped convolution reads each group's inputs apart: it is not cut."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    outputs = len(layer.weight)
    grouped = isinstance(layer, nn.Conv2d) and layer.groups > 1
    return f"{name}.weight", [None, None] if grouped else [[outputs], list(sizes)]
