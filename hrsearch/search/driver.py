"""Drives a search: keeps every worker busy with the next candidate until the budget is spent."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hrsearch.arch import Arch
from hrsearch.candidate import Candidate, Judgement, seed_of
from hrsearch.errors import InputError, is_disk_full
from hrsearch.objective import Cost, objective_of, parse_limit
from hrsearch.plugins import code_of
from hrsearch.runner import Runner
from hrsearch.search.claims import Claims, Plan
from hrsearch.search.clock import Clock
from hrsearch.search.earlier import earlier_of
from hrsearch.search.ending import Counts, Ending, counts_of, vain, words_of
from hrsearch.search.engines import engine_of
from hrsearch.search.engines.setup import Prepare, Setup, Workers
from hrsearch.search.foresight import Forecast
from hrsearch.search.interruption import Interruption
from hrsearch.search.judging import Evaluate, judged, result_of
from hrsearch.search.leases import Leases
from hrsearch.search.ledger import Ledger, open_ledger
from hrsearch.search.promise import Untrained
from hrsearch.search.proposals import How
from hrsearch.search.room import Reserve, checkpoints_in
from hrsearch.search.rungs import Ladder
from hrsearch.search.verdict import ran_out_of_memory, settled
from hrsearch.space import Space
from hrsearch.storage import reaching
from hrsearch.study import Trial, trial_of

USUAL = 200  # candidates that a sampler reckons with where only the hours end a search
POLL_S = 1.0  # how often a driver looks what other drivers of its study have done
SPENT = Ending("the hours are spent")
MOST_FAILED = 20  # candidates that fail in a row, none having been trained meanwhile, after which a session gives up


@dataclass(frozen=True)
class Event:
    """A trial that began to run or ended, what is told of it, and where the study stands then."""

    trial: Trial
    counts: Counts
    message: str | None = None


@dataclass(frozen=True, order=True)
class _Flight:
    """A candidate that is being judged: the trial's number, the rung, and when it began."""

    number: int
    rung: int
    began: float


@dataclass(frozen=True)
class Judging:
    """What judges candidates.

    `cost_of` runs in the driver, before training; an InputError of it refuses the network. So does `forecast`, which
    learns from what was measured. `untrained` asks the runner's zero-cost proxy, there too; it raises nothing. What the
    studies in the folders `earlier` have judged is taken over from them (see `hrsearch.search.earlier`). `evaluate`
    must pickle and runs in the runner's engine, whose workers have the modules of `preload` imported and have called
    `prepare`. `under` makes another `evaluate` for a study with these attributes, which another driver may have begun.
    """

    cost_of: Callable[[Arch], Cost]
    evaluate: Evaluate
    preload: Sequence[str] = ()
    prepare: Prepare | None = None
    forecast: Forecast | None = None
    untrained: Untrained | None = None
    earlier: Sequence[Path] = ()
    under: Callable[[Mapping[str, Any]], Evaluate] | None = None


