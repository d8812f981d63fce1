"""What a driver runs next: a trial that was left behind, a published network, or a new proposal."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from hrsearch.arch import Arch, by_place
from hrsearch.candidate import weights_path
from hrsearch.errors import InputError
from hrsearch.objective import Cost, Limit
from hrsearch.search.earlier import Evaluation
from hrsearch.search.foresight import Forecast, Foresight
from hrsearch.search.judging import failed
from hrsearch.search.leases import is_lost, new_owner, until
from hrsearch.search.ledger import Ledger
from hrsearch.search.promise import Counting
from hrsearch.search.proposals import How, distributions_of, propose, refused_in_a_row
from hrsearch.search.verdict import broken, is_spent, settled, violations_of
from hrsearch.space import Space

MOST_REFUSED = 1000  # proposals refused in a row after which a search gives up
MOST_LOSSES = 5  # drivers that may die while they run a candidate before the candidate is blamed


@dataclass(frozen=True)
class Plan:
    """What is searched: the space, how it is proposed from, what refuses a network, and how many are judged."""

    space: Space
    how: How
    limits: tuple[Limit, ...]
    budget: int
    cost_of: Callable[[Arch], Cost]
    forecast: Forecast | None = None
    earlier: Mapping[str, Evaluation] = field(default_factory=dict)  # by digest


@dataclass(frozen=True)
class Ending:
    """Why nothing more is proposed; `is_error` where the person has to change something."""

    message: str
    is_error: bool


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
        """The trial that was refused before training; `constraints` tell the sampler how far it was off."""
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
        self.taken_over: set[int] = set()
        self._plan = plan
        self._ledger = ledger
        self._foresight = Foresight(plan.forecast, plan.limits)

    def claim(self) -> FrozenTrial | None:
        """A trial that is this driver's to run, or one that has ended at once; None if there is nothing to do now."""
        with self._ledger.exclusive():
            trials = self._ledger.trials()
            for trial in trials:
                if runs(trial) and "outcome" in trial.user_attrs and self._is_lost(trial):
                    return self._ledger.finish(trial.number, {})  # its driver died before it could tell the outcome
            if _spent(trials) + len(self.active(trials)) >= self._plan.budget:
                return None
            return self._left_behind(trials) or self._new(trials)

    def active(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The trials that are run at this moment, here or elsewhere."""
        return [trial for trial in trials if _waits(trial) and not self._is_lost(trial)]

    def _is_lost(self, trial: FrozenTrial) -> bool:
        return is_lost(trial.user_attrs, self.owner, time.time())

    def _left_behind(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """A trial whose driver is gone. It keeps its number: the order, and so what is proposed later, stays."""
        lost = next((trial for trial in trials if _waits(trial) and self._is_lost(trial)), None)
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

    def _new(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        if self.end:
            return None
        self._foresight.learn(trials)
        present = {trial.user_attrs.get("known") for trial in trials}
        for name, arch in self._plan.space.known:
            if name not in present:
                return self._added(Entry({"known": name}), arch)
        return self._taken_over(trials) or self._proposed(trials)

    def _taken_over(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """The next candidate of another study that this space holds as well."""
        present = {trial.user_attrs.get("digest") for trial in trials}
        for digest, one in self._plan.earlier.items():
            if digest not in present and one.setting:
                return self._added(Entry({}, one.setting, distributions_of(self._plan.space, one.setting)), one.arch)
        return None

    def _proposed(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        refusals = refused_in_a_row(trials)
        if refusals >= MOST_REFUSED:
            last = trials[-1].user_attrs["reason"]
            self.end = Ending(f"{refusals:,} proposals in a row were refused, the last one: {last}; loosen that", True)
            return None
        counting = Counting(self._plan.cost_of, self._plan.limits)
        proposal = propose(self._plan.space, trials, self._plan.how, counting)
        if proposal is None:
            self.end = Ending(f"the space seems to hold no network besides the {len(trials):,} already drawn", False)
            return None
        draw = proposal.draw
        arm = {"arm": "random"} if proposal.is_control else {}
        entry = Entry(arm, draw.setting, proposal.distributions, proposal.notes)
        if draw.arch is None:
            return self._ledger.add(entry.refused(f"{draw.refused} does not hold", {str(draw.refused): 1.0}))
        return self._added(entry, draw.arch)

    def _added(self, entry: Entry, arch: Arch) -> FrozenTrial:
        trial = self._ledger.add(self._judged_by_cost(entry, arch))
        if trial.state == TrialState.RUNNING and "outcome" in trial.user_attrs:  # another study has judged it
            self._plan.earlier[trial.user_attrs["digest"]].keep_weights(weights_path(self._ledger.folder, trial.number))
            return self._ledger.finish(trial.number, {})
        return trial

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
        return entry.running(**known, owner=self.owner, lease=until())


def runs(trial: FrozenTrial) -> bool:
    """Whether the trial is one of ours that has not ended (a dashboard may have added others)."""
    return trial.state == TrialState.RUNNING and "arch" in trial.user_attrs


def _waits(trial: FrozenTrial) -> bool:
    return runs(trial) and "outcome" not in trial.user_attrs


def _spent(trials: Sequence[FrozenTrial]) -> int:
    return sum(is_spent(trial.user_attrs) for trial in trials)
