"""HRNet and HRFormer compute what the authors' released networks do: parameters, FLOPs and outputs, to rounding."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from archs import flops_of, params_of
from recipe import piece_flops, recipe_image, recipe_weights, require_equal

from hrsearch.build import Network, build, pieces
from hrsearch.cost import cost
from hrsearch.nets.hrformer import WindowAttention
from hrsearch.registry import HEADS
from hrsearch.released import load_released, released_names
from hrsearch.space import load_arch

GOLDEN: dict[str, dict[str, Any]] = {
    name: golden
    for family in ("hrformer", "hrnet")
    for name, golden in json.loads((Path(__file__).parent / "golden" / f"{family}.json").read_text())[
        "networks"
    ].items()
}
OUTPUTS = [(name, size) for name, golden in GOLDEN.items() for size in golden["outputs"]]
SIZES = [
    (name, (int(height), int(width)))
    for name in GOLDEN
    for height, width in ([(224, 224), (512, 512), (256, 192)] if "hrformer" in name else [(224, 224), (512, 512)])
]

# What begins the released names of the parts of golden.json.
PARTS = {
    **dict.fromkeys(("conv1", "bn1", "conv2", "bn2"), "stem"),
    **{"incre_modules": "head.incre", "downsamp_modules": "head.downsamp"},
    **{"final_layer": "head.final", "classifier": "head.classifier"},
}


def family_of(name: str) -> str:
    return name.split("_")[0]


@cache
def released(name: str) -> Network:
    """The network with the recipe's weights, in float64 and eval mode."""
    network = build(load_arch(name, task="classify")).double().eval()
    load_released(network, recipe_weights(network, family_of(name)), family_of(name))
    return network


@cache
def hollow(name: str, task: str = "classify", classes: int = 1000) -> Network:
    """The network on the meta device, for counting."""
    with torch.device("meta"):
        return build(load_arch(name, task=task), classes).eval()


@pytest.mark.parametrize(("name", "size"), OUTPUTS)
def test_outputs(name: str, size: str) -> None:
    network, golden = released(name), GOLDEN[name]["outputs"][size]
    with torch.no_grad():
        maps = network.pyramid(recipe_image(size))
        logits = network.head(maps)
    for got, wanted in zip([*maps, logits], [*golden["features"], golden["logits"]], strict=True):
        require_equal(got, wanted)


@pytest.mark.parametrize("name", GOLDEN)
def test_parameters_of_every_part(name: str) -> None:
    network, golden = hollow(name), GOLDEN[name]
    names, counted = released_names(network, family_of(name)), Counter[str]()
    for key, parameter in network.named_parameters():
        begin = names[key].split(".")[0]
        counted[PARTS.get(begin, begin)] += parameter.numel()
    assert counted == golden["params_by_part"]
    assert params_of(network) == golden["params"]
    assert params_of(network.stages) == golden["params_backbone"]


@pytest.mark.parametrize(("name", "image"), SIZES)
def test_flops(name: str, image: tuple[int, int]) -> None:
    """By the command's counter, part by part; the largest sizes trace some seconds."""
    counted = cost(load_arch(name, task="classify"), image)
    backbone = sum(flops for part, flops in counted.flops_by_part.items() if part.startswith("stages."))
    size = f"{image[0]}" if image[0] == image[1] else f"{image[0]}x{image[1]}"
    assert backbone == GOLDEN[name][f"flops_{size}_backbone"]
    if image == (224, 224):
        assert counted.flops == GOLDEN[name]["flops_224"]
        assert counted.params == GOLDEN[name]["params"]


@pytest.mark.parametrize("name", GOLDEN)
def test_flops_by_another_counter(name: str) -> None:
    image = torch.empty(1, 3, 224, 224, device="meta")
    assert flops_of(lambda: hollow(name)(image)) == GOLDEN[name]["flops_224"]


@pytest.mark.parametrize("name", ["hrformer_t", "hrformer_s"])
def test_pose_networks(name: str) -> None:
    """The golden count holds the position biases, which the authors' forward leaves out and mmpose's has."""
    network, golden = hollow(f"{name}_pose", "pose", 17), GOLDEN[name]["pose"]
    unused = sum(13**2 * module.heads for module in network.modules() if isinstance(module, WindowAttention))
    assert params_of(network) + unused == golden["params"]
    assert total_flops(network, (256, 192)) == golden["flops_256x192"]
    assert network.channels == (18 if name == "hrformer_t" else 32,)


def total_flops(network: Network, image: tuple[int, int]) -> int:
    return sum(map(piece_flops, pieces(network, image)))


# Classifiers of 1000 classes at 224 x 224. The authors' tools count otherwise: see the comments of the files.
@pytest.mark.parametrize(
    ("name", "params", "backbone", "flops"),
    [
        ("hrnet_w18_small", 13_187_464, 1_477_920, 1_601_508_352),
        ("hrnet_t", 15_597_464, 3_860_720, 2_595_712_864),
        ("hrnet_w32", 41_232_680, 29_305_536, 8_921_133_056),
        ("hrnet_w48", 77_469_864, 65_325_120, 17_277_996_032),
        ("hrnet_s", 24_469_416, 12_542_272, 4_924_514_304),
        ("hrnet_b", 85_291_352, 72_738_608, 20_147_813_920),
        ("hrformer_b", 50_320_098, 44_040_666, 13_308_176_164),
    ],
)
def test_classifiers(name: str, params: int, backbone: int, flops: int) -> None:
    network = hollow(name)
    assert (params_of(network), params_of(network.stages)) == (params, backbone)
    assert total_flops(network, (224, 224)) == flops


# Segmentation with 19 classes at 1024 x 2048, poses with 17 keypoints at 256 x 192.
@pytest.mark.parametrize(
    ("name", "task", "params", "flops"),
    [
        ("hrnet_w48_seg", "segment", 65_859_379, 747_513_053_184),
        ("hrnet_t_seg", "segment", 3_939_579, 76_856_885_248),
        ("hrnet_w48_ocr", "segment", 70_372_678, 1_297_879_072_768),
        ("hrformer_s", "segment", 13_523_856, 826_995_662_848),
        ("hrformer_b_w15", "segment", 56_196_480, 2_197_623_172_560),
        ("hrnet_w32_pose", "pose", 28_536_113, 7_645_003_776),
        ("hrnet_w48_pose", "pose", 63_595_745, 15_691_825_152),
        ("hrformer_b_pose", "pose", 43_170_541, 13_906_995_600),
    ],
)
def test_dense_networks(name: str, task: str, params: int, flops: int) -> None:
    segment = task == "segment"
    network = hollow(name, task, 19 if segment else 17)
    assert params_of(network) == params
    assert total_flops(network, (1024, 2048) if segment else (256, 192)) == flops


# The decoder with HRViT's maps, without and with its auxiliary head; ADE20K has 150 classes.
@pytest.mark.parametrize(
    ("name", "decoder", "auxiliary"),
    [
        ("hrvit_b1", 27_860_118, 333_974),
        ("hrvit_b2", 28_794_006, 592_022),
        ("hrvit_b3", 29_678_742, 628_886),
    ],
)
def test_uper(name: str, decoder: int, auxiliary: int) -> None:
    maps = load_arch(name, task="classify").maps
    with torch.device("meta"):
        assert params_of(HEADS["uper"](maps, 150, auxiliary=False)) == decoder
        assert params_of(HEADS["uper"](maps, 150)) == decoder + auxiliary
