"""Rungs: every candidate is trained a little, and one in `eta` goes on to the next length.

A rung asks only whether a candidate is good at equal fidelity, given its costs: the best by non-dominated rank in all
objectives, and within a rank by hypervolume, goes on, or the one that should add most hypervolume to the front; a small
network is not let go for scoring less than a large one. Nobody waits for a rung to fill: at any moment `1 / eta` of
those that were judged there have gone on. (Li et al., 2020, send on whoever is among the best of all that were judged,
and nobody else until there is one. Here the best that waits goes on whenever there is room, so that every eta-th
training goes the whole way, as a budget reckons with.) What a sampler learns of a candidate that went no further is the
score that the last rung should give it.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from hrsearch.front import best_first, best_of
from hrsearch.objective import Objective, task_metric
from hrsearch.search.promise import EXACT, GUESSES, best_together, hits_of
from hrsearch.search.surrogate import Forecast, Row, Rows, features, forecast, said_by, usual_of, weights_of
from hrsearch.study import is_waiting, untrained_of

ENOUGH = 6  # candidates trained in full before their losses at a rung say what others would have scored
ENOUGH_TO_FORECAST = 10  # from a loss, a score and the architecture
MOST_COMPARED = 200  # of those that wait, in what each should add: comparing takes as long as forecasting
MARGIN = 1.5  # checkpoints are kept of so many times as many as go on: who those are changes with what is learnt
WEIGHT = 2.0  # of what a rung said among a forecast's columns; a network's shape and costs weigh 1 each


@dataclass(frozen=True)
class Ladder:
    """How many rungs there are, how many go on, and what they are compared by."""

    rungs: int
    eta: float
    objectives: tuple[Objective, ...]
    told: Literal["expected", "measured", "nothing"] = "expected"  # to the sampler, of those that went no further
    # What is compared at a rung: the scores, how low the losses are, or what each should add to the front of those that
    # went all the way, forecast from both and from the architecture (before there is enough for that, the losses).
    by: Literal["score", "loss", "gain"] = "score"
    screens: bool = False  # whether the first rung is a zero-cost proxy, in units of its own
    zero_cost: str | None = None  # the proxy that draws are asked of

    def promoted(self, trials: Sequence[FrozenTrial], most: int = 1) -> list[FrozenTrial]:
        """The waiting trials, `most` at most, that are to be trained to the next rung now: the best of the highest one.

        More than one by gain alone, whose forecasts take longer than all else.
        """
        for rung in reversed(range(self.rungs - 1)):
            judged = [trial for trial in trials if len(_rungs(trial)) > rung]
            known = [trial for trial in judged if _is_known(trial)]
            waiting = next((trial for trial in known if waits_at(trial, rung)), None)
            if waiting is not None:  # the yardstick is trained in full, whatever it scores
                return [waiting]
            room = self.room(judged, rung)
            if room > 0 and any(waits_at(trial, rung) for trial in judged):
                return self._best(trials, rung, min(room, most))
        return []

    def room(self, trials: Sequence[FrozenTrial], rung: int) -> int:
        """How many more may be sent on from this rung now; published networks take nobody's place."""
        judged = [trial for trial in trials if len(_rungs(trial)) > rung and not _is_known(trial)]
        gone_on = sum(1 for trial in judged if trial.user_attrs.get("rung", 0) > rung)
        return int(len(judged) / self.eta) - gone_on

    def _best(self, trials: Sequence[FrozenTrial], rung: int, most: int) -> list[FrozenTrial]:
        """Of those that wait at the rung, the ones to be sent on."""
        judged = [trial for trial in trials if len(_rungs(trial)) > rung]
        among = [place for place, trial in enumerate(judged) if waits_at(trial, rung)]
        gains = self._gains([judged[place] for place in among], trials, rung)
        if gains is not None and gains.any():
            return [judged[among[place]] for place in best_together(gains, most)]
        points, directions = self._points(judged, rung)
        return [judged[best_of(points, directions, set(among))]]

    def _gains(self, waiting: Sequence[FrozenTrial], trials: Sequence[FrozenTrial], rung: int) -> Rows | None:
        """What each that waits should take beyond the front of those that went all the way, as `hits_of` has it; None
        where none can tell. Of many, those that promise little even if they are lucky are taken for nothing."""
        forecasts = self._forecasts([trial for trial in trials if len(_rungs(trial)) > rung], rung)
        if not forecasts:
            return None
        means, deviations = zip(*(forecasts.get(trial.number, (0.0, 0.0)) for trial in waiting), strict=True)
        scores = np.array(means) + np.array(deviations) * np.random.default_rng(0).standard_normal((GUESSES, 1))
        costs = np.array([self._values(trial.user_attrs, 0.0) for trial in waiting])
        guesses = np.repeat(costs[None], GUESSES, axis=0)
        for column, objective in enumerate(self.objectives):
            if objective.name == "score":
                guesses[:, :, column] = scores
        through = [  # a lucky score would hide what is as good as the network behind it, or better
            self._values(trial.user_attrs, forecasts.get(trial.number, (score["value"],))[0])
            for trial in trials
            if trial.state == TrialState.COMPLETE and not _is_known(trial) and (score := _last(trial))
        ]
        if not through:  # all broke a limit in the end
            return None
        lucky = np.quantile(guesses, 0.9, axis=0, keepdims=True)
        worth = hits_of(lucky, np.array(through), self._directions, seed=0).sum(axis=1)
        likely = np.sort(np.argsort(-worth, kind="stable")[:MOST_COMPARED])
        hits = hits_of(guesses[:, likely], np.array(through), self._directions, seed=0)
        found = np.zeros((len(waiting), hits.shape[1]))
        found[likely] = hits
        return found

    def is_through(self, attributes: Mapping[str, Any]) -> bool:
        """Whether the trial with these attributes was judged at the last rung."""
        return len(attributes.get("rungs") or ()) >= self.rungs

    def worth_keeping(self, trials: Sequence[FrozenTrial]) -> set[int]:
        """The trials whose checkpoints are worth their room: those that run, and of those that wait at a rung the
        best, more than will be sent on. Any other, should it ever be sent on, is trained to that rung again."""
        kept = {trial.number for trial in trials if not trial.state.is_finished() and not is_waiting(trial.user_attrs)}
        for rung in range(self.rungs - 1):
            judged = [trial for trial in trials if len(_rungs(trial)) > rung]
            waiting = [trial for trial in self.best_first(judged, rung) if waits_at(trial, rung)]
            most = math.ceil(MARGIN * len(judged) / self.eta)
            kept |= {trial.number for place, trial in enumerate(waiting) if place < most or _is_known(trial)}
        return kept

    def best_first(self, judged: Sequence[FrozenTrial], rung: int) -> list[FrozenTrial]:
        """Trials that were judged at a rung, by their scores or their losses there, and their costs."""
        return [judged[index] for index in best_first(*self._points(judged, rung))]

    def _points(self, judged: Sequence[FrozenTrial], rung: int) -> tuple[list[list[float]], list[str]]:
        """What trials are compared by at a rung, and the directions of that."""
        forecasts = self._forecasts(judged, rung)
        found = [_rungs(trial)[rung] for trial in judged]
        if forecasts:
            qualities = [forecasts.get(trial.number, (_rungs(trial)[-1]["value"],))[0] for trial in judged]
        else:
            qualities = [one["value"] if self.by == "score" else -one["loss"] for one in found]
        points = [self._values(trial.user_attrs, each) for trial, each in zip(judged, qualities, strict=True)]
        return points, self._directions

    @property
    def _directions(self) -> list[str]:
        return [objective.direction for objective in self.objectives]

    def _forecasts(self, judged: Sequence[FrozenTrial], rung: int) -> dict[int, tuple[float, float]]:
        """Mean and deviation of the last score of drawn trials that were judged at a rung, by number; none too early.

        Those that went all the way are forecast, too: a score that was lucky is no reason to let another go.
        """
        drawn = [trial for trial in judged if trial.params and not _is_known(trial)]
        last = {place: _rungs(trial)[-1]["value"] for place, trial in enumerate(drawn) if self._is_through(trial)}
        if self.by != "gain" or len(last) < ENOUGH_TO_FORECAST:
            return {}
        choices = _choices_of(drawn)
        untrained = [untrained_of(trial.user_attrs, self.zero_cost) for trial in drawn]
        usual = usual_of([untrained[place] for place in last])
        said = None if usual is None else said_by(untrained, usual)
        rows = tuple(_rows(drawn, rung, choices, said))
        found = _forecast(rows, tuple(last), tuple(last.values()), len(choices), said is not None)
        pairs = zip(found.mean.tolist(), found.deviation.tolist(), strict=True)
        return {trial.number: pair for trial, pair in zip(drawn, pairs, strict=True)}

    def _is_through(self, trial: FrozenTrial) -> bool:
        return self.is_through(trial.user_attrs)

    def expected_values(self, trials: Sequence[FrozenTrial]) -> dict[int, list[float]]:
        """What the last rung should say of the trials that were judged at an earlier one only, by their number."""
        if self.told == "nothing":
            return {}
        found = {}
        for rung in range(self.rungs - 1):
            expected = self._last_score(trials, rung)
            forecasts = self._forecasts([trial for trial in trials if len(_rungs(trial)) > rung], rung)
            for trial in trials:
                if len(_rungs(trial)) != rung + 1 or trial.state not in (TrialState.RUNNING, TrialState.PRUNED):
                    continue
                if self.told == "expected" and trial.number in forecasts:
                    found[trial.number] = self._values(trial.user_attrs, forecasts[trial.number][0])
                elif expected:
                    found[trial.number] = self._values(trial.user_attrs, expected(_rungs(trial)[rung]))
        return found

    def _last_score(self, trials: Sequence[FrozenTrial], rung: int) -> Callable[[Mapping[str, Any]], float] | None:
        """What a `Score` at a rung lets expect of the last one; None where nothing can be said of it.

        By loss: the line through those that went all the way. They were chosen by that loss, which leaves the line of
        the score on it where it is. By score, or before there are enough: its own, and the median gains from here on.
        """
        through = [scores for scores in map(_rungs, trials) if len(scores) == self.rungs]
        untrained = self.screens and rung == 0
        if self.told == "expected" and (self.by != "score" or untrained) and len(through) >= ENOUGH:
            losses = [scores[rung]["loss"] for scores in through]
            if len(set(losses)) > 1:
                line = statistics.linear_regression(losses, [scores[-1]["value"] for scores in through])
                return lambda score: line.intercept + min(line.slope, 0.0) * score["loss"]
        if untrained:
            return None
        above = range(rung, self.rungs - 1)
        gains = sum(_gain(trials, each) for each in above) if self.told == "expected" else 0.0
        return lambda score: float(score["value"]) + gains

    def _values(self, attributes: Mapping[str, Any], score: float) -> list[float]:
        known = {**attributes, "score": {"value": score}}
        return [float(objective.of(known) or 0.0) for objective in self.objectives]


