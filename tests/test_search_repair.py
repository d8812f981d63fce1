"""Draws that break a limit on what is counted, made to keep it."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_search import SPACE, cost_of, search, states_of

from hrsearch.objective import parse_limit
from hrsearch.search.promise import Counting
from hrsearch.search.proposals import How, propose
from hrsearch.search.repair import repaired
from hrsearch.space import Draw, Space

TOY = Space.parse(SPACE)


def drawn(seed: int) -> Draw:
    generator = random.Random(seed)
    return TOY.draw(lambda knob: generator.choice(knob.values))


@given(st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_it_keeps_limits_and_requirements_and_which_knobs_there_are(seed: int) -> None:
    counting = Counting(cost_of, (parse_limit("flops<=0.15G"), parse_limit("params<=140k")))
    draw = drawn(seed)
    found = repaired(TOY, draw, counting.excess, seed)
    if found is None:  # by chance, or where no network with these knobs keeps them
        return
    assert found.arch is not None
    assert counting.of(found.arch) == {name: getattr(cost_of(found.arch), name) for name in ("params", "flops")}
    assert found.setting.keys() == draw.setting.keys()
    assert found.setting["lift"] == draw.setting["lift"]
    assert found == repaired(TOY, draw, counting.excess, seed)


def test_nearly_all_draws_can_be_made_to_keep_a_limit_that_few_keep() -> None:
    counting = Counting(cost_of, (parse_limit("flops<=0.15G"),))
    draws = [drawn(seed) for seed in range(200)]
    assert sum(counting.of(draw.arch) is not None for draw in draws) < 60
    assert sum(repaired(TOY, draw, counting.excess, 0) is not None for draw in draws) > 150


def test_what_keeps_its_limits_is_left_as_it_is_and_what_cannot_is_none() -> None:
    draw = next(draw for draw in map(drawn, range(20)) if draw.arch)
    assert repaired(TOY, draw, Counting(cost_of).excess, 0) is draw
    assert repaired(TOY, draw, Counting(cost_of, (parse_limit("flops<=1"),)).excess, 0) is None


def test_a_search_that_weighs_its_draws_refuses_next_to_none(tmp_path: Path) -> None:
    limits = ("flops<=0.15G",)
    search(tmp_path / "plain", 20, sampler="random", limits=limits)
    search(tmp_path / "weighed", 20, sampler="random", limits=limits, draws=4, control=0.0)
    assert states_of(tmp_path / "plain")["refused"] > 20
    assert states_of(tmp_path / "weighed").get("refused", 0) <= 2


@pytest.mark.parametrize("seed", range(4))
def test_no_two_proposals_made_at_once_are_the_same_network(seed: int) -> None:
    """Random ones stand among them: a draw that is made to keep the limit must not become one of these."""
    counting = Counting(cost_of, (parse_limit("flops<=0.12G"),))
    how = How("evolve", seed, ["score", "flops"], draws=4, control=0.5)
    found = propose(TOY, [], how, counting, 40)
    assert len(found) > 30
    assert len({proposal.identity for proposal in found}) == len(found)
