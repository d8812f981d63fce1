"""What `--pick` gives, and the one line that it says when it gives nothing."""

import dataclasses

import pytest
from example_study import example_record

from hrsearch.errors import InputError
from hrsearch.pick import pick, value_of, winners
from hrsearch.study import Record, Trial

RECORD = example_record(30, refused=4, failed=3, running=1, seed=3)


def first(state: str) -> Trial:
    return next(trial for trial in RECORD.trials if trial.state == state)


def test_best_and_fastest_and_smallest_lead_their_column() -> None:
    table = RECORD.table()
    trained = table[table["state"] == "trained"]
    assert pick(RECORD, "best").number == trained.sort_values("score").iloc[-1]["number"]
    assert pick(RECORD, "fastest").number == trained.sort_values("latency_ms").iloc[0]["number"]
    assert value_of(pick(RECORD, "smallest"), "params") == trained["params"].min()


def test_knee_is_on_the_front() -> None:
    assert pick(RECORD, "knee") in RECORD.front()


def test_trial_by_number_and_by_published_name() -> None:
    number = first("trained").number
    assert pick(RECORD, f"trial:{number}").number == number
    assert pick(RECORD, "hrvit_b1").attributes["known"] == "hrvit_b1"


@pytest.mark.parametrize("choice", ["latency<=20ms", "latency=20ms", "latency<=20ms,params<=8M"])
def test_limit_gives_the_best_score_that_keeps_it(choice: str) -> None:
    table = RECORD.table()
    kept = table[(table["state"] == "trained") & (table["latency_ms"] <= 20)]
    if "params" in choice:
        kept = kept[kept["params"] <= 8e6]
    assert pick(RECORD, choice).number == kept.sort_values("score").iloc[-1]["number"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("trial:999", "has no trial 999; it has 0 to 37"),
        ("trial:first", "'first' is no trial number"),
        ("17", "did you mean 'trial:17'?"),
        ("fastet", "did you mean 'fastest'?"),
        ("hrvit_b2", "did you mean 'hrvit_b1'?"),
        ("", "write knee, best, fastest"),
        ("speed<=3", "objective 'speed' does not exist"),
        ("latency<=1ms", "no trained trial keeps latency<=1ms; the nearest is "),
        (f"trial:{first('failed').number}", "failed ("),
        (f"trial:{first('refused').number}", "was refused (flops<=7G does not hold (flops is 8.26G)), so it cannot"),
        (f"trial:{first('running').number}", "is still running, so it cannot be picked; the front begins with trial"),
    ],
)
def test_choice_that_gives_nothing_says_why_in_one_line(choice: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        pick(RECORD, choice)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_of_a_part_of_a_study_it_says_that_it_is_one() -> None:
    part = dataclasses.replace(RECORD, trials=RECORD.trials[3:6])
    with pytest.raises(InputError, match="has no trial 0; it has 3 of 3 to 5"):
        pick(part, "trial:0")


@pytest.mark.parametrize(("limit", "column"), [("params>=100G", "params"), ("flops>=100G", "flops")])
def test_the_nearest_to_a_limit_from_below_is_the_largest(limit: str, column: str) -> None:
    largest = max(RECORD.contenders, key=lambda trial: int(trial.attributes[column]))
    with pytest.raises(InputError, match=f"the nearest is {largest.name} with"):
        pick(RECORD, limit)


@pytest.mark.parametrize("choice", ["knee", "best", "latency<=20ms"])
def test_study_without_a_trained_trial_has_nothing_to_pick(choice: str) -> None:
    with pytest.raises(InputError, match=r"has no trained trial to pick from \(2 running\)"):
        pick(example_record(0, running=2), choice)
    assert winners(example_record(0)) == {}


def test_study_without_latencies_has_no_fastest_but_the_others() -> None:
    record = without_latency(example_record(8, objectives=("score", "params")))
    assert set(winners(record)) == {"knee", "best", "smallest"}
    with pytest.raises(InputError, match="knows no latency of its trials; it knows score, flops, params"):
        pick(record, "fastest")


def test_equals_are_decided_by_score_then_number() -> None:
    one, two = RECORD.front()[:2]
    same = {"latency": one.attributes["latency"]}
    twins = tuple(dataclasses.replace(trial, attributes={**trial.attributes, **same}) for trial in (two, one))
    assert pick(dataclasses.replace(RECORD, trials=twins), "fastest").number == one.number


def without_latency(record: Record) -> Record:
    return dataclasses.replace(
        record,
        trials=tuple(
            dataclasses.replace(trial, attributes={**trial.attributes, "latency": None}) for trial in record.trials
        ),
    )


def test_a_published_network_beyond_the_limits_is_shown_but_wins_nothing() -> None:
    best = {"score": {"value": 0.99}, "latency": {"median_ms": 0.1}, "violations": {"flops<=3G": 0.5}}
    trials = [
        dataclasses.replace(trial, attributes={**trial.attributes, **best}, values=(0.99, 1.0, 0.1))
        if trial.name == "hrvit_b1"
        else trial
        for trial in RECORD.trials
    ]
    record = Record(RECORD.name, RECORD.folder, RECORD.attributes, tuple(trials))
    known = pick(record, "hrvit_b1")
    assert not known.is_within_limits
    assert known not in record.front()
    assert known not in winners(record).values()
