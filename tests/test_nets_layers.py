"""Batch norms folded into convolutions: the same numbers, names and gradients as layer by layer."""

import pytest
import torch
from archs import randomised
from torch import Tensor, nn

from hrsearch.nets.layers import Layers

CONVOLUTIONS = [
    lambda: nn.Conv2d(6, 8, 1),
    lambda: nn.Conv2d(6, 6, 3, 2, 1, groups=6, bias=False),
    lambda: nn.Conv2d(6, 8, 3, padding=2, dilation=2),
]


def rows_of(construct: object) -> tuple[Layers, nn.Sequential]:
    """The same layers with the same weights, ours and torch's: a norm without convolution, then one behind each."""
    assert callable(construct)
    first = construct()
    width = first.out_channels
    layers = [nn.BatchNorm2d(6), first, nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 4, 1), nn.BatchNorm2d(4)]
    plain = nn.Sequential(*layers)
    randomised(plain)
    return Layers(*layers).eval(), plain


def image() -> Tensor:
    return torch.randn(2, 6, 121, 113, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("construct", CONVOLUTIONS)
def test_eval_mode_folds_without_a_trace(construct: object) -> None:
    ours, plain = rows_of(construct)
    called: list[nn.Module] = []
    for norm in (plain[0], plain[2], plain[5]):
        norm.register_forward_hook(lambda module, given, out: called.append(module))
    got = ours(image())
    assert called == [plain[0]]  # nothing stands before it
    torch.testing.assert_close(got, plain(image()), rtol=1e-12, atol=1e-12)
    assert list(ours.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("construct", CONVOLUTIONS)
def test_frozen_norms_leave_the_gradients_as_they_are(construct: object) -> None:
    ours, plain = rows_of(construct)
    gradients = []
    for layers in (ours, plain):
        layers.zero_grad()
        layers(image()).square().sum().backward()
        gradients.append([each.grad for each in layers.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_training_mode_normalises_by_the_batch() -> None:
    ours, plain = rows_of(CONVOLUTIONS[0])
    before = plain[2].running_mean.clone()  # type: ignore[operator]
    out = ours.train()(image())
    torch.testing.assert_close(out.mean((0, 2, 3)), plain[5].bias)
    assert not torch.equal(before, plain[2].running_mean)  # type: ignore[arg-type]


def test_an_exported_graph_keeps_its_norms() -> None:
    ours, plain = rows_of(CONVOLUTIONS[0])
    exported = torch.export.export(ours, (image(),))
    assert sum("batch_norm" in str(node.target) for node in exported.graph.nodes) == 3
    torch.testing.assert_close(exported.module()(image()), plain(image()), rtol=1e-12, atol=1e-12)
