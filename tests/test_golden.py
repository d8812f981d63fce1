"""Our networks compute what the authors' released ones do: parameters, FLOPs and outputs, to rounding.

tests/golden/*.json holds figures of the released networks with weights made by the recipe that stands in it.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from archs import flops_of, params_of
from recipe import piece_flops, recipe_image, recipe_weights, require_equal
from torch import nn

from hrsearch.build import Network, build, pieces
from hrsearch.released import load_released
from hrsearch.space import load_arch

HRVIT = json.loads((Path(__file__).parent / "golden" / "hrvit.json").read_text())["networks"]
OUTPUTS = [(name, size) for name, golden in HRVIT.items() for size in golden["outputs"]]


@cache
def released(name: str) -> Network:
    """The network with the recipe's weights, in float64 and eval mode."""
    network = build(load_arch(name, task="classify")).double().eval()
    load_released(network, recipe_weights(network, "hrvit"), "hrvit")
    return network


@cache
def hollow(name: str) -> Network:
    """The network on the meta device, for counting."""
    with torch.device("meta"):
        return build(load_arch(name, task="classify")).eval()


def hrvit_parts(network: Network) -> dict[str, list[nn.Module]]:
    """Modules by the golden names: `fusionM` is the fusion alone, `stageM` the embeddings, blocks and norms."""
    stem, *stages = network.stages
    parts: dict[str, list[nn.Module]] = {"stem": [stem], "head": [network.head]}
    for index, stage in enumerate(stages):
        link = stage.get_submodule("link")
        parts[f"fusion{index}"] = [link.get_submodule("paths")]
        parts[f"stage{index}"] = [link.get_submodule("after"), stage.get_submodule("branches")]
    return parts


@pytest.mark.parametrize(("name", "size"), OUTPUTS)
def test_outputs(name: str, size: str) -> None:
    network = released(name)
    with torch.no_grad():
        maps = network.pyramid(recipe_image(size))
        logits = network.head(maps)
    golden = HRVIT[name]["outputs"][size]
    for got, wanted in zip([*maps, logits], [*golden["features"], golden["logits"]], strict=True):
        require_equal(got, wanted)


@pytest.mark.parametrize("name", HRVIT)
def test_parameters_of_every_part(name: str) -> None:
    network, golden = hollow(name), HRVIT[name]
    counted = {part: sum(map(params_of, modules)) for part, modules in hrvit_parts(network).items()}
    assert counted == golden["params_by_part"]
    assert params_of(network) == golden["params"]
    assert params_of(network.stages) == golden["params_backbone"]


@pytest.mark.parametrize("name", HRVIT)
def test_flops_of_the_whole(name: str) -> None:
    image = torch.empty(1, 3, 224, 224, device="meta")
    assert flops_of(lambda: hollow(name)(image)) == HRVIT[name]["flops_224"]


@pytest.mark.parametrize("name", HRVIT)
def test_flops_of_every_part(name: str) -> None:
    counted = dict.fromkeys(hrvit_parts(hollow(name)), 0)
    for piece in pieces(hollow(name), (224, 224)):
        counted[part_of(piece.name)] += piece_flops(piece)
        assert piece.module is hollow(name).get_submodule(piece.name)
    assert counted == HRVIT[name]["flops_224_by_part"]


@pytest.mark.parametrize("side", [224, 512, 1024])
@pytest.mark.parametrize("name", HRVIT)
def test_flops_of_the_backbone(name: str, side: int) -> None:
    backbone = (piece for piece in pieces(hollow(name), (side, side)) if part_of(piece.name) != "head")
    assert sum(map(piece_flops, backbone)) == HRVIT[name][f"flops_{side}_backbone"]


def part_of(name: str) -> str:
    """The golden name of the part that a piece belongs to."""
    if not name.startswith("stages."):
        return "head"
    stage = int(name.split(".")[1])
    if stage == 0:
        return "stem"
    return f"fusion{stage - 1}" if "paths" in name else f"stage{stage - 1}"


# Published with the segment head on ADE20K (150 classes); FLOPs at 512 x 512 in full, as the files' comments say.
@pytest.mark.parametrize(
    ("name", "params_m", "flops_g"),
    [("hrvit_b1", 8.183, 15.761), ("hrvit_b2", 20.810, 30.138), ("hrvit_b3", 28.724, 70.449)],
)
def test_segmentation_networks(name: str, params_m: float, flops_g: float) -> None:
    with torch.device("meta"):
        network = build(load_arch(name, task="segment"), classes=150).eval()
    assert round(params_of(network) / 1e6, 3) == params_m
    assert round(sum(map(piece_flops, pieces(network, (512, 512)))) / 1e9, 3) == flops_g


def test_the_largest_classifier() -> None:
    with torch.device("meta"):
        network = build(load_arch("hrvit_b3", task="classify")).eval()
    assert round(params_of(network) / 1e6, 3) == 37.870
    assert round(sum(map(piece_flops, pieces(network, (224, 224)))) / 1e9, 3) == 5.900
