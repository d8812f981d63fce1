"""The search as a whole, inline: budget, order, outcomes, and that an interruption changes nothing."""

import re
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import TPESampler
from toy_search import (
    SPACE,
    Toy,
    calls_of,
    cost_of,
    judgement,
    rows_of,
    runner_of,
    search,
    start,
    states_of,
    untrained,
)

from hrsearch.arch import Arch
from hrsearch.candidate import Candidate, Judgement, seed_of
from hrsearch.errors import CandidateFailed, InputError, NothingFits, OutOfMemory
from hrsearch.grammar import yaml_of
from hrsearch.objective import OBJECTIVES, Cost
from hrsearch.search import claims, proposals, samplers
from hrsearch.search.driver import Event, Judging, drive
from hrsearch.search.ledger import open_ledger
from hrsearch.search.promise import ASKED, Untrained, most_promising
from hrsearch.search.proposals import view_of
from hrsearch.search.remaining import is_over
from hrsearch.search.samplers import SAMPLERS
from hrsearch.search.tpe import QuickTPE
from hrsearch.space import Space
from hrsearch.storage import storage_of
from hrsearch.study import Record, read_study

SMALL = SPACE.replace("width1: [8, 16, 24, 32]", "width1: [8]").replace("depth2: [1, 2, 3, 4]", "depth2: [1]")
KNOWN = SPACE.replace("knobs:", "known: [hrvit_b1, hrvit_b2]\nknobs:", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "toy"


def test_the_budget_is_a_total(folder: Path) -> None:
    assert search(folder, 5).startswith("5 of 5 candidates are done: 5 trained")
    assert search(folder, 8).startswith("8 of 8 candidates are done: 8 trained")
    assert search(folder, 8).startswith("8 of 8")
    assert search(folder, 3).startswith("8 of 3")
    assert len(calls_of(folder)) == states_of(folder)["trained"] == 8


def test_a_trial_holds_what_is_documented(folder: Path) -> None:
    search(folder, 3, attributes={"versions": {"toy": "1"}, "protocol": "abc"})
    record = read_study(folder)
    assert record.attributes["space"] == SPACE
    assert record.attributes["objectives"] == ["score", "flops", "latency"]
    assert record.attributes["versions"] == {"toy": "1"}
    assert record.attributes["budget"] == 3
    for trial in record.trained:
        attributes = trial.attributes
        arch = Arch.from_dict(attributes["arch"])
        assert attributes["digest"] == arch.digest()
        assert attributes["flops"] == cost_of(arch).flops
        assert trial.values == (attributes["score"]["value"], attributes["flops"], attributes["latency"]["median_ms"])
        assert attributes["seconds"] >= 0
    assert optuna.load_study(study_name="toy", storage=storage_of(folder)).metric_names == ["score", "flops", "latency"]


def test_seeds_follow_from_the_network(folder: Path) -> None:
    seeds: dict[str, int] = {}
    search(
        folder, 3, lambda candidate: seeds.update({candidate.digest: candidate.seed}) or judgement(candidate), seed=7
    )
    assert all(seed == seed_of(7, digest) for digest, seed in seeds.items())


class Interrupted:
    """Presses Ctrl-C in the middle of the calls with these indices."""

    def __init__(self, *at: int, function: Callable[[Any], Any] | None = None) -> None:
        self.at = at
        self.function = function or Toy()
        self.calls = 0

    def __call__(self, given: Any) -> Any:
        self.calls += 1
        if self.calls - 1 in self.at:
            raise KeyboardInterrupt
        return self.function(given)


@pytest.mark.parametrize(
    ("sampler", "draws", "asked"),
    [*((name, 1, None) for name in sorted(SAMPLERS)), ("evolve", 3, None), ("evolve", 3, untrained)],
)
def test_interrupted_and_resumed_is_uninterrupted(
    sampler: str, draws: int, asked: Untrained | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "STARTUP", 14 if sampler == "gp" else 4)  # a Gaussian process takes seconds
    monkeypatch.setattr(samplers, "POPULATION", (4, 4))
    told: dict[str, Any] = {"sampler": sampler, "draws": draws, "limits": ("flops<=0.25G", "latency<=20ms")}
    told |= {"untrained": asked}
    search(tmp_path / "whole", 16, **told)
    evaluate = Interrupted(0, 3, 9, 10, 14)
    for _ in evaluate.at:
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "parts", 16, evaluate, **told)
    search(tmp_path / "parts", 16, evaluate, **told)
    whole, parts = read_study(tmp_path / "whole"), read_study(tmp_path / "parts")
    assert rows_of(parts) == rows_of(whole)
    assert {trial.state for trial in whole.trials} == {"trained", "refused"}