def waits_at(trial: FrozenTrial, rung: int) -> bool:
    """Whether the trial waits to be sent on from this rung."""
    return not trial.state.is_finished() and is_waiting(trial.user_attrs) and len(_rungs(trial)) == rung + 1


def _rungs(trial: FrozenTrial) -> Sequence[Mapping[str, Any]]:
    return trial.user_attrs.get("rungs") or ()


def _last(trial: FrozenTrial) -> Mapping[str, Any] | None:
    """Its score at the last rung that it was judged at; of a trial that another study has judged no other is known."""
    rungs = _rungs(trial)
    return rungs[-1] if rungs else trial.user_attrs.get("score")


def _is_known(trial: FrozenTrial) -> bool:
    return "known" in trial.user_attrs


def _gain(trials: Sequence[FrozenTrial], rung: int) -> float:
    """The median of what trials gained from one rung to the next; 0 before any went on."""
    both = [scores for scores in map(_rungs, trials) if len(scores) > rung + 1]
    return statistics.median([scores[rung + 1]["value"] - scores[rung]["value"] for scores in both]) if both else 0.0


def _choices_of(trials: Sequence[FrozenTrial]) -> dict[str, Sequence[Any]]:
    """The values that each knob may have."""
    distributions: dict[str, BaseDistribution] = {}
    for trial in trials:
        if not trial.distributions.keys() <= distributions.keys():
            distributions |= trial.distributions
    return {
        name: distribution.choices
        for name, distribution in sorted(distributions.items())
        if isinstance(distribution, CategoricalDistribution)
    }


