"""The evolutionary sampler by itself: what a child has of its parents."""

import random
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial

from hrsearch.front import non_dominated
from hrsearch.search import evolve
from hrsearch.search.evolve import MUTATIONS, PARENTS, EvolveSampler

KNOBS: dict[str, Any] = {
    "a": [1, 2, 3, 4],
    "b": [False, True],
    "c": ["x", "y", "z"],
    "d": [8],
    "e": [1, 2, 3],
    "f": [1, 2, 3],
}


def study_of(count: int) -> optuna.Study:
    """Random trials; knob `f` is read where `b` holds."""
    generator = random.Random(0)
    study = optuna.create_study(directions=["maximize", "minimize"])
    for _ in range(count):
        params: dict[str, Any] = {name: generator.choice(values) for name, values in KNOBS.items()}
        if not params["b"]:
            del params["f"]
        distributions: dict[str, BaseDistribution] = {name: CategoricalDistribution(KNOBS[name]) for name in params}
        values = [generator.random(), generator.random()]
        study.add_trial(create_trial(params=params, distributions=distributions, values=values))
    return study


def drawn(study: optuna.Study, seed: int) -> dict[str, Any]:
    """What the sampler proposes."""
    study.sampler = EvolveSampler(seed, startup=10)
    trial = study.ask()
    for name in [*"abcde", *(["f"] if trial.suggest_categorical("b", KNOBS["b"]) else [])]:
        trial.suggest_categorical(name, KNOBS[name])
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return dict(trial.params)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """Knobs that both have and that differ."""
    return sum(one[name] != other[name] for name in one.keys() & other.keys())


def test_a_child_of_one_parent_differs_in_a_few_knobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolve, "CROSSED", 0.0)
    monkeypatch.setattr(evolve, "PARENTS", 1)
    study = study_of(40)
    trials = study.get_trials()
    front = [trials[index].params for index in non_dominated([t.values for t in trials], ["maximize", "minimize"])]
    for seed in range(60):
        child = drawn(study, seed)
        assert min(differences(child, parent) for parent in front) <= MUTATIONS
        assert child["d"] == 8
        assert ("f" in child) == child["b"]


def test_children_of_two_parents_mix_them() -> None:
    study = study_of(40)
    settings = {tuple(sorted(drawn(study, seed).items())) for seed in range(60)}
    assert len(settings) > 30
    assert len({tuple(sorted(drawn(study, 7).items())) for _ in range(3)}) == 1


def test_before_anything_is_known_it_draws_at_random() -> None:
    study = study_of(9)
    settings = [drawn(study, seed) for seed in range(60)]
    assert {setting["a"] for setting in settings} == set(KNOBS["a"])


def test_parents_are_the_front_and_what_lies_behind_it() -> None:
    points = [(-float(index), float(index)) for index in range(50)]  # each is beaten by all before it
    ranked = evolve._ranked(tuple(points), ("maximize", "minimize"))
    assert ranked == [(index, index) for index in range(PARENTS)]
    assert evolve._ranked(((float("nan"), 1.0),), ("maximize", "minimize")) == [(0, 0)]
