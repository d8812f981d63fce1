"""The sampler's candidates against those that were drawn at random."""

import dataclasses
import html
from collections.abc import Callable

import pytest
from example_study import example_record

from hrsearch.report.arms import CHOICES, compared, verdict
from hrsearch.report.figures import Chart, growth_in_time, sampler_against_random, scores
from hrsearch.report.page import page
from hrsearch.study import Record, Trial


def with_control(record: Record, gain: Callable[[float], float]) -> Record:
    """Every fifth drawn candidate is the control arm's; `gain` maps the scores of the others."""
    trials = [_other(trial, gain) if trial.number % 5 else _random(trial) for trial in record.trials]
    return dataclasses.replace(record, trials=tuple(trials))


def _random(trial: Trial) -> Trial:
    known = trial.attributes.get("known")  # a published network is in no arm
    return trial if known else dataclasses.replace(trial, attributes={**trial.attributes, "arm": "random"})


def _other(trial: Trial, gain: Callable[[float], float]) -> Trial:
    score, *costs = trial.values
    return dataclasses.replace(trial, values=(gain(float(score or 0.0)), *costs))


@pytest.mark.parametrize(
    ("gain", "word"),
    [
        (lambda score: score + 0.1, "earned its keep: luck"),
        (lambda score: score, "cannot be told"),
        (lambda score: score - 0.2, "Random draws did better"),
    ],
)
def test_the_verdict_follows_what_the_arms_found(gain: Callable[[float], float], word: str) -> None:
    record = with_control(example_record(60, known=(), failed=3), gain)
    said = " ".join(verdict(record))
    assert word in said
    count = sum(trial.attributes.get("arm") == "random" and trial.state == "trained" for trial in record.trials)
    assert said.startswith(f"{count} candidates were drawn at random to hold the sampler (evolve) against")
    assert html.escape(said.split(" (95")[0]) in page(record)
    figure = sampler_against_random(record)
    assert isinstance(figure, Chart)
    assert [(trace.mode, trace.dashed) for trace in figure.traces] == [("band", 0), ("line", 0), ("line", 1)]


def test_where_neither_arm_found_anything_nothing_is_told() -> None:
    """Early with rungs: one candidate is trained in full, all others wait."""
    record = with_control(example_record(60, known=()), lambda score: score)
    first = next(trial.number for trial in record.trials if "arm" not in trial.attributes)
    trials = (t if t.number == first else dataclasses.replace(t, state="stopped") for t in record.trials)
    assert "cannot be told" in " ".join(verdict(dataclasses.replace(record, trials=tuple(trials))))


def test_equal_counts_are_compared_and_the_published_network_is_in_no_arm() -> None:
    record = with_control(example_record(60), lambda score: score)
    found = compared(record)
    assert found is not None
    drawn = [trial for trial in record.trials if trial.attributes.get("arm") and not trial.attributes.get("known")]
    assert found.count == len(drawn)
    for growth in (found.random, found.sampler, found.low, found.high):
        assert (growth[1:] >= growth[:-1]).all()
    assert (found.low <= found.sampler).all()
    assert (found.sampler <= found.high).all()


def test_candidates_that_a_rung_let_go_are_told_of() -> None:
    record = with_control(example_record(60), lambda score: score)
    assert "dominates nothing" not in " ".join(verdict(record))
    let_go = {trial.number for trial in record.trials if trial.attributes.get("arm") == "random"}
    let_go.discard(min(let_go))
    trials = (dataclasses.replace(t, state="stopped") if t.number in let_go else t for t in record.trials)
    said = " ".join(verdict(dataclasses.replace(record, trials=tuple(trials))))
    assert f"1 of the {len(let_go) + 1} random draws were trained in full, 48 of the sampler's 48." in said


def test_luck_is_never_ruled_out_by_a_few_hundred_shuffles() -> None:
    found = compared(with_control(example_record(60, known=()), lambda score: score + 1.0))
    assert found
    assert found.chance == 1 / (CHOICES + 1)


def test_time_is_what_judging_took_and_both_arms_are_shown() -> None:
    record = with_control(example_record(60), lambda score: score)
    figure = growth_in_time(record)
    assert isinstance(figure, Chart)
    ends = {trace.dashed: trace for trace in figure.traces if trace.mode == "steps"}
    at_random = sum(trial.attributes.get("arm") == "random" for trial in record.trials)
    assert ends[True].x[-1] == pytest.approx(at_random * 31 / 3600)  # the published network counts in neither
    assert ends[False].x[-1] == pytest.approx((59 - at_random) * 31 / 3600)
    assert all(trace.x[0] == trace.y[0] == 0 for trace in ends.values())
    alone = growth_in_time(example_record(20))
    assert isinstance(alone, Chart)
    assert not any(trace.dashed for trace in alone.traces)


def test_the_space_is_told_by_random_draws_after_the_first_rung() -> None:
    record = with_control(example_record(60, rungs=True), lambda score: score)
    figure = scores(record)
    assert isinstance(figure, Chart)
    (space,) = (trace for trace in figure.traces if trace.dashed)
    drawn = [t for t in record.trials if t.attributes.get("arm") == "random" and t.state == "trained"]
    assert list(space.x[1:]) == sorted(trial.attributes["rungs"][0]["value"] for trial in drawn)
    assert f"Dashed: the space, by {len(drawn)} random draws of which half reach" in page(record)
    assert "Random draws, which would show the space, are too few" in page(example_record(20))


def test_without_a_control_arm_nothing_is_said() -> None:
    for record in (example_record(40), with_control(example_record(6), lambda score: score)):
        assert not [*verdict(record)]
        assert sampler_against_random(record) is None
        assert "earn its keep" not in page(record)
