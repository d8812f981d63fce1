"""Rungs: who goes on, what the sampler is told, and that an interruption changes nothing."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from test_search_driver import KNOWN, Interrupted
from toy_search import SPACE, calls_of, cost_of, judgement, rows_of, search

from hrsearch.candidate import Candidate, Judgement
from hrsearch.front import best_first, non_dominated
from hrsearch.objective import OBJECTIVES
from hrsearch.runner import Proxy, trunk_of
from hrsearch.search import proposals, rungs, samplers
from hrsearch.search.claims import Claims, Plan
from hrsearch.search.ledger import open_ledger
from hrsearch.search.proposals import How
from hrsearch.search.rungs import Ladder
from hrsearch.search.samplers import SAMPLERS
from hrsearch.space import Space
from hrsearch.study import Trial, read_study

LADDER = Ladder(3, 3.0, (OBJECTIVES["score"], OBJECTIVES["flops"]))
RUNGS = (10, 30)
ARCH = {"stages": [{"branches": [{"channels": 8, "stride": 4, "depth": 1}]}], "head": {}}


def trial_at(number: int, *scores: float, flops: int = 100, **attributes: Any) -> FrozenTrial:
    """A trial that was judged at so many rungs and waits."""
    rungs = [{"value": score} for score in scores]
    trial = create_trial(
        state=TrialState.RUNNING,
        user_attrs={"rungs": rungs, "rung": len(scores) - 1, "flops": flops, "arch": ARCH, **attributes},
    )
    trial.number = number
    return trial


def test_one_in_eta_goes_on_and_it_is_the_best_given_its_costs() -> None:
    trials = [trial_at(0, 0.5), trial_at(1, 0.4, flops=50)]
    assert LADDER.promoted(trials) == []  # of two none
    trials.append(trial_at(2, 0.45))
    [chosen] = LADDER.promoted(trials)
    assert chosen.number in (0, 1)  # trial 2 is beaten by trial 0 at the same costs
    sent = [trial for trial in trials if trial is not chosen] + [
        trial_at(chosen.number, 0.5, flops=chosen.user_attrs["flops"], rung=1)
    ]
    assert LADDER.promoted(sent) == []  # one of three is gone


def test_published_networks_always_go_on_and_take_nobody_s_place() -> None:
    trials = [trial_at(0, 0.1, flops=900, known="hrvit_b1"), trial_at(1, 0.5), trial_at(2, 0.4), trial_at(3, 0.3)]
    [first] = LADDER.promoted(trials)
    assert first.number == 0
    trials[0] = trial_at(0, 0.1, flops=900, known="hrvit_b1", rung=1)
    [second] = LADDER.promoted(trials)
    assert second.number == 1


def test_a_rung_compares_by_loss_where_it_is_told_to() -> None:
    judged = [trial_at(0, 0.5), trial_at(1, 0.4), trial_at(2, 0.3)]
    for trial, loss in zip(judged, (0.9, 0.8, 0.7), strict=True):
        trial.user_attrs["rungs"][0]["loss"] = loss
    assert [trial.number for trial in LADDER.best_first(judged, 0)] == [0, 1, 2]
    by_loss = replace(LADDER, by="loss")
    assert [trial.number for trial in by_loss.best_first(judged, 0)] == [2, 1, 0]


def with_knobs(number: int, width: int, *scores: float, flops: int = 100) -> FrozenTrial:
    """A drawn trial of this width that was judged at so many rungs."""
    trial = trial_at(number, *scores, flops=flops, params=flops)
    trial.distributions = {"width": CategoricalDistribution(range(20))}
    trial.params = {"width": width}
    trial.user_attrs["arch"] = {**ARCH, "stages": [{"branches": [{"channels": 8 + width, "stride": 4, "depth": 1}]}]}
    for score in trial.user_attrs["rungs"]:
        score["loss"] = 1 - score["value"]
    trial.state = TrialState.COMPLETE if len(scores) == 2 else TrialState.RUNNING
    return trial


def test_by_gain_those_go_on_who_should_add_most_to_the_front() -> None:
    two = Ladder(2, 3.0, LADDER.objectives, by="gain")
    # The wider, the better in the end; all are alike at the rung, but for one that is narrow and was lucky there.
    full = [with_knobs(width, width, 0.2, 0.02 * width, flops=100 + width) for width in range(0, 20, 2)]
    waiting = [
        with_knobs(20, 1, 0.21, flops=115),
        with_knobs(21, 19, 0.2, flops=115),
        with_knobs(22, 12, 0.2, flops=111),
    ]
    assert two.promoted([*full, *waiting]) == []  # ten of thirteen have gone on: more than one in three
    generous = replace(two, eta=1.1)
    [by_gain] = generous.promoted([*full, *waiting])
    [by_loss] = replace(generous, by="loss").promoted([*full, *waiting], most=2)
    assert (by_gain.number, by_loss.number) == (21, 20)
    both = generous.promoted([*full, *waiting], most=2)
    assert [trial.number for trial in both] == [21]  # eleven of thirteen may go on, and ten have
    generous = replace(generous, eta=1.0)
    assert [trial.number for trial in generous.promoted([*full, *waiting], most=2)] == [21, 22]
    told = generous.expected_values([*full, *waiting])
    assert told[21][0] > 0.3 > 0.2 > told[20][0]
    [early] = generous.promoted([*full[:4], *waiting])  # too few to forecast from: by the loss
    assert early.number == 20


def test_a_lucky_score_lets_nobody_wait_who_is_as_good_as_the_network_behind_it() -> None:
    """The wider, the better, but for one in full, whose score beats all that are wider."""
    two = Ladder(2, 1.0, LADDER.objectives, by="gain")
    scores = {width: 0.02 * width + (0.3 if width == 9 else 0.0) for width in (*range(10), 18)}
    full = [with_knobs(width, width, 0.2, score, flops=100 + width) for width, score in scores.items()]
    waiting = [with_knobs(20, 3, 0.2, flops=104), with_knobs(21, 14, 0.2, flops=114)]
    assert [trial.number for trial in two.promoted([*full, *waiting])] == [21]


def test_beside_a_likelihood_the_metric_at_a_rung_tells_what_its_loss_does_not() -> None:
    two = Ladder(2, 3.0, LADDER.objectives, by="gain")
    trials = [with_knobs(number, 8, 0.2, 0.3 + 0.02 * number) for number in range(10)]
    trials += [with_knobs(10, 8, 0.2), with_knobs(11, 8, 0.2)]
    for trial, metric in zip(trials, (*range(10), 1, 8), strict=True):  # all alike but for it
        trial.user_attrs["rungs"][0] |= {"metric": "likelihood", "metrics": {"likelihood": 0.2, "mIoU": 0.01 * metric}}
    told = two.expected_values(trials)
    assert told[10][0] < 0.35 < 0.45 < told[11][0]  # .32 and .46 in truth


def test_what_a_zero_cost_proxy_says_is_in_what_a_rung_lets_expect() -> None:
    two = Ladder(2, 3.0, LADDER.objectives, by="gain", zero_cost="synflow")
    trials = [with_knobs(number, 8, 0.2, 0.3 + 0.02 * number) for number in range(10)]
    trials += [with_knobs(10, 8, 0.2), with_knobs(11, 8, 0.2), with_knobs(12, 8, 0.2)]
    for trial, said in zip(trials, (*range(10), 1, 8, None), strict=True):  # all alike but for it
        trial.user_attrs["zero_cost"] = {"synflow": None if said is None else math.expm1(said)}
    told = two.expected_values(trials)
    assert told[10][0] < 0.35 < told[12][0] < 0.43 < told[11][0]  # .32 and .46 in truth, and nothing said
    for another in (replace(two, zero_cost="zico"), replace(two, zero_cost=None)):  # it was never asked
        told = another.expected_values(trials)
        assert told[10] == told[11] == told[12]
    for trial in trials[1:6]:  # of half of those in full nothing is known: the others still count
        del trial.user_attrs["zero_cost"]
    told = two.expected_values(trials)
    assert told[10][0] < told[11][0]
    del trials[0].user_attrs["zero_cost"]
    told = two.expected_values(trials)
    assert told[10] == told[11] == told[12]


def test_what_another_study_trained_is_on_the_front_beyond_which_a_gain_counts() -> None:
    two = Ladder(2, 1.0, LADDER.objectives, by="gain")
    full = [with_knobs(width, width, 0.2, 0.02 * width, flops=100 + width) for width in range(0, 20, 2)]
    waiting = [with_knobs(20, 19, 0.2, flops=115), with_knobs(21, 12, 0.2, flops=111)]
    copied = with_knobs(22, 19, flops=112)
    copied.user_attrs = {key: each for key, each in copied.user_attrs.items() if key not in ("rungs", "rung")}
    copied.user_attrs |= {"score": {"value": 0.5, "rung": 1}, "copied_from": "first:3"}
    copied.state = TrialState.COMPLETE
    assert [trial.number for trial in two.promoted([*full, *waiting])] == [20]
    assert [trial.number for trial in two.promoted([*full, *waiting, copied])] == [21]  # the other adds nothing to it


def test_what_was_found_for_many_workers_is_held_against_what_other_drivers_sent_on(tmp_path: Path) -> None:
    ladder = Ladder(2, 1.3, LADDER.objectives, by="gain")
    ledger = open_ledger(tmp_path, ladder.objectives, {})
    plan = Plan(Space.parse(SPACE), How("random", 0, ("score", "flops"), ladder=ladder), (), 0, cost_of)
    one, other = Claims(plan, ledger), Claims(plan, ledger)
    for width in range(0, 20, 2):
        ledger.add(with_knobs(width, width, 0.2, 0.02 * width, flops=100 + width))
    for number, width in enumerate((19, 17, 15, 7, 5, 3, 1), 10):
        ledger.add(with_knobs(number, width, 0.2, flops=95 + width))
    assert one.claim(workers=3) is not None  # of the three that may go on now; two more are found
    ledger.add(with_knobs(17, 18, 0.2, flops=90))  # comes late, and is the best; still two may go on
    assert [claimed is not None and claimed.number == 17 for claimed in (other.claim(), other.claim())] == [True, False]
    assert one.claim(workers=3) is None
    assert ladder.room(ledger.trials(), 0) == 0


def test_by_loss_a_line_through_those_in_full_says_what_others_would_score() -> None:
    two = Ladder(2, 3.0, LADDER.objectives, by="loss")
    full = [trial_at(number, 0.2, 0.9 - loss) for number, loss in enumerate((0.1, 0.2, 0.3, 0.4, 0.5, 0.6))]
    stopped = trial_at(9, 0.2)
    for trial, loss in zip([*full, stopped], (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8), strict=True):
        trial.user_attrs["rungs"][0]["loss"] = loss
    assert two.expected_values([*full, stopped])[9] == pytest.approx([0.1, 100])
    few = two.expected_values([*full[:3], stopped])  # too few: its own score, and the median gain
    assert few[9] == pytest.approx([0.2 + 0.5, 100])


def test_what_a_zero_cost_proxy_says_is_no_score() -> None:
    """Its units are its own: until there are enough trained in full for a line through them, nothing is expected."""
    screened = Ladder(2, 3.0, LADDER.objectives, screens=True)
    full = [trial_at(number, 1e6 * number, 0.1 * number) for number in range(1, 7)]
    for trial in full:
        trial.user_attrs["rungs"][0]["loss"] = -trial.user_attrs["rungs"][0]["value"]
    stopped = trial_at(9, 2.5e6)
    stopped.user_attrs["rungs"][0]["loss"] = -2.5e6
    assert screened.expected_values([*full, stopped])[9] == pytest.approx([0.25, 100])
    assert screened.expected_values([*full[:3], stopped]) == {}


def test_the_highest_rung_goes_first() -> None:
    low = [trial_at(number, 0.1 * number) for number in range(3)]
    high = [trial_at(3 + number, 0.5, 0.6 + 0.1 * number) for number in range(3)]
    [chosen] = LADDER.promoted([*low, *high])
    assert chosen.number == 5


def test_what_a_sampler_is_told_of_those_that_went_no_further() -> None:
    gone_on = [trial_at(0, 0.3, 0.5, 0.6), trial_at(1, 0.2, 0.3), trial_at(2, 0.3, 0.45)]
    stopped = trial_at(3, 0.25)
    found = LADDER.expected_values([*gone_on, stopped])
    assert found[3] == pytest.approx([0.25 + 0.15 + 0.1, 100])  # the median gains of both rungs
    assert found[1] == pytest.approx([0.3 + 0.1, 100])
    assert 0 not in found
    as_measured = Ladder(3, 3.0, LADDER.objectives, "measured").expected_values([*gone_on, stopped])
    assert as_measured[3] == pytest.approx([0.25, 100])
    assert Ladder(3, 3.0, LADDER.objectives, "nothing").expected_values([*gone_on, stopped]) == {}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=9))
def test_best_first_goes_front_by_front(points: list[tuple[int, int, int]]) -> None:
    directions = ["maximize", "minimize", "minimize"]
    order = best_first(points, directions)
    assert sorted(order) == list(range(len(points)))
    left = list(range(len(points)))
    while left:
        front = {left[place] for place in non_dominated([points[index] for index in left], directions)}
        taken, order = order[: len(front)], order[len(front) :]
        assert set(taken) == front
        left = [index for index in left if index not in front]


def test_within_a_front_what_adds_more_volume_comes_first() -> None:
    points = [(0.0, 0.0), (1.0, 1.0), (5.0, 5.0), (10.0, 10.0), (5.2, 5.2)]  # a score and its cost
    order = best_first(points, ["maximize", "minimize"])
    assert order.index(4) > order.index(0)
    assert order.index(2) > order.index(0)


def judged(folder: Path) -> list[Trial]:
    """The trials that no requirement refused."""
    return [trial for trial in read_study(folder).trials if trial.state != "refused"]


def reached(folder: Path) -> Counter[int]:
    """How many trials were judged at so many rungs."""
    return Counter(len(trial.attributes["rungs"]) for trial in judged(folder))


def test_search_with_rungs_trains_few_in_full(tmp_path: Path) -> None:
    end = search(tmp_path, 27, rungs=RUNGS, sampler="random")
    counts = reached(tmp_path)
    assert (counts[1], counts[2], counts[3]) == (18, 6, 3)
    states = Counter(trial.state for trial in judged(tmp_path))
    assert states == {"stopped": 24, "trained": 3}
    assert end.startswith("27 of 27 candidates are done: 3 trained, 24 let go at an earlier rung, 0 failed")
    assert search(tmp_path, 27, rungs=RUNGS, sampler="random") == end
    assert len(calls_of(tmp_path)) == 27 + 9 + 3
    assert {trial.attributes["score"]["rung"] for trial in read_study(tmp_path).trained} == {2}
    assert all("latency" in trial.attributes for trial in judged(tmp_path))


def test_a_larger_budget_goes_on(tmp_path: Path) -> None:
    search(tmp_path, 9, rungs=RUNGS, sampler="random")
    search(tmp_path, 18, rungs=RUNGS, sampler="random")
    counts = reached(tmp_path)
    assert counts.total() == 18
    assert counts[2] + counts[3] <= 6


def test_published_networks_climb_to_the_top(tmp_path: Path) -> None:
    search(tmp_path, 5, rungs=RUNGS, space=KNOWN)
    trials = read_study(tmp_path).trials
    assert [len(trial.attributes["rungs"]) for trial in trials[:2]] == [3, 3]


@pytest.mark.parametrize(
    ("sampler", "by", "draws"), [*((name, "loss", 1) for name in sorted(SAMPLERS)), ("evolve", "gain", 3)]
)
def test_interrupted_and_resumed_is_uninterrupted_with_rungs(
    sampler: str, by: str, draws: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "STARTUP", 4)
    monkeypatch.setattr(samplers, "POPULATION", (4, 4))
    monkeypatch.setattr(rungs, "ENOUGH_TO_FORECAST", 3)
    monkeypatch.setattr(proposals, "FEWEST_JUDGED", 5)
    told: dict[str, Any] = {"sampler": sampler, "rungs_by": by, "draws": draws, "rungs": RUNGS}
    budget = 12 if draws == 1 else 24
    search(tmp_path / "whole", budget, **told)
    evaluate = Interrupted(0, 3, 4, 9, 13, *((28,) if draws > 1 else ()))
    for _ in evaluate.at:
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "parts", budget, evaluate, **told)
    search(tmp_path / "parts", budget, evaluate, **told)
    whole, parts = read_study(tmp_path / "whole"), read_study(tmp_path / "parts")
    assert rows_of(parts) == rows_of(whole)
    for one, other in zip(judged(tmp_path / "whole"), judged(tmp_path / "parts"), strict=True):
        assert one.attributes["rungs"] == other.attributes["rungs"]


class Learns:
    """Scores .2 at every rung but the last, where it is .6."""

    def __call__(self, candidate: Candidate) -> Judgement:
        known = judgement(candidate).attributes
        value = 0.6 if candidate.rung == len(RUNGS) else 0.2
        return Judgement({**known, "score": {**known["score"], "value": value}})


@pytest.mark.parametrize(("limit", "trained"), [("score>=0.5", True), ("score>=0.7", False)])
def test_a_limit_on_the_score_is_asked_of_full_training(limit: str, trained: bool, tmp_path: Path) -> None:
    search(tmp_path, 9, Learns(), sampler="random", rungs=RUNGS, limits=(limit,))
    states = [trial.state for trial in read_study(tmp_path).trials if trial.attributes.get("rungs")]
    assert "stopped" in states
    assert ("trained" in states, "refused" in states) == (trained, not trained)


class FailsHigh:
    """Judges as the toy does, and fails everything that it is to train further."""

    def __call__(self, candidate: Candidate) -> Judgement:
        if candidate.rung:
            raise ValueError("too long")
        return judgement(candidate)


def test_what_fails_at_a_higher_rung_has_failed(tmp_path: Path) -> None:
    search(tmp_path, 9, FailsHigh(), rungs=RUNGS, sampler="random")
    assert Counter(trial.state for trial in judged(tmp_path)) == {"failed": 3, "stopped": 6}
    assert reached(tmp_path) == {1: 9}


@pytest.mark.parametrize(
    ("settings_", "told"),
    [
        ({"rungs": [50, 50]}, "rungs must grow"),
        ({"rungs": [200]}, "stay below steps"),
        ({"rungs": [60], "schedule": "cosine"}, "schedule: stable"),
        ({"rungs": [30]}, "warm-up"),
    ],
)
def test_ladders_that_cannot_be_climbed_are_told(settings_: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Proxy.model_validate({"steps": 150, "warmup": 30, **settings_})
    assert trunk_of(100) == 65