@pytest.mark.parametrize("rungs", [(), (10, 30)], ids=["without rungs", "with rungs"])
@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_wherever_it_is_interrupted_it_goes_on_alike(
    sampler: str, rungs: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two calls of what counts and what judges, any number of times; with draws that are weighed, too."""
    monkeypatch.setattr(samplers, "STARTUP", 11 if sampler == "gp" else 3)
    monkeypatch.setattr(samplers, "POPULATION", (3, 3))
    monkeypatch.setattr(proposals, "FEWEST_JUDGED", 3)
    told: dict[str, Any] = {"sampler": sampler, "rungs": rungs, "draws": 1 if sampler == "gp" else 3, "control": 0.2}
    told |= {"limits": ("flops<=0.3G", "latency<=30ms"), "rungs_by": "gain", "eta": 2.0}
    search(tmp_path / "whole", 12, **told)
    whole = decided(read_study(tmp_path / "whole"))
    assert ("stopped" if rungs else "trained") in {state for state, *_ in whole}
    at = st.sets(st.integers(0, 25), max_size=4)

    @settings(max_examples=2 if sampler == "gp" else 4, deadline=None, database=None)  # gp takes seconds
    @given(at, at)
    def goes_on(counting: set[int], judging: set[int]) -> None:
        folder = Path(tempfile.mkdtemp(dir=tmp_path)) / "whole"
        count, judge = Interrupted(*counting, function=cost_of), Interrupted(*judging)
        for _ in range(len(counting) + len(judging)):
            with suppress(KeyboardInterrupt):
                search(folder, 12, judge, cost_of=count, **told)
        search(folder, 12, judge, cost_of=count, **told)
        assert decided(read_study(folder)) == whole

    goes_on()


def decided(record: Record) -> list[tuple[Any, ...]]:
    """What a search decided and found, at every rung."""
    keys = ("rungs", "arm", "reason", "violations")
    return [
        (*row, *(trial.attributes.get(key) for key in keys))
        for row, trial in zip(rows_of(record), record.trials, strict=True)
    ]


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_samplers_differ_by_seed_and_survive_knobs_of_one_value(sampler: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        search(tmp_path / str(seed), 6, sampler=sampler, seed=seed, space=SMALL)
    first, second = (rows_of(read_study(tmp_path / str(seed))) for seed in (0, 1))
    assert first != second
    assert {row[1]["width1"] for row in first} == {8}


def test_tpe_learns_from_the_knobs_that_optuna_would(folder: Path) -> None:
    search(folder, 12, limits=("flops<=0.25G",), sampler="random")
    study = optuna.load_study(study_name="toy", storage=storage_of(folder))
    view = view_of(study.get_trials(deepcopy=False), ["maximize", "minimize", "minimize"])
    asked = view.ask()
    trial = view.get_trials(deepcopy=False)[asked.number]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = [kind(multivariate=True) for kind in (TPESampler, QuickTPE)]
    theirs, ours = (sampler.infer_relative_search_space(view, trial) for sampler in both)
    assert list(ours.items()) == list(theirs.items())
    assert {"lift", "width1"} <= ours.keys()
    assert "extra" not in ours  # read only where the stage is there


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_each_network_once_and_a_small_space_ends(sampler: str, folder: Path) -> None:
    tiny = SMALL.replace("lift: [false, true]", "lift: [false]").replace("extra: {from: 1, to: 4}", "extra: [1]")
    end = search(folder, 50, space=tiny, sampler=sampler)
    digests = [digest for _, digest, *_ in calls_of(folder)]
    assert len(digests) == len(set(digests)) == 4 * 3  # width2 x depth1; the knob `extra` is never read
    assert end == "the space seems to hold no network besides the 12 already drawn"
    assert is_over(read_study(folder))
    assert search(folder, 50, space=tiny, sampler=sampler) == end


def test_published_networks_come_first_and_have_no_parameters(folder: Path) -> None:
    search(folder, 5, space=KNOWN)
    trials = read_study(folder).trials
    assert [trial.attributes.get("known") for trial in trials[:3]] == ["hrvit_b1", "hrvit_b2", None]
    assert [bool(trial.knobs) for trial in trials[:3]] == [False, False, True]
    assert states_of(folder)["trained"] == 5


def test_published_networks_are_the_yardstick_whatever_they_cost(folder: Path) -> None:
    search(folder, 3, space=KNOWN, limits=("flops<=0.25G", "latency<=20ms"))
    first = read_study(folder).trials[0]
    assert first.state == "trained"
    assert first.attributes["violations"]["flops<=250M"] > 0


def test_limits_refuse_before_and_after_training(folder: Path) -> None:
    search(folder, 12, limits=("flops<=0.25G", "latency<=20ms", "score>=0.1"))
    record = read_study(folder)
    refused = [trial for trial in record.trials if trial.state == "refused" and "digest" in trial.attributes]
    by_flops = [trial for trial in refused if "score" not in trial.attributes]
    measured = [trial for trial in refused if "score" in trial.attributes]
    assert by_flops
    assert measured
    for trial in by_flops:
        assert trial.attributes["violations"] == {"flops<=250M": pytest.approx(trial.attributes["flops"] / 2.5e8 - 1)}
        assert trial.attributes["reason"].startswith("flops<=250M does not hold (flops is ")
    assert all(any(v > 0 for v in trial.attributes["violations"].values()) for trial in measured)
    assert len(record.trained) + len(measured) == len(calls_of(folder)) == 12  # what was trained was paid for
    stored = optuna.load_study(study_name="toy", storage=storage_of(folder)).get_trials()
    assert all(stored[trial.number].constraints == trial.attributes["violations"] for trial in refused)
    assert not {trial.number for trial in record.front()} & {trial.number for trial in refused}


def test_a_worker_may_refuse(folder: Path) -> None:
    def evaluate(candidate: Candidate) -> Judgement:
        if candidate.number % 2:
            return judgement(candidate)
        return Judgement({"latency": {"median_ms": 5.0}, "outcome": "refused", "reason": "latency<=4ms does not hold"})

    with pytest.raises(NothingFits, match=r"latency<=4ms does not hold"):
        search(
            folder, 3, evaluate, limits=("latency<=4ms", "score>=0.0001"), space=SMALL, objectives=("score", "flops")
        )
    states = [trial.state for trial in read_study(folder).trials]
    assert states.count("refused") >= 3
    assert "trained" not in states[::2]


@pytest.mark.parametrize("budget", [3, 50])
def test_a_search_that_may_keep_nothing_says_so(budget: int, folder: Path) -> None:
    """Whether its budget is spent on what a limit refused after its training, or its space."""
    tiny = SMALL.replace("lift: [false, true]", "lift: [false]").replace("extra: {from: 1, to: 4}", "extra: [1]")
    reason = "score>=0.9 does not hold"
    spent = Judgement({"outcome": "refused", "reason": reason, "score": {"value": 0.1, "loss": 1.0}})
    limits = ("score>=0.9",)
    with pytest.raises(NothingFits, match=rf"; the last one: {reason}; loosen that$"):
        search(folder, budget, lambda candidate: spent, limits=limits, space=tiny, objectives=("score", "flops"))
    assert is_over(read_study(folder))


def test_a_search_in_which_every_candidate_failed_says_so(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"^3 of 3 candidates are done: 0 trained, 3 failed, .*; the last one: no data$"
    ):
        search(folder, 3, _raise(CandidateFailed("no data")))
    assert states_of(folder)["failed"] == 3
    assert "trained" not in states_of(folder)


def test_a_limit_of_four_digits_is_another_than_one_that_reads_like_it(folder: Path) -> None:
    search(folder, 2, limits=("flops<=0.2504G",))
    with pytest.raises(InputError, match=r"flops<=250.4M.*flops<=249.6M"):
        search(folder, 3, limits=("flops<=0.2496G",))


def test_of_several_draws_one_is_chosen_by_a_single_objective(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it promises, not as the first of them, though one network is the best in everything."""
    places = []

    def noted(*given: Any, **how: Any) -> list[int]:
        places.append(most_promising(*given, **how)[0])
        return [places[-1]]

    monkeypatch.setattr(proposals, "most_promising", noted)
    search(folder, 24, objectives=("score",), draws=8, control=0.0)
    assert len(places) > 5
    assert any(places)


def test_what_a_zero_cost_proxy_says_is_kept_and_decides_from_the_first_candidate(folder: Path) -> None:
    """It is kept of every drawn network within the limits; of the first draws the best by it is trained."""
    told: dict[str, Any] = {"draws": 16, "control": 0.25, "limits": ("flops<=0.25G",), "space": KNOWN, "seed": 1}
    search(folder, 9, untrained=lambda arch: -untrained(arch), **told)
    drawn = [trial for trial in read_study(folder).trials if trial.knobs and trial.state == "trained"]
    said = {trial.number: trial.attributes["zero_cost"]["synflow"] for trial in drawn}
    assert said == {trial.number: -untrained(Arch.from_dict(trial.attributes["arch"])) for trial in drawn}
    assert {"random"} == {trial.attributes.get("arm") for trial in drawn if "arm" in trial.attributes}
    assert not [
        one for one in read_study(folder).trials if one.attributes.get("known") and "zero_cost" in one.attributes
    ]
    search(folder.parent / "plain", 9, **told)
    others = [one.attributes for one in read_study(folder.parent / "plain").trials if one.knobs]
    plain = next(one["flops"] for one in others if "arm" not in one)
    chosen = [trial.attributes["flops"] for trial in drawn if "arm" not in trial.attributes]
    assert chosen[0] < plain  # of its draws the smallest, which is the best in both, not the first


def test_a_zero_cost_proxy_is_asked_of_the_draws_that_promise_most_without_it(folder: Path) -> None:
    asked = []

    def noted(arch: Arch) -> float:
        asked.append(arch.digest())
        return untrained(arch)

    told: dict[str, Any] = {"draws": 16, "control": 0.0}
    search(folder, 10, untrained=noted, **told)
    assert 150 < len(asked) <= 10 * 17  # the draws, few of which repeat others, and who is taken on
    asked.clear()
    search(folder, 14, untrained=noted, **told)
    assert 3 * (ASKED + 1) < len(asked) <= 4 * (ASKED + 1)


@pytest.mark.parametrize("limits", [("flops<=1M",), ()])
def test_endless_refusal_ends(limits: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "MOST_REFUSED", 15)

    def impossible(arch: Arch) -> Cost:
        if limits:
            return cost_of(arch)
        raise InputError("stages[1]: no such network")

    with pytest.raises(InputError, match=r"15 proposals in a row were refused, the last one: (flops|stages|.width1)"):
        search(folder, 4, limits=limits, cost_of=impossible)
    assert states_of(folder) == {"refused": 15}
    assert not calls_of(folder)


def _raise(error: BaseException) -> Callable[[Candidate], Judgement]:
    def evaluate(candidate: Candidate) -> Judgement:
        raise error

    return evaluate


@pytest.mark.parametrize(
    ("evaluate", "reason"),
    [
        (_raise(CandidateFailed("the loss is not finite")), "the loss is not finite"),
        (_raise(ZeroDivisionError("by zero\nsecond line")), "ZeroDivisionError: by zero"),
        (_raise(MemoryError()), "out of memory"),
        (lambda c: judgement(c, score={"value": None}), "no score came out of judging it"),
        (lambda c: judgement(c, score={"value": float("nan")}), "its judgement cannot be stored"),
        (lambda c: judgement(c, extra={1, 2}), "its judgement cannot be stored"),
        (lambda c: judgement(c, outcome="failed"), "no reason was given"),
    ],
)
def test_a_candidate_that_fails_is_a_failed_trial(evaluate: Any, reason: str, folder: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"; the last one: {reason}")):
        search(folder, 2, evaluate)
    assert states_of(folder)["failed"] == 2
    failed = [trial for trial in read_study(folder).trials if trial.state == "failed"]
    assert all(trial.attributes["reason"].startswith(reason) for trial in failed)
    assert ("traceback" in failed[0].attributes) == ("Zero" in reason)