def _rows(
    trials: Sequence[FrozenTrial],
    rung: int,
    choices: Mapping[str, Sequence[Any]],
    untrained: Sequence[float] | None,
) -> list[Row]:
    """The trials with what `features` tells of them, and what a rung said: the loss, and the task's metric, for a score
    may be the loss in other words."""
    costs = [[trial.user_attrs[name] for name in EXACT] for trial in trials]
    said = [(score["loss"], task_metric(score)[1]) for score in (_rungs(trial)[rung] for trial in trials)]
    archs = [trial.user_attrs["arch"] for trial in trials]
    rows = features([trial.params for trial in trials], choices, costs, archs, untrained)
    return [(*row, *one) for row, one in zip(rows, said, strict=True)]


@lru_cache(maxsize=8)
def _forecast(
    rows: tuple[Row, ...], at: tuple[int, ...], values: tuple[float, ...], knobs: int, is_asked: bool
) -> Forecast:
    """The values that all rows should have, from those `at` which they are known. What a rung said comes last in a row.

    Remembered, because who goes on, whose checkpoint is kept and what a sampler is told ask for the same.
    """
    known = [rows[place] for place in at]
    weights = {**weights_of(knobs, known if is_asked else (), values), -1: WEIGHT, -2: WEIGHT}
    return forecast(known, values, rows, weights)
