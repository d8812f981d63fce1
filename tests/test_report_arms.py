"""The sampler's candidates against those that were drawn at random."""

import dataclasses
import html
from collections.abc import Callable

import pytest
from example_study import example_record

from hrsearch.report.arms import compared, verdict
from hrsearch.report.figures import Chart, sampler_against_random
from hrsearch.report.page import page
from hrsearch.study import Record, Trial


def with_control(record: Record, gain: Callable[[float], float]) -> Record:
    """Every fifth drawn candidate is the control arm's; `gain` maps the scores of the others."""
    trials = [_other(trial, gain) if trial.number % 5 else _random(trial) for trial in record.trials]
    return dataclasses.replace(record, trials=tuple(trials))


def _random(trial: Trial) -> Trial:
    return dataclasses.replace(trial, attributes={**trial.attributes, "arm": "random"})


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
    assert len(figure.traces) == 4


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


def test_without_a_control_arm_nothing_is_said() -> None:
    for record in (example_record(40), with_control(example_record(6), lambda score: score)):
        assert not [*verdict(record)]
        assert sampler_against_random(record) is None
        assert "earn its keep" not in page(record)
