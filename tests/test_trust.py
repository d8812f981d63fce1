"""hrsearch calibrate and finalize: what the figures are, and the commands on a small study from end to end."""

import dataclasses
import html
import json
import re
import shutil
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from example_study import example_record, store
from hypothesis import given
from hypothesis import strategies as st
from inside import inside
from numpy.typing import NDArray
from scipy import stats
from trees import ade20k_tree, mask, masks_tree, picture

import hrsearch
from hrsearch.candidate import confirmed_weights, weights_path
from hrsearch.errors import InputError, NothingFits
from hrsearch.export.winner import Winner
from hrsearch.objective import LIKELIHOOD
from hrsearch.pick import passed_over, pick
from hrsearch.proxy.checkpoint import normalisation_of
from hrsearch.proxy.data import load_dataset
from hrsearch.ranking import Estimate, Values, estimate, kendall_tau, partial_tau, recall, regret
from hrsearch.report.trust import trust_card
from hrsearch.retrain import Done, calibrate, finalize, work
from hrsearch.retrain.calibrate import choose, step_seconds
from hrsearch.retrain.finalize import foremost, near_front, noise_of
from hrsearch.retrain.work import retraining_of
from hrsearch.runner import LONGEST_S
from hrsearch.search.ledger import noting
from hrsearch.storage import locked
from hrsearch.study import Record, read_study
from hrsearch.trust import card_of, confirmed, to_pick_from
from hrsearch.trust.card import AGAIN, Row, quarters, verdict_of
from hrsearch.trust.confirmed import chances, lucky, seeds_of, spread_of, student
from hrsearch.trust.repeats import CALIBRATION, key_of
from hrsearch.trust.words import json_of, lines_of, notes_of, title_of

SPACE = """
task: segment
knobs:
  width: [8, 12, 16, 20, 24, 28]
net:
  stages:
    - {link: conv_stem, channels: $width, stride: 4}
    - {link: hrnet, channels: $width, depth: 1, block: basic}
  head: {kind: segformer, width: 8}
"""
RUNNER = """
proxy: {image: 32, batch: 8, steps: 2, warmup: 1, train_images: 64, val_images: 16}
measure: {image: [32, 32], seconds: 0.1}
engine: {kind: inline}
"""
values = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=9)


@given(values)
def test_kendall_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs, dtype=float).T
    expected = stats.kendalltau(one, other).statistic
    assert kendall_tau(one, other) == pytest.approx(expected, nan_ok=True)
    twice = np.repeat(one, 2), np.repeat(other, 2)
    heavy = kendall_tau(one, other, np.full(len(one), 2.0))
    assert heavy == pytest.approx(kendall_tau(*twice), nan_ok=True)


def test_partial_tau_by_hand() -> None:
    """Taus 2/3, 2/3 and 1/3: (2/3 - 2/9) / sqrt((1 - 4/9) (1 - 1/9))."""
    truth, score, flops = (np.array(order, dtype=float) for order in ([1, 2, 3, 4], [1, 2, 4, 3], [2, 1, 4, 3]))
    assert kendall_tau(score, truth) == pytest.approx(2 / 3)
    assert kendall_tau(score, flops) == pytest.approx(2 / 3)
    assert kendall_tau(flops, truth) == pytest.approx(1 / 3)
    assert partial_tau(score, truth, flops) == pytest.approx((2 / 3 - 2 / 9) / np.sqrt(5 / 9 * 8 / 9))
    assert np.isnan(partial_tau(score, truth, score))


def test_what_a_choice_finds_and_loses() -> None:
    truth, score = np.array([0.1, 0.5, 0.4, 0.3]), np.array([0.2, 0.6, 0.1, 0.9])
    assert recall(score, truth, 2) == 0.5
    assert regret(score, truth) == pytest.approx(0.2)
    assert recall(truth, truth, 3) == 1
    assert regret(truth, truth) == 0


def test_equals_are_chosen_by_chance() -> None:
    truth, flat = np.array([0.4, 0.5, 0.1, 0.2]), np.zeros(4)
    assert recall(flat, truth, 1) == pytest.approx(0.25)
    assert recall(truth, flat, 2) == pytest.approx(0.5)
    assert recall(np.array([0.9, 0.5, 0.5, 0.1]), truth, 2) == pytest.approx(0.75)  # the first surely, or the second
    assert regret(flat, truth) == pytest.approx(0.2)
    assert regret(np.array([0.1, 0.9, 0.9, 0.1]), truth) == pytest.approx(0.2)


def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    generator, covered = np.random.default_rng(0), 0
    for repeat in range(60):
        sample = generator.normal(0, 1, 40)
        found = estimate(partial(_mean, sample), [range(40)], seed=repeat)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0 <= found.high
    assert covered >= 51  # of 57 expected: fewer happen one time in a hundred


def _mean(sample: Values, drawn: NDArray[np.int64]) -> float:
    return float(sample[drawn].mean())


