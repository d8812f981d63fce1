"""Where a search stands, and why it ends."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from hrsearch.errors import InputError, NothingFits
from hrsearch.search.verdict import is_spent
from hrsearch.study import is_waiting


@dataclass(frozen=True)
class Counts:
    """How many trials of each state a study has; `done` of `budget` are spent (trained to some rung, or failed)."""

    done: int
    budget: int | None  # None: only the hours end it
    trained: int
    failed: int
    refused: int
    running: int
    stopped: int = 0  # let go at a rung
    waiting: int = 0  # judged at a rung, and perhaps sent on


@dataclass(frozen=True)
class Ending:
    """Why nothing more is proposed."""

    message: str
    error: type[InputError] | None = None  # where the person has to change something
    is_exhausted: bool = False  # the space holds no other network


def counts_of(trials: Sequence[FrozenTrial], budget: int | None) -> Counts:
    """How many of these there are."""
    done, outcomes, states = 0, Counter[str](), Counter[bool]()
    for trial in trials:  # once for all: with a thousand workers it is told many times a second
        attributes = trial.user_attrs
        done += is_spent(attributes)
        if runs(trial):
            states[is_waiting(attributes)] += 1
        else:
            outcomes[attributes.get("outcome", "")] += 1
    return Counts(
        done=done,
        budget=budget,
        trained=outcomes["trained"],
        failed=outcomes["failed"],
        refused=outcomes["refused"],
        running=states[False],
        stopped=outcomes["stopped"],
        waiting=states[True],
    )


def words_of(counts: Counts, *, has_rungs: bool) -> str:
    """How many are done, and what became of them."""
    stopped = f" {counts.stopped} let go at an earlier rung," if has_rungs else ""
    waiting = f", {counts.waiting} waiting at a rung" if counts.waiting else ""
    return (
        f"{counts.done}{f' of {counts.budget}' if counts.budget else ''} candidates are done:"
        f" {counts.trained} trained,{stopped} {counts.failed} failed, {counts.refused} refused{waiting}"
    )


def vain(end: Ending, trials: Sequence[FrozenTrial]) -> Ending:
    """The ending, an error if every candidate failed or was refused: with the newest reason, of a failure if any.

    Where something was trained it is no error that nothing else fits.
    """
    ended = [trial.user_attrs for trial in trials]
    outcomes = {each.get("outcome") for each in ended}
    if end.error is NothingFits and "trained" in outcomes:
        return Ending(end.message, is_exhausted=end.is_exhausted)
    if end.error or not outcomes or not outcomes <= {"refused", "failed"}:
        return end
    outcome = "failed" if "failed" in outcomes else "refused"
    reason = next(each["reason"] for each in reversed(ended) if each["outcome"] == outcome)
    told = f"{end.message}; the last one: {reason}"
    if outcome == "failed":
        return Ending(told, InputError, end.is_exhausted)
    return Ending(f"{told}; loosen that", NothingFits, end.is_exhausted)


def runs(trial: FrozenTrial) -> bool:
    """Whether the trial is one of ours that has not ended (a dashboard may have added others)."""
    return trial.state == TrialState.RUNNING and "arch" in trial.user_attrs
