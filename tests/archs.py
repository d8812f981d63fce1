"""What the tests of networks are made of."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hrsearch.arch import Map, Part, Value
from hrsearch.registry import Registry


def part(registry: Registry, kind: str, **options: Value) -> Part:
    """A part with the defaults of its kind filled in."""
    return Part.of(kind, {**registry.options(kind), **options})


def pyramid(*channels: int, stride: int = 4) -> tuple[Map, ...]:
    """Maps of these channels, the stride of the first doubling from map to map."""
    return tuple(Map(width, stride * 2**index) for index, width in enumerate(channels))


def maps_of(described: tuple[Map, ...], image: tuple[int, int], batch: int = 2, device: str = "cpu") -> list[Tensor]:
    """Random maps in float64 as `described`, for an image of this height and width."""
    sizes = [(-(-image[0] // each.stride), -(-image[1] // each.stride)) for each in described]
    channels = [each.channels for each in described]
    return [
        torch.randn(batch, *shape, dtype=torch.float64, device=device)
        for shape in ((width, *size) for width, size in zip(channels, sizes, strict=True))
    ]


def randomised(module: nn.Module) -> nn.Module:
    """The module in float64 and eval mode, every weight and running statistic drawn at random (none is zero)."""
    module = module.double().eval()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            random = torch.rand(tensor.shape, dtype=torch.float64, generator=generator)
            tensor.copy_(0.5 + random if "running_var" in name else 0.4 * random - 0.15)
    return module


def params_of(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def flops_of(call: Callable[[], object]) -> int:
    """Multiply-accumulates of a call on meta tensors, by torch's own counter."""
    with FlopCounterMode(display=False) as counter:
        call()
    total: int = counter.get_total_flops()
    assert total % 2 == 0
    return total // 2
