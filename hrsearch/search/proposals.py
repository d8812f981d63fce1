"""The next setting of the knobs, proposed on a private view of the study.

The view is an Optuna study in memory, made anew for every proposal from the stored trials and one seed. So what is
proposed depends on those two alone, an interrupted search goes on as if it had not been, and the view may tell a
sampler what the stored study must not contain (draws that came to nothing; later, corrected scores).
"""

import copy
import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hrsearch.arch import Value
from hrsearch.candidate import seed_of
from hrsearch.search.judging import MEMORY
from hrsearch.search.rungs import Ladder
from hrsearch.search.samplers import sampler_of
from hrsearch.search.verdict import ran_out_of_memory
from hrsearch.space import Draw, Knob, Space

SAMPLER_TRIES = 32  # draws from the sampler for one proposal, each from a seed of its own, until one is new
RANDOM_TRIES = 2000  # random draws after these; when all are old, the space counts as exhausted


@dataclass(frozen=True)
class How:
    """How settings are proposed: the sampler's name, the study's seed, and a direction for each objective."""

    sampler: str
    seed: int
    directions: Sequence[str]
    ladder: Ladder | None = None  # of a search with rungs


@dataclass(frozen=True)
class Proposal:
    """A draw that is new, and the parameters under which the study keeps it."""

    draw: Draw
    digest: str | None  # None where a requirement refused the draw
    distributions: Mapping[str, BaseDistribution]
    notes: Mapping[str, Any]  # what the sampler wants to be remembered of the trial (NSGA-II: its generation)


def propose(space: Space, trials: Sequence[FrozenTrial], how: How) -> Proposal | None:
    """The proposal for trial number `len(trials)`; None if the space seems to hold nothing new."""
    seen = {identity_of(trial) for trial in trials}
    number = len(trials)
    view = view_of(trials, how.directions, how.ladder.expected_values(trials) if how.ladder else {})
    for attempt in range(SAMPLER_TRIES):
        view.sampler = sampler_of(how.sampler, seed_of(how.seed, number, attempt))
        proposal = _sampled(space, view)
        if _identity(proposal.digest, proposal.draw.setting) not in seen:
            return proposal
        view.tell(len(view.get_trials(deepcopy=False)) - 1, state=TrialState.FAIL)
    return _random(space, seen, seed_of(how.seed, number, "random"), proposal.notes)


def identity_of(trial: FrozenTrial) -> str:
    """What makes a trial a repetition: its network, or its setting where a requirement refused that."""
    return _identity(trial.user_attrs.get("digest"), trial.params)


def view_of(
    trials: Sequence[FrozenTrial], directions: Sequence[str], expected: Mapping[int, Sequence[float]] | None = None
) -> Study:
    """A study in memory with what a sampler can learn from: drawn trials that run, were trained or were refused.

    `expected` has values for trials that were not trained in full, by their number: they count as if they had been.
    """
    storage = optuna.storages.InMemoryStorage()
    sides = [StudyDirection[direction.upper()] for direction in directions]
    study_id = storage.create_new_study(sides, "view")
    # A published network has no parameters: it would empty the set of knobs that all trials share, which is what
    # multivariate TPE and NSGA-II work on.
    told = [trial for trial in trials if trial.params and trial.state != TrialState.FAIL]
    out_of_memory = {trial.number for trial in told if ran_out_of_memory(trial.user_attrs)}
    seen = [_seen(trial, (expected or {}).get(trial.number)) for trial in told]
    for trial in _with_infeasible(seen, out_of_memory, sides):
        storage.create_new_trial(study_id, trial)
    return optuna.load_study(study_name="view", storage=storage)


