"""The next setting of the knobs, proposed on a private view of the study.

The view is an Optuna study in memory, made anew for every proposal from the stored trials and one seed. So what is
proposed depends on those two alone, an interrupted search goes on as if it had not been, and the view may tell a
sampler what the stored study must not contain (draws that came to nothing; later, corrected scores).
"""

import copy
import json
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hrsearch.arch import Value
from hrsearch.candidate import seed_of
from hrsearch.front import ranges_of, shares
from hrsearch.objective import OBJECTIVES
from hrsearch.search.judging import MEMORY
from hrsearch.search.promise import EXACT, Counting, Draft, asked_of, most_promising, most_promising_untrained
from hrsearch.search.repair import repaired
from hrsearch.search.rungs import Ladder
from hrsearch.search.samplers import GENERATIONAL, population_of, sampler_of
from hrsearch.search.verdict import is_spent, ran_out_of_memory
from hrsearch.space import Draw, Knob, Space
from hrsearch.study import untrained_of

SAMPLER_TRIES = 32  # draws from the sampler for one proposal, each from a seed of its own, until one is new
SLOW_TRIES = {"gp": 3}  # where a draw takes seconds
RANDOM_TRIES = 2000  # random draws after these; when all are old, the space counts as exhausted
CONTROL_TRIES = 200  # random draws of the control arm until one keeps the limits on exact costs
MORE_DRAWS = 2  # for each further proposal that is made at the same time
FEWEST_JUDGED = 10  # trained candidates before draws are weighed against each other


@dataclass(frozen=True)
class How:
    """How settings are proposed.

    `sampler` and `seed` are the study's, `objectives` the names of what candidates are judged by, `budget` the number
    of candidates that the sampler may count on. `draws` of the sampler are weighed for one proposal; a share `control`
    of the candidates is drawn at random.
    """

    sampler: str
    seed: int
    objectives: Sequence[str]
    budget: int = 200
    draws: int = 1
    control: float = 0.0
    ladder: Ladder | None = None  # of a search with rungs
    zero_cost: str | None = None  # the proxy that draws are asked of

    @property
    def directions(self) -> list[str]:
        """A direction for each objective."""
        return [OBJECTIVES[name].direction for name in self.objectives]


@dataclass(frozen=True)
class Proposal:
    """A draw that is new, and the parameters under which the study keeps it."""

    draw: Draw
    digest: str | None  # None where a requirement refused the draw
    distributions: Mapping[str, BaseDistribution]
    notes: Mapping[str, Any]  # what the sampler wants to be remembered of the trial (NSGA-II: its generation)
    is_control: bool = False  # drawn at random, to hold the sampler against

    @property
    def identity(self) -> str:
        """What makes another proposal a repetition of it."""
        return _identity(self.digest, self.draw.setting)


def propose(
    space: Space, trials: Sequence[FrozenTrial], how: How, counting: Counting, count: int = 1
) -> list[Proposal]:
    """The proposal for trial number `len(trials)`; none if the space seems to hold nothing new.

    For so many workers that wait, as many proposals, where draws are weighed: that takes as long for all of them as for
    one. They are from what is known now, so that each knows a little less than if it had waited for the one before.
    """
    number, seen = len(trials), {identity_of(trial) for trial in trials}
    proposals: list[Proposal] = []
    wanted = 0
    for ahead in range(count if how.draws > 1 else 1):
        if not _is_control(trials, how, ahead):
            wanted += 1
        elif control := _control(space, seen, seed_of(how.seed, number + ahead, "control"), counting):
            proposals.append(control)
            seen.add(control.identity)
    if wanted:
        expected = how.ladder.expected_values(trials) if how.ladder else {}
        found = _sampled(space, trials, expected, how, seen, how.draws + MORE_DRAWS * (wanted - 1))
        learnt = [(trial, expected.get(trial.number)) for trial in trials]
        proposals += _weighed(space, found, learnt, how, counting, wanted, seen)
    return proposals


def _sampled(
    space: Space,
    trials: Sequence[FrozenTrial],
    expected: Mapping[int, Sequence[float]],
    how: How,
    seen: set[str],
    count: int,
) -> list[Proposal]:
    """Draws of the sampler that are new, so many if it finds them; if it finds none, a random one if there is any."""
    shown = trials if how.sampler != "random" else ()  # where limits are tight, they are many
    view = view_of(shown, how.directions, expected)
    found: list[Proposal] = []
    notes: Mapping[str, Any] = {}
    for attempt in range(SLOW_TRIES.get(how.sampler, SAMPLER_TRIES) + count - 1):
        view.sampler = sampler_of(how.sampler, seed_of(how.seed, len(trials), attempt), how.budget)
        proposal = _asked(space, view)
        notes = proposal.notes
        if proposal.identity not in seen:
            found.append(proposal)
            seen.add(proposal.identity)
        if len(found) == count:
            break
        view.tell(len(view.get_trials(deepcopy=False)) - 1, state=TrialState.FAIL)
    else:
        if not found and (drawn := _random(space, seen, seed_of(how.seed, len(trials), "random"), notes)):
            found = [drawn]
    return found


