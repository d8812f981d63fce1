"""What a driver runs next: a trial that was left behind, a published network, or a new proposal."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from hrsearch.arch import Arch, by_place
from hrsearch.candidate import weights_path
from hrsearch.errors import InputError, NothingFits
from hrsearch.objective import Cost, Limit
from hrsearch.search.earlier import Evaluation
from hrsearch.search.ending import Ending, runs
from hrsearch.search.foresight import Forecast, Foresight
from hrsearch.search.judging import failed
from hrsearch.search.leases import is_lost, new_owner, until
from hrsearch.search.ledger import Ledger
from hrsearch.search.promise import Counting, Untrained
from hrsearch.search.proposals import (
    How,
    Proposal,
    distributions_of,
    identity_of,
    is_between_generations,
    propose,
    refused_in_a_row,
)
from hrsearch.search.relatives import relative_of
from hrsearch.search.rungs import Ladder, waits_at
from hrsearch.search.verdict import broken, is_spent, settled, violations_of
from hrsearch.space import Space
from hrsearch.study import Record, is_waiting, trial_of

MOST_REFUSED = 1000  # draws of proposals refused in a row after which a search gives up
FEWEST_REFUSED = 100  # proposals, however many draws each is the best of
MOST_AT_ONCE = 64  # proposals that are made, and trials that are sent on, from what is known at one time
MOST_LOSSES = 5  # drivers that may die while they run a candidate before the candidate is blamed


@dataclass(frozen=True)
class Plan:
    """What is searched: the space, how it is proposed from, what refuses a network, and how many are judged."""

    space: Space
    how: How
    limits: tuple[Limit, ...]
    budget: int | None  # None: no bound
    cost_of: Callable[[Arch], Cost]
    forecast: Forecast | None = None
    earlier: Mapping[str, Evaluation] = field(default_factory=dict)  # by digest
    inherits: bool = False  # whether candidates begin with weights of a relative
    untrained: Untrained | None = None


@dataclass(frozen=True)
class Entry:
    """A trial on its way into the study: what is known of it before it runs."""

    attributes: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def running(self, **attributes: Any) -> FrozenTrial:
        """The trial that runs, with these attributes added."""
        return self._trial(TrialState.RUNNING, attributes, {})

    def refused(self, reason: str, constraints: Mapping[str, float], **attributes: Any) -> FrozenTrial:
        """The trial that was refused before training; `constraints` tell who opens the study with Optuna how far off.

        The view that our samplers learn from has the refusal alone (see `proposals`).
        """
        return self._trial(TrialState.PRUNED, {**attributes, "outcome": "refused", "reason": reason}, constraints)

    def _trial(self, state: TrialState, more: Mapping[str, Any], constraints: Mapping[str, float]) -> FrozenTrial:
        return create_trial(
            state=state,
            params=dict(self.params),
            distributions=dict(self.distributions),
            user_attrs={**self.attributes, **more},
            system_attrs=dict(self.notes),
            constraints=dict(constraints),
        )


class Claims:
    """Takes on trials for one driver, so that each candidate has one driver and the budget is kept to the candidate."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self.owner = new_owner()
        self.end: Ending | None = None
        self.is_late = False  # nothing more is taken on, and what waits at a rung goes on waiting
        self.taken_over: set[int] = set()
        self._plan = plan
        self._ledger = ledger
        self._foresight = Foresight(plan.forecast, plan.limits)
        self._ladder = plan.how.ladder
        # Found for many workers at once, and not yet taken on.
        self._promoted: list[int] = []
        self._rung = 0  # at which those wait
        self._proposals: list[Proposal] = []

    def claim(self, workers: int = 1) -> FrozenTrial | None:
        """A trial that is this driver's to run, or one that has ended at once; None if there is nothing to do now.

        So many workers wait for one: where finding a trial takes long, as many are found, for the next calls.
        """
        if self.is_late:
            return None
        with self._ledger.exclusive():
            trials = self._ledger.trials()
            unfinished = [trial for trial in trials if runs(trial)]
            for trial in unfinished:
                if self._has_ended(trial) and self._is_lost(trial):  # its driver died before it could tell
                    self._keep_weights(trial)
                    return self._ledger.finish(trial.number, self._end_of(trial))
            taken = _spent(trials) + sum(map(_is_fresh, self.active(unfinished)))
            room = MOST_AT_ONCE if self._plan.budget is None else self._plan.budget - taken
            has_room, wanted = room > 0, min(workers, MOST_AT_ONCE)
            return (
                self._left_behind(unfinished, has_room)
                or self._sent_on(trials, wanted)
                or (self._new(trials, min(wanted, room)) if has_room else None)
                or self._let_go(unfinished)
            )

    def active(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The trials that are run at this moment, here or elsewhere."""
        return [trial for trial in trials if self._must_run(trial) and not self._is_lost(trial)]

    def _sent_on(self, trials: Sequence[FrozenTrial], wanted: int) -> FrozenTrial | None:
        """A trial that goes on to its next rung."""
        if self._ladder is None:
            return None
        found = self._found_before(trials, self._ladder) or self._ladder.promoted(trials, wanted)
        self._promoted = [trial.number for trial in found[1:]]
        if not found:
            return None
        trial = found[0]
        rung = len(trial.user_attrs["rungs"])
        self._rung = rung - 1
        # The rung last: until it stands there the trial waits, and nobody runs it.
        self._ledger.update(trial.number, {"owner": self.owner, "lease": until(), "rung": rung})
        return self._ledger.trial(trial.number)

    def _found_before(self, trials: Sequence[FrozenTrial], ladder: Ladder) -> list[FrozenTrial]:
        """Those of `_promoted` that may still go on: another driver may have sent on these or others meanwhile."""
        found = [trials[number] for number in self._promoted if waits_at(trials[number], self._rung)]
        return found[: max(ladder.room(trials, self._rung), 0)] if found else []

    def _let_go(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """A trial that waits in vain: nothing new will come, and nothing runs that could send it on."""
        if self._ladder is None or any(runs(trial) and not self._is_waiting(trial) for trial in trials):
            return None
        trial = next(filter(self._is_waiting, trials), None)
        if trial is None:
            return None
        rung = len(trial.user_attrs["rungs"]) - 1
        reason = f"let go at rung {rung}: others are better there at their costs"
        return self._ledger.finish(trial.number, {"outcome": "stopped", "reason": reason})

    def _has_ended(self, trial: FrozenTrial) -> bool:
        """Whether all is known of it and only its end is not yet told."""
        is_through = self._ladder is not None and self._ladder.is_through(trial.user_attrs)
        return runs(trial) and ("outcome" in trial.user_attrs or is_through)

    def _end_of(self, trial: FrozenTrial) -> dict[str, Any]:
        """What its driver did not come to store of a trial that has ended."""
        if "outcome" in trial.user_attrs:
            return {}
        final = settled(trial.user_attrs, self._ledger.objectives, self._plan.limits)
        return {key: final[key] for key in ("reason", "outcome") if key in final}

    def _is_waiting(self, trial: FrozenTrial) -> bool:
        """Whether it was judged at a rung and may be sent on."""
        return runs(trial) and is_waiting(trial.user_attrs) and not self._has_ended(trial)

    def _must_run(self, trial: FrozenTrial) -> bool:
        """Whether somebody has to run it, or is about to tell its end."""
        return runs(trial) and "outcome" not in trial.user_attrs and not self._is_waiting(trial)

    def _is_lost(self, trial: FrozenTrial) -> bool:
        return is_lost(trial.user_attrs, self.owner, time.time())

    def _left_behind(self, trials: Sequence[FrozenTrial], has_room: bool) -> FrozenTrial | None:
        """A trial whose driver is gone. It keeps its number: the order, and so what is proposed later, stays."""
        left = (trial for trial in trials if self._must_run(trial) and (has_room or not _is_fresh(trial)))
        lost = next(filter(self._is_lost, left), None)
        if lost is None:
            return None
        known = lost.user_attrs
        losses = known.get("losses", 0) + (1 if known.get("lease") else 0)  # a lease of 0 was given back in order
        if losses >= MOST_LOSSES:
            reason = f"{losses} drivers died while they ran it (out of memory?)"
            return self._ledger.finish(lost.number, failed(reason).attributes)
        self._ledger.update(lost.number, {"losses": losses, "owner": self.owner, "lease": until()})
        self.taken_over.add(lost.number)
        return self._ledger.trial(lost.number)

    def _new(self, trials: Sequence[FrozenTrial], wanted: int) -> FrozenTrial | None:
        if self.end:
            return None
        self._foresight.learn(trials)
        present = {trial.user_attrs.get("known") for trial in trials}
        for name, arch in self._plan.space.known:
            if name not in present:
                return self._added(Entry({"known": name}), arch)
        return self._taken_over(trials) or self._proposed(trials, wanted)

    def _taken_over(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """The next candidate of another study that this space holds as well."""
        present = {trial.user_attrs.get("digest") for trial in trials}
        for digest, one in self._plan.earlier.items():
            if digest not in present and one.setting:
                return self._added(Entry({}, one.setting, distributions_of(self._plan.space, one.setting)), one.arch)
        return None

    def _proposed(self, trials: Sequence[FrozenTrial], wanted: int) -> FrozenTrial | None:
        refused = refused_in_a_row(trials)
        most = min(max(MOST_REFUSED // self._plan.how.draws, FEWEST_REFUSED), MOST_REFUSED)
        if len(refused) >= most:
            if not any(map(_is_fresh, self.active(trials))):  # one that is trained yet would have ended the row
                last = refused[0].user_attrs["reason"]
                told = f"{len(refused):,} proposals in a row were refused, the last one: {last}; loosen that"
                self.end = Ending(told, NothingFits)
            return None
        if is_between_generations(trials, self._plan.how):
            return None
        if self._proposals:  # another driver may have drawn the same meanwhile
            seen = {identity_of(trial) for trial in trials}
            self._proposals = [proposal for proposal in self._proposals if proposal.identity not in seen]
        if not self._proposals:
            counting = Counting(self._plan.cost_of, self._plan.limits, self._plan.untrained)
            self._proposals = propose(self._plan.space, trials, self._plan.how, counting, wanted)
        if not self._proposals:
            told = f"the space seems to hold no network besides the {len(trials):,} already drawn"
            self.end = Ending(told, is_exhausted=True)
            return None
        proposal = self._proposals.pop(0)
        draw = proposal.draw
        arm = {"arm": "random"} if proposal.is_control else {}
        entry = Entry(arm, draw.setting, proposal.distributions, proposal.notes)
        if draw.arch is None:
            return self._ledger.add(entry.refused(f"{draw.refused} does not hold", {str(draw.refused): 1.0}))
        return self._added(entry, draw.arch)

    def _added(self, entry: Entry, arch: Arch) -> FrozenTrial:
        trial = self._ledger.add(self._judged_by_cost(entry, arch))
        if trial.state == TrialState.RUNNING and "outcome" in trial.user_attrs:  # another study has judged it
            self._keep_weights(trial)
            return self._ledger.finish(trial.number, {})
        return trial

    def _keep_weights(self, trial: FrozenTrial) -> None:
        """Copy the weights of a trial that was taken over from another study."""
        known = trial.user_attrs
        source = self._plan.earlier.get(known["digest"])
        if source and source.attributes["copied_from"] == known.get("copied_from"):
            source.keep_weights(weights_path(self._ledger.folder, trial.number))

    def _judged_by_cost(self, entry: Entry, arch: Arch) -> FrozenTrial:
        """The trial, running and ours, with its exact costs; or refused for them."""
        known: dict[str, Any] = {"digest": arch.digest(), "arch": arch.to_dict()}
        try:
            cost = self._plan.cost_of(arch)
        except InputError as error:
            return entry.refused(str(error), {"impossible": 1.0}, **known)
        known |= {"params": cost.params, "flops": cost.flops, "flops_by_place": by_place(arch, cost.flops_by_part)}
        violations = violations_of(self._plan.limits, known)
        known |= {"violations": violations} if violations else {}
        reason = broken(self._plan.limits, known)
        known |= self._foresight.expected(arch)
        if self._plan.untrained and not reason and "known" not in entry.attributes:
            known["zero_cost"] = {self._plan.how.zero_cost: self._plan.untrained(arch)}
        if arch.digest() in self._plan.earlier and ("known" in entry.attributes or not reason):
            copied = self._plan.earlier[arch.digest()].attributes
            known = settled({**entry.attributes, **known, **copied}, self._ledger.objectives, self._plan.limits)
            return entry.running(**known, owner=self.owner, lease=until())
        if "known" in entry.attributes:  # a published network is the yardstick, whatever it costs
            return entry.running(**known, owner=self.owner, lease=until())
        if reason:
            return entry.refused(reason, violations, **known)
        foreseen = self._foresight.refusal(known)
        if foreseen:
            violations |= foreseen[1]
            return entry.refused(foreseen[0], violations, **known | {"violations": violations})
        return entry.running(**known, **self._inherited(entry, arch), owner=self.owner, lease=until())

    def _inherited(self, entry: Entry, arch: Arch) -> dict[str, int]:
        """Whose weights a new candidate begins with: chosen once, so that it begins alike whenever it runs again."""
        if not self._plan.inherits:
            return {}
        trials = tuple(trial_of(trial, self._ledger.objectives) for trial in self._ledger.trials())
        record = Record("", self._ledger.folder, self._ledger.attributes, trials)
        relative = relative_of(entry.params, arch, record)
        return {} if relative is None else {"relative": relative}


def _is_fresh(trial: FrozenTrial) -> bool:
    """Whether it has not been judged at all, and so is not yet counted as spent."""
    return not is_spent(trial.user_attrs)


def _spent(trials: Sequence[FrozenTrial]) -> int:
    return sum(is_spent(trial.user_attrs) for trial in trials)