def test_a_search_in_which_everything_fails_gives_up(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^20 candidates in a row failed, trial \d+ the last: no data$"):
        search(folder, 100, _raise(CandidateFailed("no data")))
    assert search(folder, 21).startswith("21 of 21 candidates are done: 1 trained, 20 failed")


def test_a_search_in_which_nothing_works_any_more_gives_up(folder: Path) -> None:
    """Whatever was trained before; and what waits at a rung goes on waiting."""
    turns = iter(range(100))

    def evaluate(candidate: Candidate) -> Judgement:
        if next(turns) >= 15:
            raise CandidateFailed("no data")
        return judgement(candidate)

    with pytest.raises(InputError, match=r"^20 candidates in a row failed, trial \d+ the last: no data$"):
        search(folder, 100, evaluate, rungs=(30,))
    before = states_of(folder)
    assert (before["failed"], "stopped" in before) == (20, False)
    assert before["waiting"] + before["trained"] >= 10
    assert search(folder, 60, rungs=(30,)).startswith("60 of 60")
    assert states_of(folder)["failed"] == 20


def test_a_search_in_which_one_in_twenty_is_trained_goes_on(folder: Path) -> None:
    turns = iter(range(100))

    def evaluate(candidate: Candidate) -> Judgement:
        if next(turns) % 20 < 19:
            raise CandidateFailed("the loss is not finite")
        return judgement(candidate)

    assert search(folder, 45, evaluate, sampler="random").startswith("45 of 45 candidates are done: 2 trained, 43 fail")


def test_a_space_of_which_most_is_too_large_is_searched_on(folder: Path) -> None:
    turns = iter(range(100))

    def evaluate(candidate: Candidate) -> Judgement:
        if next(turns):
            raise OutOfMemory("out of memory")
        return judgement(candidate)

    assert search(folder, 30, evaluate).startswith("30 of 30 candidates are done: 1 trained, 29 failed")
    with pytest.raises(InputError, match=r"^20 candidates in a row failed, trial \d+ the last: out of memory$"):
        search(folder.with_name("other"), 30, evaluate)  # of which none fits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"objectives": ("score", "params")},
            "this study's objectives is score, flops, latency, but score, params was",
        ),
        ({"limits": ("flops=1G",)}, "this study's limits is none, but flops<=1G was asked for"),
        ({"seed": 3}, "this study's seed is 0, but 3 was asked for"),
        (
            {"space": SPACE.replace("[1, 2, 3]", "[1, 2]")},
            "is not space.yaml as it is now .the first difference is in line 7",
        ),
        ({"attributes": {"protocol": "b"}}, "judges candidates in another way .the versions or the data"),
    ],
)
def test_another_study_is_told(options: dict[str, Any], message: str, folder: Path) -> None:
    search(folder, 1, attributes={"protocol": "a"})
    with pytest.raises(InputError, match=message):
        search(folder, 2, **({"attributes": {"protocol": "a"}} | options))
    assert search(folder, 2, sampler="random", attributes={"protocol": "a"}).startswith("2 of 2")


