"""Bills of measured milliseconds, forecasts from them, and what a search refuses by a forecast."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from inside import inside
from optuna.trial import TrialState, create_trial
from toy_search import SPACE, Toy, cost_of, runner_of, search

from hrsearch.arch import Arch, by_place
from hrsearch.build import build
from hrsearch.candidate import Candidate, Judgement
from hrsearch.cost import bill_of, cost
from hrsearch.cost.forecast import Described, Forecast, described
from hrsearch.search.driver import Judging, drive
from hrsearch.search.foresight import Foresight
from hrsearch.space import Space, load_arch, load_space
from hrsearch.study import Trial, read_study

IMAGE, CLASSES = (64, 64), 5
SPACES = ("hrvit", "hrformer", "hrnet", "hirivit", "mixed")


@pytest.fixture(scope="module")
def hrvit() -> Arch:
    return load_arch("hrvit_b1", "segment")


def test_bill_names_every_counted_part_and_adds_up(hrvit: Arch) -> None:
    network = build(hrvit, CLASSES)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    paid = bill_of(network, IMAGE, seconds=0.1)
    counted = cost(hrvit, IMAGE, CLASSES)
    assert list(paid.parts) == list(counted.flops_by_part)
    assert all(each > 0 for each in paid.parts.values())
    assert sum(paid.by_path.values()) == pytest.approx(paid.total)  # what lies between the parts stands beside them
    doubled = paid.scaled_to(2 * paid.total)
    assert doubled.total == pytest.approx(2 * paid.total)
    assert doubled.parts["head.fuse"] == pytest.approx(2 * paid.parts["head.fuse"])
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_places_share_out_every_figure(hrvit: Arch) -> None:
    counted = cost(hrvit, IMAGE, CLASSES)
    places = by_place(hrvit, {**counted.flops_by_part, "": 7})
    assert list(places) == [
        *(f"branches at stride {stride}" for stride in (4, 8, 16, 32)),
        "links",
        "head",
        "between the parts",
    ]
    assert sum(places.values()) == counted.flops + 7
    fine = sum(flops for path, flops in counted.flops_by_part.items() if ".branches.0." in path)
    assert places["branches at stride 4"] == fine


@pytest.mark.parametrize("name", SPACES)
def test_parts_are_described_without_building_in_the_order_of_the_count(name: str) -> None:
    space = load_space(name, "segment")
    for seed in range(5):
        _, arch = space.sample(seed)
        parts = list(described(arch, arch.image or (128, 128), CLASSES))
        counted = cost(arch, arch.image or (128, 128), CLASSES)
        assert [part.flops for part in parts] == list(counted.flops_by_part.values())
        assert all(part.elements > 0 for part in parts)


def made_up_ms(arch: Arch) -> list[float]:
    """A machine on which a part's time follows from what it is."""
    parts = [1e-6 * part.flops**0.8 + 1e-5 * part.elements**0.9 for part in described(arch, (128, 128), CLASSES)]
    return [*parts, 0.1 * sum(parts)]


def test_forecast_learns_a_made_up_machine() -> None:
    space = load_space("hrvit", "segment")
    archs = [space.sample(seed)[1] for seed in range(24)]
    forecast = Forecast((128, 128), CLASSES)
    assert forecast.expect(archs[0]) is None
    for arch in archs[:16]:
        forecast.learn(arch, made_up_ms(arch))
    known = forecast.expect(archs[0])
    assert known is not None
    assert known == pytest.approx(sum(made_up_ms(archs[0])), rel=0.02)
    errors = [abs((forecast.expect(arch) or math.nan) / sum(made_up_ms(arch)) - 1) for arch in archs[16:]]
    assert statistics.median(errors) < 0.05
    assert max(errors) < 0.2


def test_options_of_a_plugin_may_be_negative() -> None:
    part = Described("mine", "mine", flops=0, elements=0, options=(-1.0, -3.0, 3.0))
    assert part.features() == [1.0, 0.0, 0.0, -math.log(2), -math.log(4), math.log(4)]


