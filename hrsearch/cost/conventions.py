"""FLOPs as the papers print them: each counts other operators, so the same network has other figures.

A network runs once on meta tensors, which hold no memory, and every operator's elements are counted.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hrsearch.arch import Arch
from hrsearch.build import build

Elements = Mapping[str, int]


class Convention(NamedTuple):
    """A way to count, in words and as a function of the elements of a network's operators."""

    words: str
    flops: Callable[[Elements], float]


def elements_of(arch: Arch, image: tuple[int, int], classes: int) -> Counter[str]:
    """What a network does for one image of `image` (height, width) pixels, by operator.

    "product" and "attention" are multiply-accumulates: of convolutions, linear layers and matrices, and of both
    products of attention. Every other operator counts the elements of its output.
    """
    with torch.device("meta"):
        network = build(arch, classes).eval()
        example = torch.empty(1, 3, *image)
    tally = Tally()
    with torch.no_grad(), tally:
        network(example)
    return tally.elements


class Tally(TorchFunctionMode):
    """Counts the operators that are called inside it; what they call in turn is not counted again."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func)).removesuffix("_")  # in place or not
        if isinstance(out, Tensor):
            self.elements.update(OPERATORS.get(name, _elementwise(name))(out, *args, **(kwargs or {})))
        return out


def _elementwise(name: str) -> Callable[..., Elements]:
    return lambda out, *args, **kwargs: {name: out.numel()}


def _convolution(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any) -> Elements:
    products = out.numel() * weight[0].numel()
    return {"product": products, "convolution": products, "convolution_bias": 0 if bias is None else out.numel()}


def _linear(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Elements:
    products = out.numel() * weight.shape[1]
    tokens = bias is not None and out.ndim > 2
    return {"product": products, "linear": products, "token_bias": out.numel() if tokens else 0}


def _matrices(out: Tensor, left: Tensor, right: Tensor) -> Elements:
    return {"product": out.numel() * left.shape[-1]}


def _attention(
    out: Tensor, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any
) -> Elements:
    """Also the elements of the logits, and what a linear layer between the heads' outputs would multiply."""
    keys, channels = key.shape[-2], query.shape[1] * value.shape[-1]
    logits = query[..., 0].numel() * keys
    return {
        "attention": (query.numel() + out.numel()) * keys,
        "projection": out.numel() * channels,
        "softmax": logits,
        "bias": 0 if attn_mask is None else logits,
        "scaled_query": 0 if attn_mask is None else query.numel(),
        "scaled_logits": logits if attn_mask is None else 0,
    }


OPERATORS: Mapping[str, Callable[..., Elements]] = {
    "conv2d": _convolution,
    "linear": _linear,
    "matmul": _matrices,
    "scaled_dot_product_attention": _attention,
}


def multiply_accumulates(elements: Elements) -> int:
    """Ours: what `hrsearch.cost` counts, here by another counter."""
    return elements["product"] + elements["attention"]


def _half_attention(elements: Elements) -> float:
    return elements["product"] + elements["attention"] / 2 + 5 * elements["layer_norm"]


def _sums(elements: Elements) -> int:
    """Multiply-accumulates, norms, softmax and sums by HRFormer's tool, which takes dropout at rate 0 for a product.

    With a position bias the attention scales its queries and drops logits, without one it scales the logits.
    """
    logits = 5 * elements["softmax"] + 2 * elements["bias"] + elements["scaled_query"] + elements["scaled_logits"]
    others = elements["token_bias"] + 4 * elements["batch_norm"] + elements["add"] + elements["relu"]
    return multiply_accumulates(elements) + logits + others


def _sums_and_drops(elements: Elements) -> float:
    # The feed-forward of the classifiers has GELUs of 4, 4 and 1 times its channels, the last two of them dropped.
    return _sums(elements) + elements["gelu"] * 5 / 9


def _hooks(elements: Elements) -> int:
    convolutions = elements["convolution"] + elements["convolution_bias"]
    return convolutions + elements["linear"] + elements["relu"] + elements["interpolate"]


def _synchronised_hooks(elements: Elements) -> float:
    return _hooks(elements) - elements["projection"] + 2 * elements["layer_norm"]


CONVENTIONS: Mapping[str, Convention] = {
    "plain": Convention("multiply-accumulates, as here", multiply_accumulates),
    "binary": Convention("multiply-accumulates in units of 2^30", lambda n: multiply_accumulates(n) * 1e9 / 2**30),
    "half_attention": Convention(
        "half of the attention products, and 5 per element of a layer norm (inferred: it fits all of HRViT's figures)",
        _half_attention,
    ),
    "official_tool": Convention(
        "HRFormer's own tool: also 5 per element of a softmax, 4 of a batch norm, 1 of each sum, product, ReLU and "
        "bias of a linear layer",
        _sums,
    ),
    "official_tool_dropout": Convention(
        "the same with the feed-forward's dropouts of the classifiers, 1 per element",
        _sums_and_drops,
    ),
    "mmcv": Convention(
        "mmcv's hooks on modules: convolutions with bias, linear layers, 1 per element of a ReLU or upsampling, 2 of a "
        "batch norm",
        lambda n: _hooks(n) + 2 * n["batch_norm"],
    ),
    "mmcv_sync": Convention(
        "mmcv's hooks where batch norms are synchronised: neither these nor GELU, no product of attention and not its "
        "output projection, 2 per element of a layer norm",
        _synchronised_hooks,
    ),
}
