"""Layers one after the other, and batch norms folded into what stands before them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layers(nn.Sequential):
    """Layers one after the other: (B, C, H, W) -> (B, C', H', W').

    As `nn.Sequential`, but where a batch norm only scales (eval mode) it is folded into the convolution before it: that
    saves a pass over the map; such norms take 10 % of HRFormer-T at 512 x 512 on the CPU. Names and values stay.
    """

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            if layers and isinstance(layer, nn.Conv2d) and folds(layer.weight, layers[0], x):
                weight, bias = folded(layer.weight, layer.bias, layers.pop(0))
                x = convolved(layer, weight, bias, x)
            elif isinstance(layer, nn.Conv2d):
                x = convolved(layer, layer.weight, layer.bias, x)
            else:
                x = layer(x)
        return x


def convolved(layer: nn.Conv2d, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """What a convolution makes of `x` with another weight and bias.

    A 1 x 1 convolution of one image on one thread is a product of matrices in PyTorch, which takes up to 1.6 times as
    long as oneDNN's convolution (256 to 64 channels at 128 x 128; HRFormer-T as a whole 1.06 times). A dilated one goes
    to oneDNN, and dilation means nothing to a single pixel.
    """
    if layer.kernel_size == (1, 1) and not recorded() and _suits_onednn(x):
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, 2, layer.groups)
    out: Tensor = layer._conv_forward(x, weight, bias)
    return out


def _suits_onednn(x: Tensor) -> bool:
    return x.is_cpu and x.dtype == torch.float32 and x.numel() >= 1 << 19 and torch._C._has_mkldnn


def folds(weight: Tensor, norm: nn.Module, x: Tensor) -> bool:
    """Whether the batch norm behind a layer of this weight is to be folded into it, the layer being given `x`.

    Only on the CPU, and only where a pass over the map costs more than the arithmetic on the weights: on small maps
    both take some 40 microseconds.
    """
    scales = isinstance(norm, nn.BatchNorm2d) and not norm.training
    return scales and x.is_cpu and not recorded() and x.numel() > max(weight.numel(), 1 << 15)


def folded(weight: Tensor, bias: Tensor | None, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight (C', ...) and bias (C',) that do what these do with the batch norm behind them."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    mean = norm.running_mean if bias is None else norm.running_mean - bias
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), torch.addcmul(norm.bias, scale, mean, value=-1)


def recorded() -> bool:
    """Whether a graph is being exported, compiled or traced: it keeps the formulas, what runs it has its own tricks."""
    return torch.compiler.is_compiling() or bool(torch._C._is_tracing())