def with_long_scores(record: Record, truth: Any, seeds: int = 1) -> Record:
    """The record after a calibration in which a trial scores what `truth` says of it."""
    for trial in quarters(record)[0] + quarters(record)[1]:
        for seed in range(seeds):
            score = {"value": truth(trial), "metric": "mIoU", "steps": 3000}
            record.attributes[f"calibration:10:{trial.number}:{seed}"] = score  # type: ignore[index]
    return record


def test_a_card_is_green_where_the_proxy_tells_all_and_red_where_it_tells_what_flops_do() -> None:
    record = with_long_scores(example_record(40), lambda trial: trial.attributes["score"]["value"], seeds=2)
    card = card_of(record)
    assert card is not None
    assert (card.verdict, card.networks, card.top) == ("green", 39, 10)
    again = card.baselines[-1]
    assert (again.name, again.tau and again.tau.value, again.tau_top and again.tau_top.value) == (AGAIN, 1, 1)
    assert AGAIN in notes_of(card)[-1]
    score = card.proxy[0]
    assert score.tau is not None
    assert score.tau_top is not None
    assert [score.tau.value, score.tau_top.value] == pytest.approx([1, 1])
    assert (score.recall.value, score.regret.value) == (1, 0)
    assert [each.value for each in (score.recall_top, score.regret_top) if each] == [1, 0]
    red = card_of(with_long_scores(example_record(40), lambda trial: trial.attributes["flops"] / 1e10))
    assert red is not None
    assert red.verdict == "red"
    assert "adds nothing" in red.words or "to the letter" in red.words
    names = [row.name for row in red.baselines]
    assert names == ["params", "FLOPs", "latency", "at random"]
    assert AGAIN not in "".join(lines_of(red))  # with one seed


def test_the_top_quarter_has_figures_of_its_own() -> None:
    """Right but among the best ten, of which the last by the score is the best: two of ten are looked for."""
    record = example_record(40)
    top, _ = quarters(record)
    turned = {trial.number: trial.attributes["score"]["value"] + 1 for trial in top}
    turned = dict(zip(turned, reversed(turned.values()), strict=True))
    card = card_of(with_long_scores(record, lambda trial: turned.get(trial.number, trial.attributes["score"]["value"])))
    assert card is not None
    score, chance = card.proxy[0], next(row for row in card.baselines if row.name == "at random")
    scores = list(turned.values())
    assert (card.top, card.best, card.best_top, score.recall.value) == (10, 9, 2, 8 / 9)
    told = [score.tau_top, score.recall_top, score.regret_top, chance.recall_top, chance.regret_top]
    expected = [-1, 0, scores[-1] - scores[0], 0.2, scores[-1] - np.mean(scores)]
    assert [each.value for each in told if each] == pytest.approx(expected)
    assert score.regret_top is not None
    assert None not in (score.regret_top.low, score.regret_top.high)
    text, told_all = "\n".join(lines_of(card)), json.loads(json.dumps(json_of(card)))
    assert re.search(r"^in the top quarter, by +Kendall tau +finds of its best 2 +mIoU lost$", text, re.MULTILINE)
    assert re.search(r"^score after 300 steps +-1\.00 \(.*\) +0% \(0% to .*\) +0\.\d{3} \(", text, re.MULTILINE)
    assert told_all["proxy"][0]["recall_top"]["value"] == 0
    assert "in the top quarter, by" in str(trust_card(record))


def test_a_likelihood_is_held_against_the_metric_after_long_training() -> None:
    record = example_record(24)
    for trial in record.trials:
        score = trial.attributes["score"]
        metrics = {"mIoU": 1 - score["value"], LIKELIHOOD: score["value"]}  # at odds with one another
        trial.attributes["score"] = {**score, "metric": LIKELIHOOD, "metrics": metrics}  # type: ignore[index]
    found = with_long_scores(record, lambda trial: trial.attributes["score"]["value"], seeds=2)
    for key, score in list(found.attributes.items()):
        if key.startswith(CALIBRATION):
            metrics = {"mIoU": score["value"], LIKELIHOOD: 0.5}
            found.attributes[key] = {**score, "value": 0.5, "metric": LIKELIHOOD, "metrics": metrics}  # type: ignore[index]
    card = card_of(found)
    assert card is not None
    assert card.metric == "mIoU"
    taus = {row.name: row.tau.value for row in (*card.proxy, *card.baselines) if row.tau}
    assert taus["likelihood after 300 steps"] == pytest.approx(1)
    assert taus["mIoU after 300 steps"] == pytest.approx(-1)
    assert taus[AGAIN] == pytest.approx(1)