class _Shared(FrozenTrial):
    """A trial that Optuna's storage takes as it is: copying 200 of them in depth costs more than proposing does."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return copy.copy(self)  # nothing changes the mappings inside: the storage replaces them


def _seen(trial: FrozenTrial, expected: Sequence[float] | None) -> FrozenTrial:
    return _Shared(
        number=trial.number,
        trial_id=trial.number,
        state=TrialState.COMPLETE if expected else trial.state,
        value=None,
        values=expected or trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete or (trial.datetime_start if expected else None),
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={},
        system_attrs=trial.system_attrs,
        intermediate_values={},
    )


def _with_infeasible(
    seen: Sequence[FrozenTrial], out_of_memory: Collection[int], sides: Sequence[StudyDirection]
) -> Sequence[FrozenTrial]:
    """The trials, those that ran out of memory among them in the form in which every sampler learns from them.

    Evolution and Gaussian processes look at complete trials only, and a process wants the same constraints of each, in
    the same order. So they are complete, with the worst values of all, and break a constraint that the others keep.
    """
    complete = [trial for trial in seen if trial.state == TrialState.COMPLETE]
    if not complete or not any(trial.number in out_of_memory for trial in seen):
        return seen
    columns = zip(sides, zip(*(trial.values for trial in complete), strict=True), strict=True)
    worst = [max(column) if side == StudyDirection.MINIMIZE else min(column) for side, column in columns]
    names = dict.fromkeys(name for trial in complete for name in trial.constraints if name != MEMORY)
    return [
        _constrained(trial, worst, [*names, MEMORY])
        if trial.state == TrialState.COMPLETE or trial.number in out_of_memory
        else trial
        for trial in seen
    ]


def _constrained(trial: FrozenTrial, worst: Sequence[float], names: Sequence[str]) -> FrozenTrial:
    """The trial as a complete one with these constraints; 0 stands for what is not known, -1 for enough memory."""
    known = dict.fromkeys(names, 0.0) | {MEMORY: -1.0}
    known |= {name: value for name, value in trial.constraints.items() if name in known}
    others = trial.system_attrs.keys() - _noted(trial.constraints).keys()
    changed = copy.copy(trial)
    changed.system_attrs = {name: trial.system_attrs[name] for name in others} | _noted(known)
    if changed.state != TrialState.COMPLETE:
        changed.state, changed.values = TrialState.COMPLETE, list(worst)
        changed.datetime_complete = trial.datetime_complete or trial.datetime_start
    return changed


def _noted(constraints: Mapping[str, float]) -> dict[str, Any]:
    """How Optuna notes constraints in a trial."""
    return create_trial(state=TrialState.RUNNING, constraints=dict(constraints)).system_attrs


def _sampled(space: Space, view: Study) -> Proposal:
    trial = view.ask()
    drawn = _drawn(space, lambda knob: trial.suggest_categorical(knob.name, knob.values))  # type: ignore[arg-type]
    notes = view.get_trials(deepcopy=False)[-1].system_attrs
    return Proposal(drawn.draw, drawn.digest, drawn.distributions, notes)


def _random(space: Space, seen: set[str], seed: int, notes: Mapping[str, Any]) -> Proposal | None:
    generator = random.Random(seed)
    for _ in range(RANDOM_TRIES):
        drawn = _drawn(space, lambda knob: generator.choice(knob.values))
        if _identity(drawn.digest, drawn.draw.setting) not in seen:
            return Proposal(drawn.draw, drawn.digest, drawn.distributions, notes)
    return None


def _drawn(space: Space, choose: Callable[[Knob], Value]) -> Proposal:
    """Draw with every knob as a category: TPE does better so than with the knobs of few values as integers."""
    distributions: dict[str, BaseDistribution] = {}

    def chosen(knob: Knob) -> Value:
        distributions[knob.name] = CategoricalDistribution(knob.values)  # type: ignore[arg-type]
        return choose(knob)

    draw = space.draw(chosen)
    return Proposal(draw, draw.arch.digest() if draw.arch else None, distributions, {})


def _identity(digest: str | None, setting: Mapping[str, Any]) -> str:
    return digest or json.dumps(setting, sort_keys=True)