def test_a_space_with_another_comment_or_runner_is_the_same(folder: Path) -> None:
    search(folder, 1)
    assert search(folder, 2, space=f"# my own\nrunners: {{cpu: smoke}}\n{SPACE}").startswith("2 of 2")


def test_limits_in_another_order_are_the_same(folder: Path) -> None:
    search(folder, 1, limits=("latency<=1000ms", "flops<=9G"))
    assert search(folder, 2, limits=("flops<=9G", "latency<=1000ms")).startswith("2 of 2")


def test_a_study_goes_on_with_the_published_networks_that_it_began_with(folder: Path) -> None:
    folder.mkdir()

    def begun(*seeds: int) -> str:
        for seed in seeds:
            (folder / f"net{seed}.yaml").write_text(yaml_of(Space.parse(SMALL).sample(seed)[1], "segment"))
        text = SMALL.replace("knobs:", "known: [net1.yaml, net2.yaml]\nknobs:", 1)
        space = Space.parse(text, folder / "space.yaml")
        return drive(space, runner_of(), Judging(cost_of, Toy()), budget=3, folder=folder, attributes={})

    begun(1, 2)
    (folder / "net2.yaml").write_text(yaml_of(Space.parse(SMALL).sample(3)[1], "segment"))
    with pytest.raises(InputError, match=r": its known network net2 is not what it was; put it back, or start another"):
        begun()
    assert begun(2).startswith("3 of 3")


