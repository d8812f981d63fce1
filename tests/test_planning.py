"""Hours as a bound of a search, and what a search will take."""

import math
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_slurm
from hypothesis import given
from hypothesis import strategies as st
from inside import inside
from test_search_rungs import judged
from toy_search import SPACE, Toy, search

from hrsearch import api, planning
from hrsearch.api import cost_counter
from hrsearch.arch import Arch
from hrsearch.candidate import Candidate, Judgement
from hrsearch.errors import CandidateFailed, InputError
from hrsearch.grammar import yaml_of
from hrsearch.planning import Forecast, Sample, Timed, _at, _drawn, lines_of, steps_of
from hrsearch.proxy.data.dataset import Split
from hrsearch.proxy.feed import batches
from hrsearch.runner import Proxy, Runner, load_runner
from hrsearch.search.clock import PREFIX, covered
from hrsearch.search.remaining import is_over, searched_seconds, seconds_left
from hrsearch.space import Space, load_arch, load_space
from hrsearch.study import Record, Trial, read_study

RUNNER = """
proxy: {data: six_digits, image: 32, batch: 4, steps: 4, warmup: 1, train_images: 16, val_images: 8}
measure: {image: [32, 32], seconds: 0.1}
engine: {kind: inline}
"""
UNEVEN = """
task: segment
knobs: {width: [15, 17]}
net:
  stages:
    - {link: conv_stem, channels: 8, stride: 4}
    - {link: hrvit, channels: [$width], depth: 1, block: {kind: cross, window: 1, head_dim: 8, ratio: 2}, norm: layer}
  head: {kind: segformer, width: 8}
"""


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=6))
def test_time_that_two_drivers_share_counts_once(spans: list[tuple[int, int]]) -> None:
    lit = {second for start, length in spans for second in range(start, start + length)}
    assert covered([(float(start), float(start + length)) for start, length in spans]) == len(lit)


def test_a_search_ends_with_its_hours_and_goes_on_with_more(tmp_path: Path) -> None:
    end = search(tmp_path, None, Toy(0.2), hours=1 / 3600, sampler="random")
    first = judged(tmp_path)
    assert end.startswith("the hours are spent; ")
    assert 1 <= len(first) <= 6
    assert search(tmp_path, None, Toy(0.2), hours=1 / 3600, sampler="random").startswith("the hours are spent")
    assert len(judged(tmp_path)) == len(first)
    search(tmp_path, None, Toy(0.2), hours=2 / 3600, sampler="random")
    assert len(judged(tmp_path)) > len(first)
    sessions = [key for key in read_study(tmp_path).attributes if key.startswith(PREFIX)]
    assert len(sessions) == 3


def test_a_budget_ends_it_before_the_hours(tmp_path: Path) -> None:
    assert search(tmp_path, 3, hours=1, sampler="random").startswith("3 of 3 candidates are done")


def test_what_waits_at_a_rung_goes_on_waiting_when_the_hours_are_spent(tmp_path: Path) -> None:
    end = search(tmp_path, 12, Toy(0.2), hours=1 / 3600, sampler="random", rungs=(10, 30))
    assert {trial.state for trial in judged(tmp_path)} <= {"waiting", "trained"}
    waiting = [trial.state for trial in judged(tmp_path)].count("waiting")
    assert end.endswith(f" refused, {waiting} waiting at a rung")
    assert is_over(read_study(tmp_path))
    search(tmp_path, 12, hours=1, sampler="random", rungs=(10, 30))
    assert {trial.state for trial in judged(tmp_path)} == {"stopped", "trained"}


def test_hours_that_ctrl_c_ends_count(tmp_path: Path) -> None:
    def stopped(candidate: Candidate) -> Judgement:
        time.sleep(0.1)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path, None, stopped, hours=1, sampler="random")
    assert searched_seconds(read_study(tmp_path)) >= 0.2