def _is_control(trials: Sequence[FrozenTrial], how: How, ahead: int) -> bool:
    """Whether the candidate so many ahead is the control arm's; a proposal that was refused decides for its successor.

    Where limits are so tight that random draws do not keep them, the sampler takes over.
    """
    refused = list(takewhile(_was_refused, reversed(trials)))
    number = len(trials) - len(refused)
    was_refused = not ahead and any("arm" in trial.user_attrs for trial in refused)
    if how.sampler == "random" or was_refused:
        return False
    return seed_of(how.seed, number + ahead, "arm") < how.control * 2**32


def is_between_generations(trials: Sequence[FrozenTrial], how: How) -> bool:
    """Whether a generation is under way as a whole, but not yet judged: the next one descends from all of it.

    Waiting for it makes what a generational sampler proposes the same with any number of workers. Draws that are
    weighed and candidates that wait at rungs know more the sooner others end, whatever the sampler.
    """
    if how.sampler not in GENERATIONAL or how.draws > 1 or how.ladder:
        return False
    states = defaultdict[int, list[TrialState]](list)
    for trial in trials:
        for note, generation in trial.system_attrs.items():
            if note.endswith(":generation"):
                states[generation].append(trial.state)
    newest = states[max(states)] if states else []
    judged, running = newest.count(TrialState.COMPLETE), newest.count(TrialState.RUNNING)
    return running > 0 and judged < population_of(how.budget) <= judged + running