def test_another_protocol_names_the_setting(folder: Path) -> None:
    def attributes(steps: int) -> dict[str, Any]:
        runner = runner_of().model_copy(update={"proxy": runner_of().proxy.model_copy(update={"steps": steps})})
        return {"protocol": str(steps), "runner": runner.model_dump(mode="json")}

    score = (OBJECTIVES["score"],)
    open_ledger(folder, score, attributes(300))
    with pytest.raises(InputError, match=r"runner\.proxy\.steps is 300 there and 200 here.*--name"):
        open_ledger(folder, score, attributes(200))


def test_equal_data_of_another_name_is_no_difference(folder: Path) -> None:
    def attributes(split: str, **proxy: Any) -> dict[str, Any]:
        runner = runner_of().model_copy(update={"proxy": runner_of().proxy.model_copy(update=proxy)})
        return {"protocol": str(proxy), "split": split, "runner": runner.model_dump(mode="json")}

    score = (OBJECTIVES["score"],)
    open_ledger(folder, score, attributes("s", data="my_images/", steps=300))
    with pytest.raises(InputError, match=r"in another way \(runner\.proxy\.steps is 300 there and 200 here\); start"):
        open_ledger(folder, score, attributes("s", data="my_images", steps=200))
    with pytest.raises(InputError, match=r"this study's split is s, but t was asked for"):
        open_ledger(folder, score, attributes("t", data="my_images", steps=300))