def test_a_second_long_training_is_judged_as_the_proxy_is() -> None:
    """Networks count as in the proxy's tau, and those that were trained long once are left out."""
    record = with_long_scores(example_record(40), lambda trial: trial.attributes["score"]["value"], seeds=2)
    top = [trial.number for trial in quarters(record)[0]]
    for place, number in enumerate(top):  # the other seed has the best quarter the other way round
        other = record.attributes[f"calibration:10:{top[-1 - place]}:0"]
        record.attributes[f"calibration:10:{number}:1"] = other  # type: ignore[index]
    few, once = (dataclasses.replace(record, attributes=dict(record.attributes)) for _ in range(2))
    for trial in quarters(record)[1][::2]:  # of the rest half, so that each of them stands for two
        del once.attributes[f"calibration:10:{trial.number}:1"]  # type: ignore[attr-defined]
        for seed in (0, 1):
            del few.attributes[f"calibration:10:{trial.number}:{seed}"]  # type: ignore[attr-defined]
    whole, part, left = (card for card in map(card_of, (record, few, once)) if card)
    assert AGAIN not in {row.name for row in left.baselines}  # which would be of fewer networks than the others
    assert "1 to 2 other seeds" in title_of(left)
    taus = [(card.baselines[-1].tau, card.baselines[-1].tau_top) for card in (whole, part)]
    (tau, top_tau), (tau_of_few, _) = taus
    assert tau is not None
    assert top_tau is not None
    assert tau_of_few is not None
    assert part.networks < whole.networks
    assert tau_of_few.value == pytest.approx(tau.value, abs=0.02)
    assert top_tau.value == -1


def test_who_ends_alike_has_no_order() -> None:
    card = card_of(with_long_scores(example_record(24), lambda trial: 0.5))
    assert card is not None
    assert card.verdict == "amber"
    assert "there is no order that a proxy could tell" in card.words


def test_a_rung_that_tells_nothing_does_not_speak_for_the_scores() -> None:
    record = with_long_scores(example_record(40), lambda trial: trial.attributes["score"]["value"])
    card = card_of(record)
    assert card is not None
    red = dataclasses.replace(card.proxy[0], adds=Estimate(-0.2, -0.5, 0.1), beyond="FLOPs")
    early = dataclasses.replace(card, proxy=(red, card.proxy[0]), verdict="red")
    assert "give the rung more steps" in early.words
    assert "Do not trust" not in early.words
    assert "Do not trust this front's scores" in dataclasses.replace(early, proxy=(red,)).words


def test_few_networks_of_the_top_quarter_have_none() -> None:
    card = card_of(with_long_scores(example_record(12), lambda trial: trial.attributes["score"]["value"]))
    assert card is not None
    assert card.top == 3
    assert {(row.tau_top, row.recall_top, row.regret_top) for row in card.proxy + card.baselines} == {(None,) * 3}
    assert not any("in the top quarter" in line for line in lines_of(card))


def test_an_order_at_random_is_not_green() -> None:
    noise = np.random.default_rng(1)
    card = card_of(with_long_scores(example_record(40), lambda trial: float(noise.random())))
    assert card is not None
    assert card.verdict != "green"


def test_rungs_have_rows_of_their_own() -> None:
    record = example_record(24)
    for trial in record.trials:
        score = trial.attributes["score"]
        later = [score] if trial.number % 2 else []
        trial.attributes["rungs"] = [{**score, "value": -score["value"], "steps": 100}, *later]  # type: ignore[index]
    card = card_of(with_long_scores(record, lambda trial: trial.attributes["score"]["value"]))
    assert card is not None
    first, last = card.proxy
    assert (first.name, last.name) == ("score after 100 steps (rung 0)", "score after 300 steps (rung 1)")
    assert first.tau is not None
    assert last.tau is not None
    assert [first.tau.value, last.tau.value] == pytest.approx([-1, 1])
    assert card.verdict == "red"
    runner = record.attributes["runner"]
    by_loss = {"proxy": {**runner["proxy"], "rungs": [100]}, "search": {**runner["search"], "rungs_by": "loss"}}
    for trial in record.trials:
        trial.attributes["rungs"][0]["loss"] = -trial.attributes["score"]["value"]
    record.attributes["runner"] = {**runner, **by_loss}  # type: ignore[index]
    loss = card_of(record)
    assert loss is not None
    assert loss.proxy[0].name == "loss after 100 steps (rung 0)"
    assert loss.proxy[0].tau is not None
    assert loss.proxy[0].tau.value == pytest.approx(1)


def taken_over(record: Record, *numbers: int) -> Record:
    """The record by training loss, after 100 steps and in full, some networks taken over from another study."""
    for trial in record.trials:
        score = trial.attributes["score"]
        score |= {"rung": 1, "loss": 0.3}
        first = {**score, "rung": 0, "value": 0.1, "loss": 1 - score["value"], "steps": 100}
        is_copied = trial.number in numbers
        name, known = ("copied_from", f"first:{trial.number}") if is_copied else ("rungs", [first, score])
        trial.attributes[name] = known  # type: ignore[index]
    runner = record.attributes["runner"]
    by_loss = {"proxy": {**runner["proxy"], "rungs": [100]}, "search": {**runner["search"], "rungs_by": "loss"}}
    return dataclasses.replace(record, attributes={**record.attributes, "runner": {**runner, **by_loss}})