def drive(
    space: Space,
    runner: Runner,
    judging: Judging,
    *,
    budget: int | None,
    folder: Path,
    attributes: Mapping[str, Any],
    hours: float | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> str:
    """Search until the study in `folder` holds `budget` candidates, trained or failed, over all its sessions, or until
    it has been searched for so many hours; None stands for no bound.

    Returns a line that says why it ended. Other drivers may work on the same study, here or elsewhere. After Ctrl-C
    (KeyboardInterrupt), a full disk (OSError) or any death of this process, the same call goes on where it stopped.

    `attributes` are kept with a new study. An InputError says that the study in `folder` is another one, or that
    nothing fits.
    """
    objectives = tuple(objective_of(name) for name in runner.search.objectives)
    limits = tuple(parse_limit(text) for text in runner.search.limits)
    asked, rungs = runner.search, len(runner.proxy.ladder)
    screens = runner.proxy.screen is not None
    told, by, kind = asked.told, asked.rungs_by, asked.zero_cost
    ladder = Ladder(rungs, asked.eta, objectives, told, by, screens, kind) if rungs > 1 else None
    how = How(asked.sampler, asked.seed, asked.objectives, budget or USUAL, asked.draws, asked.control, ladder, kind)
    with _quiet(), reaching(folder), ExitStack() as stack:
        known = {**attributes, **_attributes(space, runner)}
        earlier = earlier_of(judging.earlier, space, known)  # one that does not fit is told before anything is written
        ledger = open_ledger(folder, objectives, known)
        ledger.set(budget=budget, hours=hours, is_exhausted=False, **_data_now(ledger.attributes, runner))
        interruption = stack.enter_context(Interruption())
        cost_of = interruption.allowing(judging.cost_of)
        untrained = interruption.allowing(judging.untrained) if judging.untrained else None
        plan = Plan(space, how, limits, budget, cost_of, judging.forecast, earlier, runner.proxy.inherit, untrained)
        setup = Setup(judging.preload, judging.prepare, folder, runner.device == "cuda")
        engine = engine_of(runner.engine, setup)
        stack.callback(engine.shutdown, cancel_futures=True)
        evaluate = judging.under(ledger.attributes) if judging.under else judging.evaluate
        return _Session(plan, ledger, engine, evaluate, on_event, interruption).run(hours)


class _Session:
    """One run of one driver."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        engine: Workers,
        evaluate: Evaluate,
        on_event: Callable[[Event], None],
        interruption: Interruption,
    ) -> None:
        self._plan = plan
        self._ledger = ledger
        self._engine = engine
        self._evaluate = evaluate
        self._on_event = on_event
        self._interruption = interruption
        self._claims = Claims(plan, ledger)
        self._reserve = Reserve(ledger.folder)
        owner = self._claims.owner
        self._leases = Leases(lambda number, lease: ledger.renew(number, owner, lease), at_once=ledger.at_once)
        self._flights: dict[Future[Judgement], _Flight] = {}
        self._failed = 0  # in a row
        self._works = False  # whether anything was trained in this session

    def run(self, hours: float | None) -> str:
        """Search until there is nothing to do, neither here nor at another driver that could yet die."""
        clock = Clock(self._ledger, self._claims.owner["session"], hours)
        self._reserve.take()
        try:
            with self._leases:
                self._search(clock)
            clock.tick(at_once=True)
        except BaseException as error:
            with suppress(Exception):  # the time up to here was searched; inline, hours may not be noted yet
                clock.tick(at_once=True)
            self._give_back(error)
            raise
        end = vain(self._ending(), self._ledger.trials())
        self._ledger.set(is_exhausted=end.is_exhausted)
        if end.error:
            raise end.error(end.message)
        return end.message

    def _search(self, clock: Clock) -> None:
        while True:
            clock.tick()
            if clock.is_up and not self._claims.is_late:  # a space that is exhausted may have much waiting at its rungs
                self._claims.end = self._claims.end or SPENT
                self._claims.is_late = True
            with self._ledger.at_once():
                self._fill()
            if self._flights:
                self._collect()
            elif self._claims.active(self._ledger.trials()):
                with self._interruption.allowed():
                    time.sleep(POLL_S)
            else:
                return

    def _fill(self) -> None:
        # What has ended is told before more is proposed: with a thousand workers the filling takes minutes.
        while len(self._flights) < self._engine.workers and not any(flight.done() for flight in self._flights):
            trial = self._claims.claim(self._engine.workers - len(self._flights))
            if trial is None:
                return
            if trial.state == TrialState.RUNNING:
                self._launch(trial)
            else:
                self._tidy()
                self._tell(trial)

    def _launch(self, trial: FrozenTrial) -> None:
        self._leases.hold(trial.number)
        again = trial.number in self._claims.taken_over
        self._claims.taken_over.discard(trial.number)
        self._tell(trial, f"trial {trial.number} was left by a driver that is gone; it runs again" if again else None)
        candidate = self._candidate(trial)
        began = time.monotonic()
        with self._interruption.allowed():  # the inline engine judges here
            future = self._engine.submit(judged, self._evaluate, candidate)
        self._flights[future] = _Flight(trial.number, candidate.rung, began)

    def _candidate(self, trial: FrozenTrial) -> Candidate:
        digest = trial.user_attrs["digest"]
        arch = Arch.from_dict(trial.user_attrs["arch"])
        seed = seed_of(self._plan.how.seed, digest)
        rung, relative = trial.user_attrs.get("rung", 0), trial.user_attrs.get("relative")
        is_known = "known" in trial.user_attrs
        return Candidate(trial.number, digest, arch, seed, self._ledger.folder, rung, is_known, relative)

    def _collect(self) -> None:
        with self._interruption.allowed():
            done, _ = wait(self._flights, timeout=POLL_S, return_when=FIRST_COMPLETED)
        with self._ledger.at_once():
            self._finish(done)

    def _finish(self, done: set[Future[Judgement]]) -> None:
        for future in sorted(done, key=lambda one: self._flights[one]):
            trial = self._stored(future)
            if trial is not None:
                self._tidy()
                self._tell(trial)
                self._watch(trial)

    def _stored(self, future: Future[Judgement]) -> FrozenTrial | None:
        """The trial whose judging has ended, once that is stored; None where it is no longer this driver's.

        Who sleeps past a lease has been taken for dead: another judges the trial since, or has sent it on.
        """
        flight = self._flights[future]
        attributes = result_of(future)
        with self._ledger.exclusive():
            stored = self._ledger.trial(flight.number)
            known = stored.user_attrs
            is_ours = known.get("owner") == self._claims.owner and known.get("rung", 0) == flight.rung
            trial = None
            if is_ours and not stored.state.is_finished():
                trial = self._judged_trial(stored, attributes, time.monotonic() - flight.began)
        del self._flights[future]
        self._leases.drop(flight.number)
        return trial

    def _judged_trial(self, trial: FrozenTrial, attributes: Mapping[str, Any], seconds: float) -> FrozenTrial:
        """The trial with what is known of it now: at its end, or waiting at its rung."""
        number, stored = trial.number, trial.user_attrs
        spent = {"seconds": round(stored.get("seconds", 0.0) + seconds, 3)}
        ladder = self._plan.how.ladder
        is_last = ladder is None or stored.get("rung", 0) + 1 >= ladder.rungs
        # What is asked of a score is asked of full training: at a rung everybody scores less.
        limits = [limit for limit in self._plan.limits if is_last or limit.objective != "score"]
        final = settled({**stored, **spent, **attributes}, self._ledger.objectives, limits)
        if ladder and "score" in attributes and "score" in final:
            final["rungs"] = [*stored.get("rungs", ())[: stored.get("rung", 0)], final["score"]]
        changed = {key: value for key, value in final.items() if stored.get(key) != value}
        # The rungs last: with them the trial waits or is through, and all that is known of it stands there by then.
        changed |= {"rungs": changed.pop("rungs")} if "rungs" in changed else {}
        if not ladder or final["outcome"] != "trained" or ladder.is_through(final):
            return self._ledger.finish(number, changed)
        del changed["outcome"]
        self._ledger.update(number, changed)
        return self._ledger.trial(number)

    def _watch(self, trial: FrozenTrial) -> None:
        """Give up where nothing works any more: a budget of candidates that all fail helps nobody."""
        known = trial.user_attrs
        if known.get("outcome") == "failed":  # one that is too large says something of the space, unless all are
            self._failed += not (self._works and ran_out_of_memory(known))
        elif "score" in known:  # one that was refused before it was trained shows nothing
            self._failed, self._works = 0, True
        # One blow, a node that goes down, may end all that run: what begins after it has to fail, too.
        if self._failed >= max(MOST_FAILED, 2 * self._engine.workers):
            last = f"trial {trial.number} the last: {known.get('reason')}"
            self._claims.end = Ending(f"{self._failed} candidates in a row failed, {last}", InputError)
            self._claims.is_late = True

    def _give_back(self, error: BaseException) -> None:
        """Keep what is finished and end the rest, so that the next driver runs it at once and nothing twice."""
        ended = [future for future in self._flights if future.done() and not future.exception()]
        if is_disk_full(error):
            self._engine.shutdown(cancel_futures=True)  # first, or the workers would take the room
            self._reserve.release()
        kept = []
        for future in sorted(ended, key=lambda one: self._flights[one]):
            with suppress(Exception):
                kept.append(self._stored(future))
        self._engine.shutdown(cancel_futures=True)
        for number in self._leases.held:
            with suppress(Exception):
                self._ledger.update(number, {"lease": 0})
        for trial in filter(None, kept):
            with suppress(Exception):
                self._tell(trial)

    def _tell(self, trial: FrozenTrial, message: str | None = None) -> None:
        self._on_event(Event(trial_of(trial, self._ledger.objectives), self._counts(), message))

    def _tidy(self) -> None:
        """Remove the checkpoints that are not worth their room."""
        ladder = self._plan.how.ladder
        found = checkpoints_in(self._ledger.folder) if ladder else []
        if ladder and found:  # looked for first: one that was not there yet may be of a trial not yet in this list
            keep = ladder.worth_keeping(self._ledger.trials())
            for path, number in found:
                if number not in keep:
                    path.unlink(missing_ok=True)

    def _counts(self) -> Counts:
        return counts_of(self._ledger.trials(), self._plan.budget)

    def _ending(self) -> Ending:
        """Why it ended, with the counts of now: when the hours were spent, workers still ran."""
        end = self._claims.end or Ending(self._finished())
        return Ending(f"{end.message}; {self._finished()}") if end is SPENT else end

    def _finished(self) -> str:
        return words_of(self._counts(), has_rungs=self._plan.how.ladder is not None)


def _attributes(space: Space, runner: Runner) -> dict[str, Any]:
    beside = {"code": code_of(space.plugins), "known": {name: arch.digest() for name, arch in space.known}}
    return {
        "space": space.text,
        "space_path": str(space.path),
        "task": space.task,
        "plugins": [str(path) for path in space.plugins],
        "runner": runner.model_dump(mode="json"),
        "objectives": list(runner.search.objectives),
        "limits": [str(parse_limit(text)) for text in runner.search.limits],
        "seed": runner.search.seed,
        **{key: found for key, found in beside.items() if found},
    }


def _data_now(stored: Mapping[str, Any], runner: Runner) -> dict[str, Any]:
    """The study's runner where a person's own data has another place now: what trains networks again looks there."""
    known = stored["runner"]
    if known["proxy"].get("data") == runner.proxy.data:
        return {}
    return {"runner": {**known, "proxy": {**known["proxy"], "data": runner.proxy.data}}}


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna tells of every study that it makes; the view is one per proposal."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