def test_events_tell_every_change(folder: Path) -> None:
    events: list[Event] = []
    search(folder, 4, on_event=events.append)
    told = [(event.trial.number, event.trial.state) for event in events if event.trial.state != "refused"]
    numbers = [number for number, state in told if state == "running"]
    assert told == [(number, state) for number in numbers for state in ("running", "trained")]
    assert [event.counts.done for event in events if event.trial.state == "trained"] == [1, 2, 3, 4]
    assert all(event.counts.running == (event.trial.state == "running") for event in events)
    assert events[-1].counts.budget == 4


def test_a_study_may_be_moved(folder: Path) -> None:
    search(folder, 2)
    search(folder.rename(folder.with_name("moved")), 3)
    assert len(calls_of(folder.with_name("moved"))) == 3


def test_a_driver_may_die_between_any_two_writes(tmp_path: Path) -> None:
    """The journal cut after each of its lines, as kill -9 leaves it: what follows is what would have followed."""
    limits = ("flops<=0.25G", "latency<=20ms")
    search(tmp_path / "whole", 3, limits=limits)
    whole = (tmp_path / "whole" / "study.journal").read_bytes().replace(b'"pid":', b'"pid":4194305,"was":')
    lines = whole.splitlines(keepends=True)
    first = next(index for index, line in enumerate(lines) if b'"op_code":4' in line)  # CREATE_TRIAL
    for kept in range(first, len(lines)):
        folder = tmp_path / str(kept) / "whole"
        folder.mkdir(parents=True)
        (folder / "study.journal").write_bytes(b"".join(lines[:kept]))
        ended = sum(b'"user_attr":{"outcome":' in line for line in lines[:kept])
        assert search(folder, 3, limits=limits).startswith("3 of 3")
        assert rows_of(read_study(folder)) == rows_of(read_study(tmp_path / "whole"))
        assert len(calls_of(folder)) == 3 - ended


def killed_inline(folder: Path, budget: int) -> None:
    """Start a driver that judges inside of itself, and kill it at the first candidate that it begins."""
    driver = start(folder, budget, "--engine", "inline", "--seconds", "0.2")
    deadline = time.monotonic() + 60
    while not [call for call in calls_of(folder) if call[2] == driver.pid] and time.monotonic() < deadline:
        time.sleep(0.01)
    driver.kill()
    driver.communicate()


def test_a_candidate_that_kills_its_drivers_is_blamed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "MOST_LOSSES", 2)
    for _ in range(2):
        killed_inline(folder, 2)
    search(folder, 2)
    failed = [trial for trial in read_study(folder).trials if trial.state == "failed"]
    assert [trial.attributes["reason"] for trial in failed] == ["2 drivers died while they ran it (out of memory?)"]
    assert len({digest for _, digest, *_ in calls_of(folder)}) == 2


