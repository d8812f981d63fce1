"""A study seen through `hrsearch finalize`: scores are means over seeds with an interval, and chance is told."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hrsearch.front import non_dominated
from hrsearch.study import Record, Trial
from hrsearch.trust.repeats import CONFIRMATION, Scores, scores_of

DRAWS = 500  # fronts that might have been
Z = statistics.NormalDist().inv_cdf(0.975)
FEW = (12.7062, 4.3027, 3.1824, 2.7764)  # Student's t at 1 to 4 degrees of freedom, where its expansion is too small


def confirmation_of(record: Record) -> Mapping[str, Any]:
    """How the front was confirmed (times, seeds, split, data, noise); empty where it was not, or not to the end."""
    found: Mapping[str, Any] = record.attributes.get(CONFIRMATION) or {}
    return found


def confirmed(record: Record) -> Record:
    """The study with confirmed scores: trials without are left out, a score is its mean over seeds with `low`, `high`.

    Those of the front among them are kept as `unconfirmed`. A study that was not confirmed stays as it is. The interval
    holds the mean of a score 95 % of the time; the spread between seeds is taken to be the same for all networks.
    """
    how = confirmation_of(record)
    if not how:
        return record
    scores = scores_of(record, CONFIRMATION, how["times"], how.get("data"))
    spread, freedom = spread_of(list(scores.values()))
    trials = tuple(
        _confirmed(record, trial, scores[trial.number], spread, freedom)
        for trial in record.trained
        if trial.number in scores
    )
    left = tuple(trial for trial in record.front() if trial.number not in scores)
    return dataclasses.replace(record, trials=trials, unconfirmed=left) if trials else record


def seeds_of(view: Record) -> str:
    """With how many seeds the networks of a confirmed study were trained: of earlier calls there may be more."""
    counts = [int(trial.attributes["score"]["seeds"]) for trial in view.trials]
    return f"{min(counts)} to {max(counts)}" if len(set(counts)) > 1 else f"{counts[0]}"


def to_pick_from(record: Record, choice: str) -> Record:
    """The confirmed study, unless the choice names a trial that was not confirmed."""
    view = confirmed(record)
    named = {name for trial in view.trials for name in (trial.name, f"trial:{trial.number}")}
    known = {trial.name for trial in record.trials if trial.attributes.get("known")}
    asked = choice.replace(" ", "")
    return record if asked not in named and (asked.startswith("trial:") or asked in known) else view


def chances(view: Record, seed: int = 0) -> dict[int, float]:
    """How likely each trial of a confirmed study is to be on its front, by its number.

    The share of fronts drawn by chance that it is on: a score is the mean over seeds and that of as many deviations
    between seeds, drawn from those of all networks; a latency is drawn as its interval says. Other costs are exact.
    """
    generator = np.random.default_rng(seed)
    trials = view.contenders
    residuals = _residuals(trials)
    drawn = np.stack([_drawn(view, trial, residuals, generator) for trial in trials]) if trials else np.empty((0, 0, 0))
    directions = [objective.direction for objective in view.objectives]
    counts = np.zeros(len(trials))
    for points in drawn.transpose(1, 0, 2) if trials else ():
        counts[non_dominated(points.tolist(), directions)] += 1
    return {trial.number: float(count / DRAWS) for trial, count in zip(trials, counts, strict=True)}


def lucky(record: Record) -> list[Trial]:
    """Trials of the search's front, confirmed, that are not on the confirmed one: others beat them beyond chance."""
    view = confirmed(record)
    if view is record:
        return []
    known, front = {trial.number for trial in view.trials}, {trial.number for trial in view.front()}
    return [trial for trial in record.front() if trial.number in known and trial.number not in front]


def spread_of(scores: Sequence[Scores]) -> tuple[float, int]:
    """The standard deviation of a score between seeds, pooled over networks, and its degrees of freedom."""
    groups = [[one["value"] for one in each.values()] for each in scores]
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum((value - statistics.fmean(group)) ** 2 for group in groups for value in group)
    return (math.sqrt(squares / freedom) if freedom else 0.0), freedom


def student(freedom: int) -> float:
    """The 97.5th percentile of Student's t, to 0.2 %.

    From 5 degrees of freedom on the first terms of its expansion in the normal's (Abramowitz and Stegun 1964, 26.7.5).
    """
    if freedom <= len(FEW):
        return FEW[freedom - 1]
    terms = (Z, (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96, (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384)
    return float(sum(term / freedom**power for power, term in enumerate(terms)))


def _confirmed(record: Record, trial: Trial, scores: Scores, spread: float, freedom: int) -> Trial:
    values = [float(one["value"]) for one in scores.values()]
    mean, best = statistics.fmean(values), max(scores.values(), key=lambda one: float(one["value"]))
    half = student(freedom) * spread / math.sqrt(len(values)) if freedom else 0.0
    ends = {"low": max(mean - half, 0.0), "high": min(mean + half, 1.0)}  # no metric goes further
    score = {**best, "value": mean, **ends, "values": values, "seeds": len(values)}
    attributes = {**trial.attributes, "score": score}
    found = tuple(objective.of(attributes) for objective in record.objectives)
    return dataclasses.replace(trial, attributes=attributes, values=found)


def _residuals(trials: Sequence[Trial]) -> "np.typing.NDArray[np.float64]":
    """Deviations from the networks' means, made as wide as those from the true means are."""
    found = [0.0]
    for trial in trials:
        values = trial.attributes["score"]["values"]
        if len(values) > 1:
            wider = math.sqrt(len(values) / (len(values) - 1))
            found += [(value - statistics.fmean(values)) * wider for value in values]
    return np.array(found[1:] or found)


def _drawn(
    view: Record, trial: Trial, residuals: "np.typing.NDArray[np.float64]", generator: np.random.Generator
) -> "np.typing.NDArray[np.float64]":
    """(DRAWS, objectives): values that the trial might have had."""
    columns = []
    for objective, value in zip(view.objectives, trial.values, strict=True):
        low, high = objective.interval(trial.attributes) or (0.0, 0.0)
        column = np.full(DRAWS, float(value or 0.0))
        if objective.name == "score":
            count = trial.attributes["score"]["seeds"]
            column = column + generator.choice(residuals, (DRAWS, count)).mean(axis=1)
        elif high > low:
            column = column + generator.normal(0.0, (high - low) / (2 * Z), DRAWS)
        columns.append(column)
    return np.stack(columns, axis=1)