def test_forecast_corrects_its_own_bias() -> None:
    """Networks that take longer than their parts let expect, all by the same factor, are expected to."""
    space = load_space("hrvit", "segment")
    archs = [space.sample(seed)[1] for seed in range(12)]
    forecast = Forecast((128, 128), CLASSES)
    for index, arch in enumerate(archs[:10]):
        forecast.learn(arch, [each * 1.03**index for each in made_up_ms(arch)])
    slow = forecast.expect(archs[10])
    assert slow is not None
    assert slow > sum(made_up_ms(archs[10])) * 1.03**4


def foreseen_of(trial: Trial) -> bool:
    """Whether a forecast refused it."""
    return "cannot hold" in str(trial.attributes.get("reason"))


class Foreseen:
    """A forecast that is right within a few per cent: latency grows with the made-up size."""

    def __init__(self) -> None:
        self.learnt = 0

    def learn(self, arch: Arch, part_ms: Sequence[float]) -> None:
        assert part_ms == [1.0, 2.0]
        self.learnt += 1

    def expect(self, arch: Arch) -> float | None:
        return 105 * cost_of(arch).flops / 1e9


class Billed(Toy):
    """The toy's judgement with a bill."""

    def __call__(self, candidate: Candidate) -> Judgement:
        return Judgement({**super().__call__(candidate).attributes, "part_ms": [1.0, 2.0]})


def test_search_refuses_what_is_far_beyond_the_limit_without_building_it(tmp_path: Path) -> None:
    forecast = Foreseen()
    runner = runner_of(sampler="random", limits=["latency=12ms"])
    judging = Judging(cost_of, Billed(), forecast=forecast)
    drive(Space.parse(SPACE), runner, judging, budget=30, folder=tmp_path / "study", attributes={})
    trials = read_study(tmp_path / "study").trials
    foreseen = [trial for trial in trials if foreseen_of(trial)]
    assert foreseen, "nothing was refused"
    assert forecast.learnt >= 10
    for trial in foreseen:
        assert "latency" not in trial.attributes
        assert trial.attributes["expected_ms"] > 1.2 * 12
        assert trial.attributes["violations"]["latency<=12ms"] == pytest.approx(
            trial.attributes["expected_ms"] / 12 - 1
        )
    measured = [one for one in trials if "latency" in one.attributes]
    assert all("expected_ms" in one.attributes for one in measured)
    first = min(one.number for one in foreseen)
    assert sum(one.number < first for one in measured) >= 10


def test_a_forecast_learns_from_what_waits_at_a_rung() -> None:
    """Most candidates wait until a search ends; one that is being judged may not be stored whole."""
    forecast = Foreseen()
    foresight = Foresight(forecast, ())
    arch = load_arch("hirivit_s").to_dict()
    known = {"arch": arch, "latency": {"median_ms": 3.0}, "part_ms": [1.0, 2.0]}
    trial = create_trial(state=TrialState.RUNNING, user_attrs=known)
    foresight.learn([trial])
    assert forecast.learnt == 0
    trial.user_attrs = {**known, "rungs": [{"value": 0.5}]}
    foresight.learn([trial])
    foresight.learn([trial])
    assert forecast.learnt == 1


def test_without_a_limit_a_forecast_refuses_nothing(tmp_path: Path) -> None:
    search(tmp_path / "study", 15, Billed(), forecast=Foreseen())
    assert not [trial for trial in read_study(tmp_path / "study").trials if foreseen_of(trial)]


@pytest.mark.long
def test_show_prints_the_bill(tmp_path: Path) -> None:
    done = inside(tmp_path, "show", "hirivit_s", "--image", "64", "--ms", "--parts", "--json")
    told = json.loads(done.stdout)
    rows = told["rows"]
    total = sum(row["ms"] for row in rows if not row["within"])
    assert total == pytest.approx(told["latency"]["median_ms"])
    assert sum(row["flops"] for row in rows if not row["within"]) == told["flops"]
    assert any(row["within"] for row in rows)
    done = inside(tmp_path, "show", "hirivit_s", "--image", "64", "--ms")
    assert "branches at stride 4" in done.stdout
    assert "engine eager, batch 1, 1 thread of" in done.stdout
