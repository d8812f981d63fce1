"""Released weights: all keys or none, and errors that name what does not fit. Values are held by test_golden.py."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hrsearch.build import Network, build
from hrsearch.errors import InputError
from hrsearch.released import load_released, released_names
from hrsearch.space import load_arch

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> Network:
    return build(load_arch("hrvit_b1", task="classify"))


@pytest.fixture
def weights(network: Network) -> Weights:
    """A file of the authors' for that network: other values, their names."""
    ours = network.state_dict()
    return {name: torch.full_like(ours[key], 1) for key, name in released_names(network, "hrvit").items()}


# One of every kind, from the authors' list.
@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("stem.conv1.weight", (32, 3, 3, 3)),
        ("stem.bn2.running_var", (64,)),
        ("features.1.patch_embed.0.proj.1.weight", (32, 1, 3, 3)),
        ("features.1.patch_embed.0.norm.bias", (32,)),
        ("features.1.branches.0.0.attn_norm.weight", (32,)),
        ("features.1.branches.0.0.attn.to_qkv.weight", (64, 32)),
        ("features.1.branches.0.0.attn.to_out.0.bias", (32,)),
        ("features.1.branches.0.0.attn.attn_bn.num_batches_tracked", ()),
        ("features.1.branches.0.0.attn.parallel_conv.1.weight", (32, 1, 3, 3)),
        ("features.1.branches.0.0.des.proj_right.weight", (8, 8)),
        ("features.1.branches.0.0.des.proj_left.weight", (4, 4)),
        ("features.1.branches.0.0.ffn.conv.conv_5.weight", (64, 1, 5, 5)),
        ("features.2.blocks.1.0.2.weight", (64, 32, 1, 1)),
        ("features.10.blocks.0.3.0.weight", (32, 256, 1, 1)),
        ("features.11.branches.3.1.ffn.fc2.bias", (256,)),
        ("features.11.norm.3.weight", (256,)),
        ("head.incre_modules.3.0.downsample.0.weight", (1024, 256, 1, 1)),
        ("head.incre_modules.0.0.bn3.weight", (128,)),
        ("head.downsamp_modules.2.0.weight", (1024, 512, 3, 3)),
        ("head.final_layer.1.running_mean", (2048,)),
        ("head.classifier.weight", (1000, 2048)),
    ],
)
def test_names_are_the_authors(weights: Weights, key: str, shape: tuple[int, ...]) -> None:
    assert weights[key].shape == shape


def test_there_are_as_many_names_as_in_the_release(weights: Weights) -> None:
    assert len(weights) == 1559
    assert sum(not key.startswith("head.") for key in weights) == 1433


@pytest.mark.parametrize("backbone_only", [True, False])
def test_a_head_of_another_kind_keeps_its_weights(weights: Weights, backbone_only: bool) -> None:
    segmenter = build(load_arch("hrvit_b1", task="segment"), classes=3)
    before = segmenter.head.state_dict()["classifier.weight"].clone()
    given = {key: value for key, value in weights.items() if not (backbone_only and key.startswith("head."))}
    load_released(segmenter, given, "hrvit")
    assert torch.equal(segmenter.head.state_dict()["classifier.weight"], before)
    assert all(value.eq(1).all() for value in segmenter.stages.state_dict().values())


def without(key: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value for name, value in weights.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("stem.conv2.bias"), "missing stem.conv2.bias [64]"),
        (lambda weights: {**weights, "extra.weight": torch.zeros(3, 2)}, "unexpected extra.weight [3, 2]"),
        (
            lambda weights: {**weights, "features.1.norm.0.bias": torch.zeros(48)},
            "features.1.norm.0.bias has shape [48], the network needs [32]",
        ),
        (lambda weights: {}, "; and 1446 more"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(
    network: Network, weights: Weights, change: Callable[[Weights], Weights], message: str
) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_released(network, change(weights), "hrvit")
    assert message in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_classifier_wants_its_weights(network: Network, weights: Weights) -> None:
    backbone = {key: value for key, value in weights.items() if not key.startswith("head.")}
    with pytest.raises(InputError, match=r"missing head\."):
        load_released(network, backbone, "hrvit")


def test_an_unknown_family_is_told(network: Network) -> None:
    with pytest.raises(InputError, match="family 'hrvitt' does not exist; did you mean 'hrvit'"):
        load_released(network, {}, "hrvitt")