def refused_in_a_row(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The newest proposals that were refused before training, one after the other, the newest first.

    What has not been judged yet is passed over: where several workers search, that is nearly always the newest.
    """
    judged = (trial for trial in reversed(trials) if trial.state.is_finished() or is_spent(trial.user_attrs))
    return list(takewhile(_was_refused, judged))


def _was_refused(trial: FrozenTrial) -> bool:
    """Whether it was refused before training, which costs no budget."""
    return trial.user_attrs.get("outcome") == "refused" and not is_spent(trial.user_attrs)


def _control(space: Space, seen: set[str], seed: int, counting: Counting) -> Proposal | None:
    """A random draw that keeps the limits on costs, as the sampler's soon do."""
    for attempt in range(CONTROL_TRIES):
        proposal = _random(space, seen, seed_of(seed, attempt), {})
        if proposal is None or counting.of(proposal.draw.arch):
            break
    return replace(proposal, is_control=True) if proposal else None


def _weighed(
    space: Space,
    found: Sequence[Proposal],
    trials: Sequence[tuple[FrozenTrial, Sequence[float] | None]],
    how: How,
    counting: Counting,
    count: int,
    seen: set[str],
) -> list[Proposal]:
    """The proposals that are most worth their training; the first ones where there is nothing to weigh.

    None that is made to keep the limits becomes one that was `seen`, in the study or among what is proposed beside it.
    """
    if how.draws == 1:
        return list(found[:1])
    judged = [
        replace(_draft(trial, how, expected or trial.values), is_through=not expected)
        for trial, expected in trials
        if trial.params and (expected or trial.state == TrialState.COMPLETE)
    ]
    is_early, ask = len(judged) < FEWEST_JUDGED, counting.untrained
    within = _within_limits(space, found, seen, seed_of(how.seed, len(trials), "repair"), counting)
    kept = list(islice(within, count) if is_early and ask is None else within)
    if len(kept) <= count:
        return [proposal for proposal, _ in kept] or list(found[:1])
    drafts = [_drafted(proposal.draw, costs) for proposal, costs in kept]
    seed = seed_of(how.seed, len(trials), "weighed")
    if is_early and ask:
        begun = [_draft(trial, how) for trial, _ in trials if trial.params and "zero_cost" in trial.user_attrs]
        best = most_promising_untrained(asked_of(drafts, ask), begun, how.objectives, seed, count)
    else:
        refused = [_draft(trial, how) for trial, _ in trials if trial.params and _failed_at_what_it_takes(trial)]
        best = most_promising(drafts, judged, refused, space.knobs, how.objectives, seed, count, ask)
    return [kept[place][0] for place in best]


def _within_limits(
    space: Space, found: Sequence[Proposal], seen: set[str], seed: int, counting: Counting
) -> Iterator[tuple[Proposal, Mapping[str, int]]]:
    """The proposals that keep the limits on exact costs, or are made to, if that makes them new, with these costs."""
    for place, proposal in enumerate(found):
        costs = counting.of(proposal.draw.arch)
        if costs:
            yield proposal, costs
            continue
        draw = repaired(space, proposal.draw, counting.excess, seed_of(seed, place))
        if draw is None or draw.arch is None or draw.arch.digest() in seen:
            continue
        seen.add(draw.arch.digest())
        changed = Proposal(draw, draw.arch.digest(), distributions_of(space, draw.setting), proposal.notes)
        if costs := counting.of(draw.arch):
            yield changed, costs


def _drafted(draw: Draw, costs: Mapping[str, int]) -> Draft:
    assert draw.arch is not None  # it was counted
    return Draft(draw.setting, draw.arch.to_dict(), costs)


def _draft(trial: FrozenTrial, how: How, values: Sequence[float] = ()) -> Draft:
    known = trial.user_attrs
    costs = {name: known[name] for name in EXACT}
    return Draft(trial.params, known["arch"], costs, values, untrained_of(known, how.zero_cost))


def _failed_at_what_it_takes(trial: FrozenTrial) -> bool:
    """Whether its latency or its memory, which no count tells, broke a limit."""
    broken = [limit for limit, violation in (trial.user_attrs.get("violations") or {}).items() if violation > 0]
    return bool(broken) and not any(limit.startswith(EXACT) for limit in broken)


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
    # multivariate TPE, NSGA-II and the Gaussian process work on.
    told = [trial for trial in trials if trial.params and trial.state != TrialState.FAIL]
    out_of_memory = {trial.number for trial in told if ran_out_of_memory(trial.user_attrs)}
    seen = [_seen(trial, (expected or {}).get(trial.number)) for trial in told]
    for trial in _scaled(_with_infeasible(seen, out_of_memory, sides), directions):
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
        system_attrs=_without_constraints(trial.system_attrs),
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
    return [
        _constrained(trial, worst, trial.number in out_of_memory)
        if trial.state == TrialState.COMPLETE or trial.number in out_of_memory
        else trial
        for trial in seen
    ]


def _constrained(trial: FrozenTrial, worst: Sequence[float], ran_out: bool) -> FrozenTrial:
    """The trial as a complete one that says whether memory was enough."""
    changed = copy.copy(trial)
    changed.system_attrs = {**trial.system_attrs, **_noted({MEMORY: 1.0 if ran_out else -1.0})}
    if changed.state != TrialState.COMPLETE:
        changed.state, changed.values = TrialState.COMPLETE, list(worst)
        changed.datetime_complete = trial.datetime_complete or trial.datetime_start
    return changed


def _noted(constraints: Mapping[str, float]) -> dict[str, Any]:
    """How Optuna notes constraints in a trial."""
    return create_trial(state=TrialState.RUNNING, constraints=dict(constraints)).system_attrs


def _without_constraints(notes: Mapping[str, Any]) -> dict[str, Any]:
    """What breaks a limit has no values, which tells a sampler enough; models of limits that all keep cost time."""
    return {key: value for key, value in notes.items() if not key.startswith("constraints:")}


def _scaled(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> Sequence[FrozenTrial]:
    """The trials with values from 0 to 1 over what was found so far, costs on a log scale.

    A Gaussian process finds more so, to the others it makes no difference.
    """
    judged = [trial for trial in trials if trial.values]
    points = [trial.values for trial in judged]
    signs = [1.0 if direction == "maximize" else -1.0 for direction in directions]
    for trial, row in zip(judged, shares(points, ranges_of(points, directions, margin=0.0)), strict=True):
        trial.values = [float(sign * share) for sign, share in zip(signs, row, strict=True)]
    return trials


def _asked(space: Space, view: Study) -> Proposal:
    trial = view.ask()
    drawn = _drawn(space, lambda knob: trial.suggest_categorical(knob.name, knob.values))  # type: ignore[arg-type]
    notes = view.get_trials(deepcopy=False)[-1].system_attrs
    return Proposal(drawn.draw, drawn.digest, drawn.distributions, notes)


def _random(space: Space, seen: set[str], seed: int, notes: Mapping[str, Any]) -> Proposal | None:
    generator = random.Random(seed)
    for _ in range(RANDOM_TRIES):
        drawn = _drawn(space, lambda knob: generator.choice(knob.values))
        if drawn.identity not in seen:
            return replace(drawn, notes=notes)
    return None


def _drawn(space: Space, choose: Callable[[Knob], Value]) -> Proposal:
    draw = space.draw(choose)
    return Proposal(draw, draw.arch.digest() if draw.arch else None, distributions_of(space, draw.setting), {})


def distributions_of(space: Space, setting: Mapping[str, Value]) -> dict[str, BaseDistribution]:
    """Every knob as a category: TPE does better so than with the knobs of few values as integers."""
    return {name: CategoricalDistribution(space.knobs[name].values) for name in setting}  # type: ignore[arg-type]


def _identity(digest: str | None, setting: Mapping[str, Any]) -> str:
    return digest or json.dumps(setting, sort_keys=True)
