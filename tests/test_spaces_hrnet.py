"""The shipped spaces of HRNet and HRFormer: large, nearly all draws valid, counted as they are built."""

import math

import pytest
import torch
from archs import flops_of, params_of

from hrsearch.build import build
from hrsearch.cost import cost
from hrsearch.space import Space, load_arch, load_space
from hrsearch.survey import survey

SPACES = {"hrnet": "hrnet_t_seg", "hrformer": "hrformer_t"}


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_large_and_its_draws_are_valid(name: str) -> None:
    space = load_space(name)
    outcome = survey(space, lambda arch: cost(arch, (32, 32), 2), draws=40)
    # Knobs that one of the two stage counts does not read make fewer networks than settings.
    unread = math.prod(len(space.knobs[knob].values) for knob in ("first", "depth0"))
    assert outcome.settings / 2 / unread * (1 + unread) >= 1e9
    assert outcome.refusals.total() <= 0.05 * outcome.draws
    assert len(outcome.costs) >= 0.95 * outcome.draws


@pytest.mark.parametrize("name", SPACES)
def test_drawn_networks_are_counted_as_they_are_built(name: str) -> None:
    space = load_space(name)
    drawn = {arch.maps[0].stride: arch for _, arch in map(space.sample, range(10))}
    assert set(drawn) == {4, 8}
    for arch in drawn.values():
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
    assert params_of(network) < 100_000
    assert network(torch.randn(1, 3, 45, 77)).shape == (1, 5, 12, 20)


@pytest.mark.parametrize(("name", "known"), SPACES.items())
def test_a_space_knows_its_published_network(name: str, known: str) -> None:
    space = load_space(name)
    assert space.known == ((known, load_arch(known, task="segment")),)


def test_a_fifth_branch_needs_no_python() -> None:
    text = load_space("hrformer").text.replace(
        "    - {link: hrformer, channels: [$width1, $width2, $width3, $width4]}\n",
        "    - {link: hrformer, channels: [16, 32, 64, 128, 256], depth: 1, block: fourth}\n"
        "    - {link: hrformer, channels: [16, 32, 64, 128, 256]}\n",
    )
    setting, arch = Space.parse(text).sample(3)
    assert [each.stride // arch.maps[0].stride for each in arch.maps] == [1, 2, 4, 8, 16]
    assert build(arch, classes=5).eval()(torch.randn(1, 3, 64, 96)).shape[:2] == (1, 5)
    assert setting["stages"] in (4, 5)