def test_a_search_needs_an_end(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs an end"):
        api.search("hrvit", "smoke", None, name=str(tmp_path / "study"))
    with pytest.raises(InputError, match="hours: more than none"):
        api.search("hrvit", "smoke", None, hours=0.0, name=str(tmp_path / "study"))
    space, runner = load_space("hrvit"), load_runner("smoke")
    for hours in (math.inf, math.nan):
        with pytest.raises(InputError, match=f"hours: more than none and finite, but got {hours}"):
            api.Asked(space, runner, tmp_path / "study", None, hours)
    with pytest.raises(InputError, match="needs an end"):
        api.plan(space, runner)


def test_steps_of_a_candidate_in_the_mean() -> None:
    assert steps_of(Proxy(steps=150), eta=3) == 150
    climbing = Proxy(steps=100, warmup=0, rungs=(20,))  # the first rung's trunk is 13 steps long
    assert steps_of(climbing, eta=4) == pytest.approx(20 + (100 - 13) / 4)


def test_times_lie_between_those_that_were_measured() -> None:
    arch = load_arch("hirivit_s")
    timed = [Timed(Sample("", arch, flops), flops / 10, flops / 100) for flops in (100, 200, 400)]
    assert _at(timed, 150) == pytest.approx((15.0, 1.5))
    assert _at(timed, 300) == pytest.approx((30.0, 3.0))
    assert _at(timed, 400) == pytest.approx((40.0, 4.0))


def test_what_fits_is_bound_by_hours_and_by_the_budget() -> None:
    assert Forecast((), 2, 36.0, None, 1.0).candidates == 200
    assert Forecast((), 2, 36.0, 50, 1.0).candidates == 50
    assert Forecast((), 2, 36.0, 50, None).end_s == 900
    few = Forecast((), 2, 36.0, 50, 1.0, (36.0,), holds=4)
    assert few.candidates == 5
    assert "the space holds 4 other networks within" in " ".join(lines_of(few))
    assert "a budget of 50: about 50 candidates" in " ".join(lines_of(Forecast((), 2, 36.0, 50, 8.0)))
    assert "1 hours: about 200 candidates" in " ".join(lines_of(Forecast((), 2, 36.0, 500, 1.0)))


def test_published_networks_count_and_take_their_time() -> None:
    assert Forecast((), 2, 36.0, None, 1.0, (360.0, 720.0)).candidates == 2 + (7200 - 1080) // 36
    assert Forecast((), 2, 36.0, 52, None, (360.0, 720.0)).end_s == (50 * 36 + 1080) / 2
    assert Forecast((), 4, 36.0, 4, None, (360.0, 720.0)).end_s == 720  # one worker has it all the while
    assert Forecast((), 2, 36.0, None, 0.1, (360.0, 720.0)).candidates == 2


def climbed(
    judged: int, gone_on: int, attributes: Mapping[str, Any] | None = None, *, running: int = 0, waiting: int = 0
) -> Record:
    """A study of so many candidates that took 10 s to their first rung, and 20 s more if they went on to the second."""
    first, second = {"seconds": 8.0}, {"seconds": 20.0}
    trials = []
    for number in range(judged):
        went = number < gone_on
        known = {"score": {}, "rungs": [first, second] if went else [first], "seconds": 30.0 if went else 10.0}
        trials.append(Trial(number, "trained" if went else "stopped", {}, known, (), None, None))
    trials += [
        Trial(judged + place, "running" if place < running else "waiting", {}, {}, (), None, None)
        for place in range(running + waiting)
    ]
    runner = {"proxy": {"steps": 30, "rungs": [10], "warmup": 1}, "search": {"eta": 3}}
    return Record("toy", Path("toy"), {"runner": runner, "budget": 30, **(attributes or {})}, tuple(trials))


def test_what_is_left_counts_the_rungs_that_are_still_to_come() -> None:
    assert seconds_left(climbed(30, 4), 2) == (10 - 4) * 20 / 2
    assert seconds_left(climbed(28, 10, running=2), 2) == 2 * 10 / 2 / 2  # those that run are half done
    # Nobody has gone on yet: from step 6 of the first rung's 10 to the 30th takes 24 / 10 of its time.
    assert seconds_left(climbed(15, 0), 1) == pytest.approx(15 * 10 + 10 * 24)
    assert seconds_left(climbed(30, 10), 2) == 0
    assert seconds_left(climbed(0, 0, running=2), 2) is None


def test_what_was_taken_over_is_done_and_climbs_no_rungs_here() -> None:
    copied = tuple(
        Trial(30 + n, "trained", {}, {"score": {}, "copied_from": f"a:{n}"}, (), None, None) for n in range(20)
    )
    for gone_on, left in ((10, 0.0), (4, (10 - 4) * 20)):
        record = climbed(30, gone_on, {"budget": 50})
        assert seconds_left(replace(record, trials=record.trials + copied), 1) == left


def test_what_is_left_of_the_hours() -> None:
    spent = {"session:a": [1000.0, 1600.0]}
    assert seconds_left(climbed(0, 0, {"budget": None, "hours": 1, **spent}), 2) == 3000
    assert seconds_left(climbed(15, 5, {"hours": 0.2, **spent}), 1) == 120  # the budget's 15 * 10 + 5 * 20 come later
    assert seconds_left(climbed(15, 5, {"hours": 9.0, **spent}), 1) == 250


def test_workers_that_have_just_ended_are_no_fewer() -> None:
    """Twice the searched seconds were spent on candidates: two have worked."""
    assert seconds_left(climbed(30, 4, {"session:a": [0.0, 190.0]}), 1) == (10 - 4) * 20 / 2


def test_a_study_is_over_when_nothing_is_left_to_do() -> None:
    assert is_over(climbed(30, 9))
    assert not is_over(climbed(29, 9))
    assert not is_over(climbed(30, 9, running=1))
    assert not is_over(climbed(30, 9, waiting=1))
    late = {"budget": None, "hours": 0.1, "session:a": [0.0, 360.0]}
    assert is_over(climbed(5, 1, late))
    assert is_over(climbed(5, 1, late, waiting=1))
    assert not is_over(climbed(5, 1, late, waiting=1, running=1))
    assert not is_over(climbed(5, 1, late | {"hours": 0.2}, waiting=1))


@pytest.mark.long
def test_plan_says_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "DRAWS", 5)
    (tmp_path / "runner.yaml").write_text(RUNNER)
    (tmp_path / "net.yaml").write_text(yaml_of(load_space("hirivit").sample(0)[1], "segment"))
    (tmp_path / "space.yaml").write_text(SPACE.replace("knobs:", "known: [net.yaml]\nknobs:"))
    done = inside(tmp_path, "plan", "space.yaml", "--runner", "runner.yaml", "--hours", "1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^small .* FLOPs: .* s a step of training$", done.stdout, re.MULTILINE)
    assert re.search(r"^net .* FLOPs: .* s a step of training$", done.stdout, re.MULTILINE)
    assert re.search(r"^published networks, first and in full: \d+ s$", done.stdout, re.MULTILINE)
    assert re.search(r"1 hours: about [\d,]+ candidates, .*; begun now it ends", done.stdout)
    assert "4/4" in done.stderr


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--budget", "0"), "budget: at least 1 candidate, but got 0"),
        (("--budget", "5", "--hours", "0"), "hours: more than none and finite, but got 0"),
        (("--hours", "-1"), "hours: more than none and finite, but got -1"),
        (("--hours", "nan"), "hours: more than none and finite, but got nan"),
        (("--hours", "inf"), "hours: more than none and finite, but got inf"),
    ],
)
def test_plan_refuses_what_a_run_does_before_it_times_anything(
    asked: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "DRAWS", 2)
    (tmp_path / "runner.yaml").write_text(RUNNER)
    (tmp_path / "space.yaml").write_text(SPACE)
    done = inside(tmp_path, "plan", "space.yaml", "--runner", "runner.yaml", *asked)
    assert done.returncode == 2
    assert done.stderr.endswith(f"hrsearch: {message}\n")
    assert "1/3" not in done.stderr


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        ("seconds: 0.1", "seconds: 0.1, engine: eagr", "latency engine 'eagr' does not exist; did you mean 'eager'?"),
        ("seconds: 0.1", "seconds: 0.1, engine: cuda", "engine 'cuda' needs an NVIDIA GPU and a CUDA build of torch"),
        ("engine:", "device: cuda\nengine:", "device: cuda needs an NVIDIA GPU and a CUDA build of torch"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_what_is_not_here_is_told_before_anything_is_made(
    command: str, was: str, now: str, message: str, tmp_path: Path
) -> None:
    if "cuda" in now and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (tmp_path / "runner.yaml").write_text(RUNNER.replace(was, now))
    (tmp_path / "space.yaml").write_text(SPACE)
    done = inside(tmp_path, command, "space.yaml", "--runner", "runner.yaml", "--budget", "2")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert message in done.stderr
    assert not (tmp_path / "studies").exists()


class Deadly(ThreadPoolExecutor):
    """Workers that die, like those of an engine, of networks with these digests."""

    workers = 2

    def __init__(self, *digests: str) -> None:
        super().__init__(self.workers)
        self._digests = digests

    def submit(self, function: Any, /, *call: Any, **how: Any) -> Future[Any]:
        if call[-1].digest not in self._digests:
            return super().submit(function, *call, **how)
        dead: Future[Any] = Future()
        dead.set_exception(CandidateFailed("worker was killed by signal 9 (out of memory?)"))
        return dead


def test_plan_says_of_which_candidate_a_worker_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A published network of which it dies takes no time, as in a search."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "DRAWS", 3)
    (tmp_path / "net.yaml").write_text(yaml_of(load_space("hirivit").sample(0)[1], "segment"))
    space = Space.parse(SPACE.replace("knobs:", "known: [net.yaml]\nknobs:"), tmp_path / "space.yaml")
    runner, count = Runner(), cost_counter(Runner(), 7)
    published, largest = space.known[0][1].digest(), _drawn(space, runner, count)[0][-1][0].digest()

    def planned(*deadly: str) -> Forecast:
        monkeypatch.setattr(planning, "engine_of", lambda *asked: Deadly(*deadly))
        return planning.forecast(space, runner, quick, count, budget=3, hours=None)  # type: ignore[arg-type]

    assert len(planned().published) == 1
    assert planned(published).published == ()
    with pytest.raises(InputError, match=rf"^the large candidate \({largest}\) failed: worker was killed by signal 9"):
        planned(largest)


def quick(candidate: Candidate) -> Judgement:
    """What a candidate takes is not measured but said."""
    return Judgement({"once": 1.0, "step": 0.1})


def test_plan_counts_a_published_network_of_the_space_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "engine_of", lambda *asked: Deadly())
    text = UNEVEN.replace("15, 17", "8, 16")
    (tmp_path / "net.yaml").write_text(yaml_of(Space.parse(text).arch({"width": 8}), "segment"))
    space = Space.parse(text.replace("knobs:", "known: [net.yaml]\nknobs:"), tmp_path / "space.yaml")
    count = cost_counter(Runner(), 7)
    found = planning.forecast(space, Runner(), quick, count, budget=50, hours=None)  # type: ignore[arg-type]
    assert (len(found.published), found.holds, found.candidates) == (1, 1, 2)


