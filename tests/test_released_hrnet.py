"""Released weights of HRNet and HRFormer: names, spellings, other windows and classes. Values: test_golden_hrnet.py."""

import zlib
from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from recipe import recipe_weights
from torch import Tensor

from hrsearch.arch import Arch
from hrsearch.build import Network, build
from hrsearch.errors import InputError
from hrsearch.nets.hrformer import relative_index
from hrsearch.released import load_released, released_names
from hrsearch.space import Space, load_arch

Weights = dict[str, Tensor]

HRFORMER = """
task: segment
net:
  blocks:
    local: {{kind: window, window: {window}, head_dim: 8, position: {position}}}
  stages:
    - {{link: {{kind: conv_stem, hidden: 64, bias: false}}, channels: 64, stride: 4}}
    - {{link: keep, channels: 256, depth: 1, block: bottleneck}}
    - {{link: hrformer, channels: [8, 16], depth: 1, block: local}}
    - {{link: hrformer, channels: [8, 16, 32], depth: 1, block: local, repeat: 2}}
    - {{link: hrformer, channels: {last}}}
  head: {head}
"""


def small(
    head: str = "{kind: ocr, width: 8}", window: int = 7, position: bool = True, last: str = "[8, 16, 32]"
) -> Arch:
    """A narrow HRFormer of three branches."""
    text = HRFORMER.format(head=head, window=window, position=str(position).lower(), last=last)
    return Space.parse(text).arch({})


POSE = small("pose", last="[8]")


def loaded(arch: Arch, weights: Weights, classes: int = 3, **options: bool) -> Network:
    """The network in float64 and eval mode with these weights."""
    network = build(arch, classes).double().eval()
    load_released(network, weights, "hrformer", **options)
    return network


@cache
def _file(arch: Arch) -> Weights:
    weights = recipe_weights(build(arch, 3), "hrformer")
    for name in [name for name in weights if name.endswith("bias_table")]:
        weights[name.replace("bias_table", "index")] = relative_index(7)
    return weights


def file_of(arch: Arch) -> Weights:
    """What the authors would have released for this network with windows of 7."""
    return dict(_file(arch))


