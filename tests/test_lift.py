"""HIRI-ViT's lift of the other families to five stages, and a fifth branch instead: both by rows alone."""

import pytest
import torch
from archs import flops_of

from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.cost import cost
from hrsearch.space import Space

BLOCKS = {"hrnet": "basic", "hrformer": "window", "hrvit": "cross"}
ROWS = """
task: segment
knobs:
  stages:   [4, 5]
  branches: [4, 5]
net:
  stages:
    - {when: $stages == 4, link: conv_stem, channels: 16, stride: 4}
    - {when: $stages == 5, link: hr_stem, channels: 16, stride: 4, depth: 2, block: hr}
    - {when: $stages == 5, link: irds, channels: 16, stride: 8}
    - {link: FAMILY, channels: [16, 32], depth: 1, block: BLOCK}
    - {link: FAMILY, channels: [16, 32, 64], depth: 1, block: BLOCK}
    - {link: FAMILY, channels: [16, 32, 64, 96], depth: 1, block: BLOCK, repeat: 2}
    - {when: $branches == 5, link: FAMILY, channels: [16, 32, 64, 96, 128], depth: 1, block: BLOCK}
  head: {kind: segformer, width: 32}
"""


def network(family: str, stages: int, branches: int) -> Arch:
    """A small network of the family."""
    text = ROWS.replace("FAMILY", family).replace("BLOCK", BLOCKS[family])
    return Space.parse(text).arch({"stages": stages, "branches": branches})


@pytest.mark.parametrize("family", BLOCKS)
def test_the_lift_leaves_the_familys_own_rows_as_they_were_at_half_the_resolution(family: str) -> None:
    plain, lifted = network(family, 4, 4), network(family, 5, 4)
    assert [each.stride for each in lifted.maps] == [8, 16, 32, 64]
    before = shared(plain, (96, 160))
    assert before == shared(lifted, (192, 320))
    assert len(before) == len(plain.stages) - 1


def shared(arch: Arch, image: tuple[int, int]) -> list[int]:
    """FLOPs of each stage with more than one branch."""
    counted = cost(arch, image, 5).flops_by_part
    rows = [index for index, stage in enumerate(arch.stages) if len(stage.branches) > 1]
    return [sum(flops for part, flops in counted.items() if part.startswith(f"stages.{row}.")) for row in rows]


@pytest.mark.parametrize("stages", [4, 5])
@pytest.mark.parametrize("family", BLOCKS)
def test_five_branches_build_run_and_count(family: str, stages: int) -> None:
    arch = network(family, stages, 5)
    finest = 4 if stages == 4 else 8
    assert [each.stride for each in arch.maps] == [finest * 2**index for index in range(5)]
    built = build(arch, classes=5).eval()
    assert built(torch.randn(1, 3, 70, 90)).shape == (1, 5, -(-70 // finest), -(-90 // finest))
    with torch.device("meta"):
        hollow, image = build(arch, classes=5).eval(), torch.empty(1, 3, 70, 90)
    assert cost(arch, (70, 90), 5).flops == flops_of(lambda: hollow(image))