def test_what_was_taken_over_reached_the_last_rung_and_tells_nothing_of_the_first() -> None:
    record = taken_over(example_record(24, known=()), *range(8))
    for trial in record.trials[16:]:
        trial.attributes["rungs"].pop()  # let go at the first rung
    in_full = sorted(record.trials[:16], key=lambda trial: -trial.attributes["score"]["value"])
    assert [trial.number for trial in quarters(record)[0]] == [trial.number for trial in in_full[:6]]
    card = card_of(with_long_scores(record, lambda trial: trial.attributes["score"]["value"]))
    assert card is not None
    assert [row.name for row in card.proxy] == [
        "loss after 100 steps (rung 0)",
        "score after 300 steps (rung 1)",
    ]
    assert [row.networks for row in card.proxy] == [16, 16]
    assert [row.tau.value for row in card.proxy if row.tau] == pytest.approx([1, 1])


def test_a_choice_at_a_later_rung_is_one_among_all() -> None:
    """The truly best half were let go at the first rung: the score finds none of them, though it orders its own."""
    record = taken_over(example_record(24, known=()))
    for trial in record.trials[12:]:
        trial.attributes["rungs"].pop()
    long = {t.number: t.attributes["score"]["value"] + (1.0 if t.number >= 12 else 0.0) for t in record.trials}
    card = card_of(with_long_scores(record, lambda trial: long[trial.number]))
    assert card is not None
    last = card.proxy[-1]
    assert (last.networks, card.networks) == (12, 24)
    assert last.tau is not None
    assert last.tau.value == pytest.approx(1)
    assert (last.recall.value, last.regret.value > 0.5) == (0, True)
    assert any(line.startswith("score after 300 steps (rung 1), of 12 judged ") for line in lines_of(card))


@pytest.mark.parametrize(("count", "verdict"), [(9, "amber"), (10, "green")])
def test_green_takes_more_than_a_few_networks(count: int, verdict: str) -> None:
    """An interval of a few is far too narrow."""
    record = example_record(count, known=())
    card = card_of(with_long_scores(record, lambda trial: trial.attributes["score"]["value"]))
    assert card is not None
    assert card.verdict == verdict


def test_a_rung_of_which_too_few_are_known_has_no_row() -> None:
    card = card_of(with_long_scores(taken_over(example_record(12, known=()), *range(9)), lambda trial: trial.number))
    assert card is not None
    assert [row.name for row in card.proxy] == ["score after 300 steps (rung 1)"]
    few = taken_over(example_record(6, known=()), 0, 1, 2)
    for trial in few.trials[3:]:
        trial.attributes["rungs"].pop()
    none = card_of(with_long_scores(few, lambda trial: trial.number))
    assert none is not None
    assert (none.proxy, none.verdict) == ((), "amber")
    assert "AMBER: No rung has judged 4 of these 6 networks: more networks (-k) will tell an order." in lines_of(none)
    assert "No rung has judged 4" in str(trust_card(few))


def test_half_of_the_chosen_are_of_the_best_quarter() -> None:
    record = example_record(41)
    top, rest = quarters(record)
    assert (len(top), len(rest)) == (10, 30)  # the published network is not of the study
    chosen = choose(record, 12)
    assert len({trial.number for trial in chosen}) == 12
    assert sum(trial in top for trial in chosen) == 6
    kept = choose(record, 12, {trial.number for trial in chosen})
    assert kept == chosen
    assert len(choose(record, 100)) == 40
    with pytest.raises(InputError, match="holds 2 that were scored: an order needs at least 4"):
        choose(example_record(3), 12)


def test_what_trains_far_slower_than_others_is_not_chosen_where_there_is_another() -> None:
    record = example_record(41)
    rest = {trial.number for trial in quarters(record)[1]}  # of whom each stands for five
    first = {trial.number for trial in choose(record, 12)}
    for trial in record.trials:
        hindered = trial.number in first & rest
        trial.attributes["score"].update(seconds=400.0 if hindered else 100.0, steps=100)
    again = {trial.number for trial in choose(record, 12)}
    assert len(again) == 12
    assert not again & first & rest
    assert again - rest == first - rest
    assert {trial.number for trial in choose(record, 12, first)} == first  # what was trained is not given up
    assert len(choose(record, 40)) == 40


def confirmed_record(scores: dict[int, list[float]], count: int = 12) -> Record:
    """A study whose front was confirmed with these scores."""
    record = example_record(count, known=())
    record.attributes["confirmation"] = {"times": 3, "seeds": 3, "split": "proxy", "noise": 0.02}  # type: ignore[index]
    for number, found in scores.items():
        for seed, value in enumerate(found):
            score = {"value": value, "metric": "mIoU", "steps": 900, "seed": seed}
            record.attributes[f"confirmation:3:{number}:{seed}"] = score  # type: ignore[index]
    return record


def test_a_confirmed_score_is_a_mean_with_an_interval() -> None:
    numbers = [trial.number for trial in example_record(12, known=()).front()]
    record = confirmed_record({number: [0.40, 0.42, 0.44] for number in numbers})
    view = confirmed(record)
    assert {trial.number for trial in view.trials} == set(numbers)
    score = view.trials[0].attributes["score"]
    half = stats.t.ppf(0.975, 2 * len(numbers)) * 0.02 / np.sqrt(3)
    assert score["value"] == pytest.approx(0.42)
    assert (score["low"], score["high"]) == pytest.approx((0.42 - half, 0.42 + half), rel=0.01)
    assert score["seed"] == 2  # of the weights that are kept
    assert view.trials[0].values[0] == pytest.approx(0.42)
    plain = example_record(12)
    assert confirmed(plain) is plain