def prediction(network: Network) -> Tensor:
    with torch.no_grad():
        image = torch.randn(1, 3, 60, 84, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        out: Tensor = network(image)
    return out


# Number of released tensors, and a checksum of their names and shapes: equal to the authors' lists, of which the ones
# of HRFormer have 38 buffers of positions besides.
@pytest.mark.parametrize(
    ("name", "count", "checksum"), [("hrformer_t", 1807, 2446775287), ("hrnet_w18", 1631, 1303862041)]
)
def test_names_and_shapes_are_the_authors(name: str, count: int, checksum: int) -> None:
    family = name.split("_")[0]
    with torch.device("meta"):
        network = build(load_arch(name, task="classify"))
    weights = {name: value for name, value in recipe_weights(network, family).items() if "num_batches" not in name}
    assert len(weights) == count
    listed = "\n".join(sorted(f"{name} {list(value.shape)}" for name, value in weights.items()))
    assert zlib.crc32(listed.encode()) == checksum


@pytest.mark.parametrize(
    ("name", "task", "keys"),
    [
        ("hrnet_w48_seg", "segment", ["last_layer.0.weight", "last_layer.1.running_var", "last_layer.3.bias"]),
        (
            "hrnet_w48_ocr",
            "segment",
            ["conv3x3_ocr.1.bias", "aux_head.1.weight", "aux_head.3.bias", "cls_head.weight"],
        ),
        ("hrnet_w32_pose", "pose", ["final_layer.bias", "stage4.2.fuse_layers.0.3.1.weight"]),
        (
            "hrformer_s",
            "segment",
            [
                "conv3x3.1.0.weight",
                "aux_head.2.bias",
                "ocr_distri_head.object_context_block.f_pixel.3.0.running_mean",
                "ocr_distri_head.object_context_block.f_object.2.weight",
                "ocr_distri_head.object_context_block.f_down.1.0.bias",
                "ocr_distri_head.object_context_block.f_up.0.weight",
                "ocr_distri_head.conv_bn_dropout.1.0.weight",
                "cls_head.bias",
                "stage3.3.branches.2.1.mlp.dw3x3.weight",
                "transition3.3.0.1.running_var",
            ],
        ),
    ],
)
def test_names_of_dense_networks(name: str, task: str, keys: list[str]) -> None:
    with torch.device("meta"):
        network = build(load_arch(name, task=task), 19)
    names = released_names(network, name.split("_")[0])
    assert set(keys) <= set(names.values())
    assert len(set(names.values())) == len(network.state_dict())


def fused(weights: Weights) -> Weights:
    """As mmpose writes it."""
    out = {f"backbone.{key}": value for key, value in weights.items() if not key.startswith("final_layer")}
    for key in [key for key in out if ".q_proj." in key]:
        three = [out.pop(key.replace(".q_proj.", f".{letter}_proj.")) for letter in "qkv"]
        out[key.replace(".q_proj.", ".qkv.")] = torch.cat(three)
    out = {key.replace(".out_proj.", ".proj.").replace(".mlp.", ".ffn."): value for key, value in out.items()}
    head = {f"head.{key}": value for key, value in weights.items() if key.startswith("final_layer")}
    return {"state_dict": {**out, **head}, "meta": {}}  # type: ignore[dict-item]


def test_every_spelling_is_the_same_network() -> None:
    weights = file_of(POSE)
    wanted = prediction(loaded(POSE, weights))
    spellings: list[Callable[[Weights], Weights]] = [
        fused,
        lambda weights: {"model": weights, "epoch": 3},  # type: ignore[dict-item]
        lambda weights: {f"module.{key}": value for key, value in weights.items()},
        lambda weights: {f"model.backbone.{key}": value for key, value in weights.items()},
        lambda weights: {**weights, "loss.criterion.weight": torch.ones(3)},
        lambda weights: {key: value for key, value in weights.items() if "num_batches" not in key},
        lambda weights: {
            key.replace("final_layer", "keypoint_head.final_layer"): value for key, value in weights.items()
        },
    ]
    for spelling in spellings:
        assert torch.equal(prediction(loaded(POSE, spelling(weights))), wanted)


def test_a_network_without_position_bias_leaves_the_tables() -> None:
    with_bias, without = loaded(POSE, file_of(POSE)), loaded(small("pose", position=False, last="[8]"), file_of(POSE))
    assert not any("table" in key for key in without.state_dict())
    assert not torch.allclose(prediction(with_bias), prediction(without))


@pytest.mark.parametrize("window", [4, 9])
def test_tables_follow_the_window(window: int) -> None:
    weights = file_of(POSE)
    key = "stage3.1.branches.2.0.attn.attn.relative_position_bias_table"
    network = loaded(small("pose", window=window, last="[8]"), weights)
    got = network.state_dict()["stages.4.branches.2.0.attention.position.table"]
    image = weights[key].t().reshape(1, 4, 13, 13)
    wanted = F.interpolate(image, (2 * window - 1, 2 * window - 1), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got, wanted.reshape(4, -1).t())


def test_another_number_of_classes_leaves_the_last_layers() -> None:
    arch = small()
    with pytest.raises(
        InputError, match=r"aux_head\.2\.weight has shape \[3, 8, 1, 1\], the network needs \[5, 8, 1, 1\]"
    ):
        loaded(arch, file_of(arch), classes=5)
    network = build(arch, 5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    load_released(network, file_of(arch), "hrformer", new_classes=True)
    kept = {key for key, value in network.state_dict().items() if torch.equal(value, before[key])}
    assert {key for key in kept if "num_batches" not in key} == {
        f"head.{name}.{what}" for name in ("classifier", "aux_classifier") for what in ("weight", "bias")
    }


@pytest.mark.parametrize("head", ["pose", "segformer"])
def test_a_head_of_another_kind_keeps_its_weights(head: str) -> None:
    network = build(small(head), 3)
    before = {key: value.clone() for key, value in network.head.state_dict().items()}
    load_released(network, file_of(small()), "hrformer")
    assert all(torch.equal(value, before[key]) for key, value in network.head.state_dict().items())
    stem = "stages.0.link.paths.0_0.0.weight"
    torch.testing.assert_close(network.state_dict()[stem], file_of(small())["conv1.weight"].float())


def test_a_head_of_the_same_kind_wants_its_weights() -> None:
    head = ("aux_head", "conv3x3", "ocr_distri_head", "cls_head")
    weights = {key: value for key, value in file_of(small()).items() if not key.startswith(head)}
    with pytest.raises(InputError, match=r"missing aux_head\.0\.weight"):
        loaded(small(), weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bn1.bias": None}, "missing bn1.bias [64]"),
        ({"bn1.bias": torch.zeros(3)}, "bn1.bias has shape [3], the network needs [64]"),
        ({"stage5.0.weight": torch.zeros(3, 2)}, "unexpected stage5.0.weight [3, 2]"),
        (
            {"stage2.0.branches.0.0.attn.attn.relative_position_index": relative_index(7).t()},
            "stage2.0.branches.0.0.attn.attn.relative_position_index [49, 49] is not the index",
        ),
        (
            {"stage2.0.branches.1.0.attn.attn.relative_position_bias_table": torch.zeros(169, 4)},
            "relative_position_bias_table has shape [169, 4], the network needs [169, 2]",
        ),
        (
            {"stage2.0.branches.0.0.attn.attn.k_proj.bias": None},
            "missing stage2.0.branches.0.0.attn.attn.qkv.bias [24]",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(change: dict[str, Tensor | None], message: str) -> None:
    weights = {**file_of(POSE), **change}
    network = build(POSE, 3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_released(network, {key: value for key, value in weights.items() if value is not None}, "hrformer")
    assert message in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_network_of_another_family_and_a_file_of_no_tensors_are_told() -> None:
    with pytest.raises(InputError, match=r"hrnet networks have nothing like stages\.2\.branches\.0\.0\.attention_norm"):
        load_released(build(POSE, 3), file_of(POSE), "hrnet")
    with pytest.raises(InputError, match="expected a mapping of names to tensors"):
        load_released(build(POSE, 3), {"epoch": 3}, "hrformer")
