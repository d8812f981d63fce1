"""The spaces of HIRI-ViT and of mixed branches: large, nearly all draws valid, counted as they are built."""

import math
import random
import re

import pytest
import torch
import yaml
from archs import flops_of, params_of

from hrsearch.arch import Arch, Value
from hrsearch.build import build
from hrsearch.cost import cost
from hrsearch.objective import Cost
from hrsearch.space import Knob, load_arch, load_space
from hrsearch.survey import survey

SPACES = {"hirivit": ["hirivit_s"], "mixed": ["hrvit_b1", "hrnet_t_seg"]}
ORDER = ["hr", "cffn", "transformer"]
PUBLISHED = """
{stages: 5, stem: hr_stem, hidden: 32, two_branch: 2, attention: 2, head_dim: 32, reduction4: 1, norm: batch,
width1: 32, width2: 64, width3: 128, width4: 320, width5: 512, depth1: 2, depth2: 2, depth3: 4, depth4: 9, depth5: 4,
decoder: 256, ratio1: 4, ratio2: 6, ratio3: 6, ratio4: 4, ratio5: 4, early: a, late: b, expansion: 6, shortcut: pool}
"""


def without_cost(arch: Arch) -> Cost:
    """A network that can be built costs nothing here: counting 60 of them would take half a minute."""
    with torch.device("meta"):
        params = params_of(build(arch, classes=2))
    return Cost(params=params, flops=0, params_by_part={}, flops_by_part={})


@pytest.mark.long
@pytest.mark.parametrize("name", SPACES)
def test_what_requirements_do_not_refuse_can_be_built(name: str) -> None:
    outcome = survey(load_space(name), without_cost, draws=30)
    assert set(outcome.refusals) <= {"require: $width1 <= $width2"}
    assert len(outcome.costs) == outcome.draws - outcome.refusals.total()  # all are distinct


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_large_and_its_draws_are_valid(name: str) -> None:
    """Its networks are estimated from the knobs that each draw reads: the mean of 1 / the probability of the draw."""
    space, generator = load_space(name), random.Random(0)
    draws = [space.draw(lambda knob: generator.choice(knob.values)) for _ in range(500)]
    assert sum(draw.arch is None for draw in draws) <= 0.05 * len(draws)
    networks = [math.prod(len(space.knobs[knob].values) for knob in draw.setting) for draw in draws]
    assert sum(networks) / len(networks) >= 1e9


@pytest.mark.parametrize("name", SPACES)
def test_drawn_networks_are_counted_as_they_are_built(name: str) -> None:
    space = load_space(name)
    arches = [space.sample(seed)[1] for seed in (0, 1)]
    assert {arch.maps[0].stride for arch in arches} == {4, 8}
    for arch in arches:
        counted = cost(arch, (100, 130), 11)
        with torch.device("meta"):
            network = build(arch, classes=11).eval()
            image = torch.empty(1, 3, 100, 130)
        assert counted.params == params_of(network)
        assert counted.flops == flops_of(lambda network=network, image=image: network(image))  # type: ignore[misc]


@pytest.mark.parametrize("name", SPACES)
def test_the_smallest_network_is_small_and_predicts(name: str) -> None:
    arch = load_space(name).draw(lambda knob: knob.values[0]).arch
    assert arch is not None
    network = build(arch, classes=5).eval()
    assert params_of(network) < 600_000
    assert network(torch.randn(1, 3, 45, 77)).shape == (1, 5, 12, 20)


@pytest.mark.parametrize(("name", "known"), SPACES.items())
def test_a_space_knows_its_published_networks(name: str, known: list[str]) -> None:
    assert load_space(name).known == tuple((each, load_arch(each, task="segment")) for each in known)


def test_stages_go_from_two_branches_over_feed_forwards_to_attention() -> None:
    space, seen = load_space("hirivit"), set()
    for seed in range(60):
        arch = space.sample(seed)[1]
        kinds = [branch.block.kind for stage in arch.stages for branch in stage.branches if branch.block]
        assert [ORDER.index(kind) for kind in kinds] == sorted(ORDER.index(kind) for kind in kinds)
        assert kinds[-1] == "transformer"
        assert len(arch.maps) == 4
        seen.add(tuple(kinds))
    assert {("hr", "hr", "cffn", "transformer", "transformer"), ("cffn", "cffn", "transformer", "transformer")} <= seen


def test_hirivit_s_is_in_its_space() -> None:
    setting = yaml.safe_load(PUBLISHED)
    drawn, published = load_space("hirivit").arch(setting), load_arch("hirivit_s", task="classify")
    shapes = []
    for arch in (drawn, published):
        with torch.device("meta"):
            shapes.append([each.shape for each in build(arch).stages.parameters()])
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("kind", ["convolution", "two_branch", "window", "cross", "global"])
def test_every_branch_may_have_every_kind_of_block(kind: str) -> None:
    space = load_space("mixed")

    def choose(knob: Knob) -> Value:
        """The kind for every branch; the largest of all else."""
        alike = [value for value in knob.values if re.fullmatch(rf"{kind}\d?", str(value))]
        assert alike or not knob.name.startswith("kind")
        return [*knob.values, *alike][-1]

    arch = space.draw(choose).arch
    assert arch is not None
    assert len({each.block.kind for stage in arch.stages[2:] for each in stage.branches if each.block}) == 1
    with torch.device("meta"):
        build(arch, classes=2)