def test_the_interval_of_a_score_ends_where_scores_do() -> None:
    for values, end in (([0.90, 0.98, 0.99], "high"), ([0.0, 0.01, 0.10], "low")):
        record = confirmed_record({trial.number: values for trial in example_record(2, known=()).front()}, count=2)
        score = confirmed(record).trials[0].attributes["score"]
        assert score[end] == {"high": 1.0, "low": 0.0}[end]
        assert 0 <= score["low"] < score["value"] < score["high"] <= 1


def test_students_t() -> None:
    for freedom in (1, 2, 3, 4, 5, 8, 30):
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.002)
    assert spread_of([{0: {"value": 1.0}, 1: {"value": 3.0}}, {0: {"value": 5.0}}]) == pytest.approx((2**0.5, 1))


def test_the_lucky_are_dropped() -> None:
    best = example_record(12, known=()).front()[0]
    cheapest = min(example_record(12, known=()).trained, key=lambda trial: trial.attributes["latency"]["median_ms"])
    record = confirmed_record({best.number: [0.1, 0.11, 0.1], cheapest.number: [0.5, 0.51, 0.5]})
    odds = chances(confirmed(record))
    assert odds[cheapest.number] == 1
    assert odds[best.number] == 0
    assert [trial.number for trial in lucky(record)] == [best.number]
    assert [trial.number for trial in confirmed(record).front()] == [cheapest.number]


def test_equals_share_the_front_by_chance() -> None:
    """Where one network is cheaper, the other is on the front when its score is higher: half of the time."""
    record = example_record(2, known=(), objectives=("score", "params"))
    small, large = sorted(record.trained, key=lambda trial: trial.attributes["params"])
    same = [0.38, 0.40, 0.42]
    record.attributes["confirmation"] = {"times": 3, "seeds": 3, "split": "proxy", "noise": 0.02}  # type: ignore[index]
    for trial in (small, large):
        for seed, value in enumerate(same):
            key = f"confirmation:3:{trial.number}:{seed}"
            record.attributes[key] = {"value": value, "metric": "mIoU", "steps": 900}  # type: ignore[index]
    odds = chances(confirmed(record))
    assert odds[small.number] == 1
    assert 0.3 < odds[large.number] < 0.6


def test_what_is_as_good_within_the_noise_of_a_score_is_near_the_front() -> None:
    record = example_record(30, known=())
    assert {trial.number for trial in near_front(record, 0.0)} == {trial.number for trial in record.front()}
    wide = [trial.number for trial in near_front(record, 0.03)]
    assert {trial.number for trial in record.front()} < set(wide)
    assert len(near_front(record, 10.0)) > len(wide)
    first = record.front()[0]
    again = {f"confirmation:again:{first.number}": {"value": first.attributes["score"]["value"] + 0.04}}
    assert noise_of(record.front(), again) == pytest.approx(0.04 / 2**0.5)


def test_the_front_is_confirmed_before_what_is_near_it() -> None:
    record = example_record(30, known=())
    near, front = near_front(record, 10.0), {trial.number for trial in record.front()}
    assert len(near) > 2 * len(front)
    few, many = (foremost(record, near, most) for most in (len(front) - 1, 2 * len(front)))
    assert {trial.number for trial in few} < front < {trial.number for trial in many}
    assert [len(few), len(many)] == [len(front) - 1, 2 * len(front)]
    assert foremost(record, near, 999) == near


def test_a_trial_that_was_not_confirmed_can_be_picked_by_its_number() -> None:
    record = confirmed_record({3: [0.4, 0.41, 0.42]})
    assert [trial.number for trial in to_pick_from(record, "knee").trials] == [3]
    assert [trial.number for trial in to_pick_from(record, "trial:3").trials] == [3]
    assert to_pick_from(record, "trial:4") is record


def test_what_is_not_confirmed_on_the_front_is_told(tmp_path: Path) -> None:
    """Of a front of which the slowest network alone is confirmed, by `--most 1` or because the search went on."""
    front = sorted(example_record(12, known=()).front(), key=lambda trial: trial.attributes["latency"]["median_ms"])
    quick, slow = front[0], front[-1]
    record = confirmed_record({slow.number: [0.4, 0.41, 0.42]})
    limit = f"latency<={quick.attributes['latency']['median_ms'] + 0.001:.4f}ms"
    said = rf"no confirmed .* latency.*; the nearest is {slow.name} with .*; others of the front do, not confirmed: "
    how = rf"hrsearch finalize without --most confirms them, --pick trial:{quick.number} takes one as it is"
    with pytest.raises(NothingFits, match=rf"^{said}{quick.name} \({how}\)$"):
        pick(to_pick_from(record, limit), limit)
    assert pick(to_pick_from(record, f"trial:{quick.number}"), f"trial:{quick.number}").number == quick.number
    store(dataclasses.replace(record, folder=tmp_path / "studies" / "example"))
    best = inside(tmp_path, "export", "example", "--pick", "best", "--to", "winner")
    assert best.returncode == 0, best.stderr
    assert len([line for line in best.stderr.splitlines() if "on the front, but not confirmed: trial " in line]) == 1
    named = inside(tmp_path, "export", "example", "--pick", f"trial:{slow.number}", "--to", "winner")
    assert (named.returncode, "not confirmed" in named.stderr) == (0, False)