def test_killed_and_resumed_is_uninterrupted(tmp_path: Path) -> None:
    for _ in range(3):
        killed_inline(tmp_path / "killed", 12)
        search(tmp_path / "killed", states_of(tmp_path / "killed").get("trained", 0) + 3)
    search(tmp_path / "killed", 12)
    search(tmp_path / "whole", 12)
    assert rows_of(read_study(tmp_path / "killed")) == rows_of(read_study(tmp_path / "whole"))


def test_a_proposal_takes_little_time(folder: Path) -> None:
    """CPU seconds per candidate from proposal to told, at 200 trials of a shipped space."""
    space = (Path(__file__).parent.parent / "spaces" / "hrvit.yaml").read_text()
    search(folder, 200, space=space, sampler="random")
    began = time.process_time()
    search(folder, 210, space=space, sampler="tpe")
    assert (time.process_time() - began) / 10 < 0.15


def test_a_driver_may_die_between_any_two_writes_of_a_ladder(tmp_path: Path) -> None:
    """The same with rungs: a trial that was judged at the last one is neither judged again nor let go."""
    search(tmp_path / "whole", 3, rungs=(10,))
    whole = (tmp_path / "whole" / "study.journal").read_bytes().replace(b'"pid":', b'"pid":4194305,"was":')
    lines = whole.splitlines(keepends=True)
    first = next(index for index, line in enumerate(lines) if b'{"rung":' in line)  # one goes on
    for kept in range(first, len(lines)):
        folder = tmp_path / str(kept) / "whole"
        folder.mkdir(parents=True)
        (folder / "study.journal").write_bytes(b"".join(lines[:kept]))
        through = any(b'{"rungs":' in line and line.count(b'"rung":') == 2 for line in lines[:kept])
        assert search(folder, 3, rungs=(10,)).startswith("3 of 3 candidates are done: 1 trained, 2 let go")
        assert rows_of(read_study(folder)) == rows_of(read_study(tmp_path / "whole"))
        assert len(calls_of(folder)) == (0 if through else 1)


def test_a_late_answer_is_dropped_if_another_driver_has_the_trial(folder: Path) -> None:
    """A driver slept past its lease; meanwhile another one judged the trial at its rung and sent it on."""
    judged: list[tuple[int, int]] = []

    def judged_late(candidate: Candidate) -> Judgement:
        found = judgement(candidate)
        judged.append((candidate.number, candidate.rung))
        if judged[-1] == (3, 0):
            other = open_ledger(candidate.folder, [OBJECTIVES[name] for name in ("score", "flops", "latency")], {})
            known = {key: value for key, value in found.attributes.items() if key != "outcome"}
            other.update(3, {**known, "rungs": [known["score"]], "owner": {"session": "other"}, "lease": 0})
            other.update(3, {"rung": 1})
        return found

    search(folder, 9, judged_late, rungs=(30,), sampler="random")
    trial = read_study(folder).trials[3]
    assert [score["rung"] for score in trial.attributes["rungs"]] == [0, 1]
    assert [rung for number, rung in judged if number == 3] == [0, 1]


def test_drivers_of_one_study_judge_alike(folder: Path) -> None:
    """Each has measured a pace of its own before either began: that of the study counts."""
    paces: list[float] = []

    def drive_at(pace: float, budget: int) -> None:
        def under(attributes: Mapping[str, Any]) -> Callable[[Candidate], Judgement]:
            paces.append(attributes["reference_ms"])
            return judgement

        judging = Judging(cost_of, judgement, under=under)
        drive(Space.parse(SPACE), runner_of(), judging, budget=budget, folder=folder, attributes={"reference_ms": pace})

    drive_at(10.2, 1)
    drive_at(11.2, 2)
    assert paces == [10.2, 10.2]


def test_latencies_of_another_processor_are_refused(folder: Path) -> None:
    search(folder, 1, attributes={"machine": {"processor": "one"}})
    with pytest.raises(InputError, match=r"latencies are those of another machine \(one\)"):
        search(folder, 2, attributes={"machine": {"processor": "other"}})
    search(folder.with_name("costs"), 1, objectives=("score", "flops"), attributes={"machine": {"processor": "one"}})
    search(folder.with_name("costs"), 2, objectives=("score", "flops"), attributes={"machine": {"processor": "other"}})
    assert states_of(folder.with_name("costs")) == {"trained": 2}