def test_plan_leaves_nothing_of_its_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy_slurm.install(tmp_path / "slurm", [], monkeypatch)
    with planning._working(Runner.model_validate({"engine": {"kind": "slurm", "workers": 1}})):
        assert len(list(tmp_path.iterdir())) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["slurm"]


@pytest.mark.parametrize("augment", [False, True])
def test_plan_times_the_batches_that_a_search_trains_on(
    augment: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "DRAWS", 2)
    made = []

    def noted(*given: Any, **how: Any) -> Iterator[Split]:
        made.append(given[2].augments)
        return batches(*given, **how)

    monkeypatch.setattr(planning, "batches", noted)
    (tmp_path / "runner.yaml").write_text(RUNNER.replace("steps: 4", f"steps: 4, augment: {augment}"))
    (tmp_path / "space.yaml").write_text(SPACE)
    done = inside(tmp_path, "plan", "space.yaml", "--runner", "runner.yaml", "--budget", "5")
    assert (done.returncode, set(made)) == (0, {augment}), done.stderr


def test_plan_counts_what_asking_a_zero_cost_proxy_of_the_draws_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the driver, which asks, works on the same machine; published networks are not asked."""
    asked: list[Arch] = []
    monkeypatch.setattr(planning, "untrained", lambda runner, data: asked.append if runner.search.zero_cost else None)
    monkeypatch.setattr(time, "perf_counter", lambda: 3.0 * len(asked))
    settings: dict[str, Any] = {"proxy": {"image": 32, "batch": 4, "steps": 4, "warmup": 1}, "search": {"draws": 5}}
    settings["measure"] = {"image": (32, 32), "engine": "untimed"}
    monkeypatch.setattr(planning.Trying, "_measured", lambda self, network: iter(()))
    arch = Space.parse(SPACE).draw(lambda knob: knob.values[0]).arch
    assert arch is not None
    candidate = Candidate(0, arch.digest(), arch, 0, Path())

    def once(**changed: Any) -> float:
        runner = Runner.model_validate({**settings, **changed})
        return float(planning.Trying(runner, 1.0)(candidate).attributes["once"])

    asks = {"search": {"draws": 5, "zero_cost": "synflow"}}
    assert (once(), once(**asks)) == (0, 15)
    assert once(**asks, engine={"kind": "ray"}) == 0
    candidate = replace(candidate, known=True)
    assert once(**asks) == 0


@pytest.mark.long
def test_a_small_space_is_found_to_be_small(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(UNEVEN.replace("15, 17", "8, 15, 16"))  # 15 cannot be built
    runner = Runner()
    found, is_all = _drawn(load_space(tmp_path / "space.yaml"), runner, cost_counter(runner, 7))
    assert (len(found), is_all) == (2, True)
    assert not _drawn(load_space("hirivit"), runner, cost_counter(runner, 7))[1]


def test_plan_of_a_space_whose_networks_cannot_be_built(tmp_path: Path) -> None:
    (tmp_path / "runner.yaml").write_text(RUNNER)
    (tmp_path / "space.yaml").write_text(UNEVEN)
    done = inside(tmp_path, "plan", "space.yaml", "--runner", "runner.yaml", "--budget", "3")
    assert done.returncode == 3
    assert "networks drawn can be trained, the last one: block 'cross': even channels" in done.stderr


def test_plan_of_a_space_without_a_network_within_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "DRAWS", 2)
    (tmp_path / "runner.yaml").write_text(RUNNER)
    done = inside(tmp_path, "plan", "hirivit", "--runner", "runner.yaml", "--limit", "flops=1k")
    assert done.returncode == 3  # nothing fits
    assert "keeps flops<=1k; loosen that" in done.stderr