def test_of_a_front_that_is_confirmed_as_a_whole_nothing_is_told() -> None:
    record = confirmed_record({trial.number: [0.4, 0.41] for trial in example_record(12, known=()).front()})
    view = to_pick_from(record, "best")
    assert (view.unconfirmed, passed_over(view, "best"), passed_over(record, "best")) == ((), None, None)
    with pytest.raises(NothingFits, match=r"no confirmed trial keeps .*; the nearest is trial \d+ with [^;]*$"):
        pick(view, "latency<=0.1ms")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of six networks."""
    home = tmp_path_factory.mktemp("home")
    (home / "space.yaml").write_text(SPACE)
    (home / "runner.yaml").write_text(RUNNER)
    ran = inside(home, "run", "space.yaml", "--runner", "runner.yaml", "--budget", "6")
    assert ran.returncode == 0, ran.stderr
    return home


def results_in(home: Path, kind: str) -> list[str]:
    return sorted(key for key in read_study(home / "studies" / "space").attributes if key.startswith(f"{kind}:"))


def test_calibrate_prints_a_card_and_goes_on(home: Path) -> None:
    done = inside(home, "calibrate", "space", "-k", "4", "--times", "2")
    assert done.returncode == 0, done.stderr
    assert "4 networks (2 of the top quarter), standing for 6, were trained 2 times as long" in done.stdout
    assert "score after 2 steps" in done.stdout
    assert re.search(r"^(GREEN|AMBER|RED): The |^AMBER: 4 networks", done.stdout, re.MULTILINE)
    assert re.search(r"^trainings of .* of one worker in all", done.stderr, re.MULTILINE)
    before = results_in(home, "calibration")
    assert len(before) == 4
    again = inside(home, "calibrate", "space", "-k", "5", "--times", "2", "--zero-cost", "--json")
    assert again.returncode == 0, again.stderr
    card = json.loads(again.stdout)
    assert card["networks"] >= 5
    assert {row["name"] for row in card["baselines"]} >= {"params", "FLOPs", "at random", "naswot", "synflow", "zico"}
    after = results_in(home, "calibration")
    assert set(before) < set(after)
    page = (home / "studies" / "space" / "report.html").read_text()
    assert "How far the scores can be trusted" in page
    record = read_study(home / "studies" / "space")
    found = card_of(record)
    assert found is not None
    assert title_of(found) in page
    assert found.words in html.unescape(page)


def test_what_is_trained_before_an_interruption_is_kept(home: Path) -> None:
    study = hrsearch.Study(home / "studies" / "space", "")
    seen: list[str] = []

    def interrupted(one: Done) -> None:
        seen.append(one.key)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(study.folder, 4, 3, 1, (), interrupted)
    assert [key for key in results_in(home, "calibration") if key.startswith("calibration:3:")] == sorted(seen)
    assert card_of(study.record, 3) is None
    later: list[str] = []
    left: list[float] = []
    calibrate(study.folder, 4, 3, 1, (), lambda one: later.append(one.key), left.append)
    assert len(later) == 2
    calibrate(study.folder, 4, 3, 1, (), on_start=left.append)
    assert left[0] > 0
    assert left[1:] == [0.0]  # all are known
    assert not set(later) & set(seen)
    assert study.calibrate(4, 3).networks == 4


def test_seeds_that_nobody_asks_for_take_no_time_off(home: Path, tmp_path: Path) -> None:
    """What was trained with other seeds is no training that is spared."""
    shutil.copytree(home / "studies" / "space", tmp_path / "study")
    record = read_study(tmp_path / "study")
    chosen = choose(record, 4)
    known = {0: chosen[:2], 1: chosen, 2: chosen}
    note = noting(record.folder)
    note({key_of(CALIBRATION, 7, one.number, seed): {"value": 0.5} for seed in known for one in known[seed]})

    def tell(seconds: float) -> None:
        left.append(seconds)
        raise KeyboardInterrupt  # nothing need be trained

    left: list[float] = []
    for seeds in (1, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            calibrate(record.folder, 4, 7, seeds, on_start=tell)
    steps = 7 * record.attributes["runner"]["proxy"]["steps"]
    once = [steps * sum(map(step_seconds, trials)) for trials in (chosen[2:], chosen)]
    assert left == pytest.approx([once[0], once[0], once[0] + once[1]])
    assert once[0] > 0


def test_bad_questions_are_one_line(home: Path) -> None:
    few = inside(home, "calibrate", "space", "-k", "3")
    assert (few.returncode, len(few.stderr.splitlines())) == (2, 1)
    assert "-k 3: an order needs at least 4 networks" in few.stderr
    none = inside(home, "finalize", "spac")
    assert (none.returncode, len(none.stderr.splitlines())) == (2, 1)
    assert "did you mean 'space'?" in none.stderr


def test_finalize_confirms_the_front_and_export_takes_it(home: Path) -> None:
    done = inside(home, "finalize", "space", "--seeds", "2", "--times", "2")
    assert done.returncode == 0, done.stderr
    assert "the confirmed front:" in done.stdout
    before = results_in(home, "confirmation")
    assert inside(home, "finalize", "space", "--seeds", "2", "--times", "2").returncode == 0
    assert results_in(home, "confirmation") == before  # nothing is trained twice
    record = read_study(home / "studies" / "space")
    trained = [record.attributes[key] for key in before if key.startswith("confirmation:2:")]
    assert record.attributes["split"] not in {one["data"] for one in trained}  # other scenes than those of the search
    view = confirmed(record)
    assert {trial.number for trial in record.front()} <= {trial.number for trial in view.trials}
    assert all(confirmed_weights(record.folder, trial.number, 2).is_file() for trial in view.trials)
    assert not (record.folder / "confirming").exists()
    more = dataclasses.replace(view.trials[0], attributes={"score": {"seeds": 3}})  # of a call with three
    assert seeds_of(dataclasses.replace(view, trials=(more, *view.trials))) == "2 to 3"
    assert "with 2 seeds; the confirmed front:" in done.stdout
    assert "The confirmed front" in (record.folder / "report.html").read_text()
    best = inside(home, "export", "space", "--pick", "best", "--to", "winner")
    assert best.returncode == 0, best.stderr
    score = json.loads((home / "winner" / "numbers.json").read_text())["score"]
    assert (score["steps"], score["seeds"], score["split"]) == (4, 2, "official")
    number = json.loads((home / "winner" / "numbers.json").read_text())["trial"]
    weights = (home / "winner" / "weights.safetensors").read_bytes()
    assert weights == confirmed_weights(record.folder, number, 2).read_bytes()
    assert "mean of 2 seeds" in (home / "winner" / "README.md").read_text()
    assert hrsearch.load_arch(home / "winner" / "arch.yaml").digest() == record.trial(number).attributes["digest"]


def test_each_length_keeps_its_own_weights(home: Path) -> None:
    """Also when one was interrupted and another ended in between."""
    folder, stop = home / "studies" / "space", 2

    def interrupted(one: Done) -> None:
        nonlocal stop
        stop -= one.key.startswith("confirmation:4:")
        if not stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finalize(folder, 2, 4, interrupted, most=1)
    first = weights_after(folder, 3)
    assert weights_after(folder, 4) != first
    assert weights_after(folder, 3) == first
    assert not (folder / "confirming").exists()


def test_what_was_validated_on_other_images_is_trained_again(home: Path) -> None:
    folder, seen = home / "studies" / "space", list[str]()
    (trial,) = finalize(folder, 2, 1, most=1).trials
    key = f"confirmation:1:{trial.number}:0"
    noting(folder)({key: {**read_study(folder).attributes[key], "split": "proxy"}})
    finalize(folder, 2, 1, lambda one: seen.append(one.key), most=1)
    assert seen == [key]


def test_what_was_validated_before_images_were_added_is_trained_again_and_not_pooled(tmp_path: Path) -> None:
    """Also a seed that is not asked for any more, and a score of an older study, which does not name its images."""
    root = searched_on(tmp_path, ade20k_tree) / "ADEChallengeData2016"
    folder, seen = tmp_path / "studies" / "space", list[str]()
    finalize(folder, 3, 1)
    picture(root / "images" / "validation" / "ADE_validat_00000099.jpg")
    mask(root / "annotations" / "validation" / "ADE_validat_00000099.png", (0, 1))
    (trial,) = finalize(folder, 2, 1, lambda one: seen.append(one.key)).trials
    assert seen == ["confirmation:1:0:0", "confirmation:1:0:1"]
    attributes = read_study(folder).attributes
    assert attributes["confirmation"]["data"] == attributes[seen[0]]["data"] != attributes["confirmation:1:0:2"]["data"]
    assert trial.attributes["score"]["seeds"] == 2
    older = {name: value for name, value in attributes[seen[0]].items() if name not in ("split", "data")}
    noting(folder)({seen[0]: older})
    assert finalize(folder, 2, 1, lambda one: seen.append(one.key)).trials[0].attributes["score"]["seeds"] == 2
    assert len(seen) == 2


def weights_after(folder: Path, times: int) -> bytes:
    """Those of the only network that is confirmed, as an export takes them."""
    (trial,) = finalize(folder, 2, times, most=1).trials
    record = read_study(folder)
    found = Winner(record, confirmed(record).trial(trial.number)).weights
    assert found == confirmed_weights(folder, trial.number, times)
    return found.read_bytes()


def test_two_at_once_and_too_few_are_refused(home: Path) -> None:
    folder = home / "studies" / "space"
    with locked(folder / ".finalize"), pytest.raises(InputError, match=r"'space': another finalize is at work on it"):
        finalize(folder)
    with pytest.raises(InputError, match="seeds: got 1, but how far a score is chance is told by 2 at least"):
        finalize(folder, seeds=1)
    with pytest.raises(InputError, match="times: got 0, but 1 is the least"):
        finalize(folder, times=0)
    with pytest.raises(InputError, match="most: got 0, but 1 is the least"):
        finalize(folder, most=0)


def searched_on(home: Path, tree: Callable[[Path], Path]) -> Path:
    """The folder of data on which a study of one network was searched."""
    own = tree(home / "own")
    (home / "space.yaml").write_text(SPACE)
    (home / "runner.yaml").write_text(RUNNER)
    ran = inside(home, "run", "space.yaml", "--runner", "runner.yaml", "--budget", "1", "--data", str(own))
    assert ran.returncode == 0, ran.stderr
    return own


def test_a_front_of_images_without_a_split_is_confirmed_on_those_held_out(tmp_path: Path) -> None:
    own = searched_on(tmp_path, partial(masks_tree, count=40))
    done = inside(tmp_path, "finalize", "space", "--seeds", "2", "--times", "1")
    assert done.returncode == 0, done.stderr
    held = load_dataset(str(own), image=32, train_images=64, val_images=16, split="official")
    attributes = read_study(tmp_path / "studies" / "space").attributes
    assert attributes["confirmation:1:0:0"]["data"] == held.split != attributes["split"]
    first, best = weights_path(tmp_path / "studies/space", 0), confirmed_weights(tmp_path / "studies/space", 0, 1)
    assert normalisation_of(best) == held.normalisation
    searched = load_dataset(str(own), image=32, train_images=64, val_images=16)
    assert normalisation_of(first) == searched.normalisation != held.normalisation


def test_own_data_is_the_same_wherever_it_lies(tmp_path: Path) -> None:
    """It is read where it is now, by a search that goes on and by what trains again: where it began it is no longer."""
    own = searched_on(tmp_path, masks_tree)
    again = ["run", "space.yaml", "--runner", "runner.yaml", "--budget"]
    (tmp_path / "moved").mkdir()
    ran = [inside(tmp_path, *again, "2", "--data", "own/")]
    own.rename(tmp_path / "moved" / "own")
    ran.append(inside(tmp_path, *again, "3", "--data", "moved/own"))
    other = ["--data", str(tmp_path / "moved" / "own"), "--name", "other", "--warm-start", "space"]
    ran.append(inside(tmp_path, *again, "3", *other))
    assert [(done.returncode, done.stderr if done.returncode else "") for done in ran] == [(0, "")] * 3
    record = read_study(tmp_path / "studies" / "space")
    assert (len(record.trained), record.attributes["runner"]["proxy"]["data"]) == (3, "moved/own")
    with chdir(tmp_path):
        assert retraining_of(record, 2).data == record.attributes["split"]
    assert all("copied_from" in trial.attributes for trial in read_study(tmp_path / "studies" / "other").trials)


def test_longer_training_may_take_as_long_as_can_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    record = example_record(2)
    monkeypatch.setattr(work, "_looked_up", lambda *asked: SimpleNamespace(split=record.attributes["split"]))
    longest = []
    for seconds in (10.0, LONGEST_S):
        record.attributes["runner"]["engine"]["timeout_s"] = seconds
        longest.append(retraining_of(record, 3).runner.engine.timeout_s)
    assert longest == [30.0, LONGEST_S]


def test_official_validation_images_are_for_finalize(tmp_path: Path) -> None:
    root = searched_on(tmp_path, ade20k_tree) / "ADEChallengeData2016"
    done = inside(tmp_path, "finalize", "space", "--seeds", "2", "--times", "1")
    assert done.returncode == 0, done.stderr
    attributes = read_study(tmp_path / "studies" / "space").attributes
    assert attributes["confirmation"]["split"] == "official"
    assert attributes["confirmation:1:0:0"]["data"] != attributes["split"]
    assert attributes["confirmation:again:0"]["data"] == attributes["split"]
    picture(root / "images" / "training" / "ADE_train_00000099.jpg")
    mask(root / "annotations" / "training" / "ADE_train_00000099.png", (0, 1))
    changed = inside(tmp_path, "finalize", "space", "--seeds", "3", "--times", "1")
    assert (changed.returncode, len(changed.stderr.splitlines())) == (2, 1)
    assert "is not what study 'space' was searched on any more" in changed.stderr


def test_where_no_interval_can_be_told_there_is_no_verdict() -> None:
    """Six networks that latency orders but for one pair: most samples of them it orders completely."""
    fixed = Estimate(0.0)
    row = Row("score", 6, fixed, None, fixed, fixed, None, None, adds=Estimate(-0.06), beyond="latency")
    assert verdict_of(row) == "amber"
    assert verdict_of(dataclasses.replace(row, adds=Estimate(-0.06, -0.4, 0.3))) == "red"
    assert verdict_of(dataclasses.replace(row, adds=None)) == "red"
