"""Reads a study.

The study is an Optuna study in `studies/<name>/study.journal`, or where `storage` says. A trial's parameters are the
knobs that the drawn network reads. What else is known of it stands in its user attributes, under these names:

| attribute | holds |
|---|---|
| digest | identity of the resolved architecture |
| arch | the resolved architecture, `Arch.to_dict()` |
| known | name of the published network; absent for a drawn one |
| arm | "random": drawn at random, to hold the sampler against; absent for a candidate of the sampler |
| copied_from | the study and the trial of it whose score and latency these are: "hrvit:17" |
| relative | number of the trial whose weights it began with; only where the proxy says `inherit` |
| params, flops | exact costs of one image at the deployment size; one multiply-accumulate is one |
| latency | a `Latency` as a mapping |
| part_ms | milliseconds of each part in the order of `Cost.flops_by_part`, then of what lies between (engine eager) |
| flops_by_place, ms_by_place | the same added up: the branches of each stride, links, head, between the parts |
| expected_ms | the latency that the parts of earlier networks let expect, before it was measured |
| memory, training_memory | a `Memory` as a mapping; only where the runner judges or limits by it |
| score | a `Score` as a mapping |
| rungs | with rungs: a `Score` of each rung that it was trained to here, as mappings; absent where it is copied |
| rung | the rung that it is trained to, from 0; absent for the first |
| outcome | "trained" (to the last rung), "stopped" (let go at an earlier one), "refused" (a limit is
  broken), "failed"; absent while it runs or waits |
| reason | why it was refused or failed |
| violations | relative violation of each limit, by its text; positive where broken, as a published network's may be;
  `memory`: 1 where the candidate failed because memory ran out |
| traceback | of a candidate that failed by an unforeseen exception: its last 4,000 characters |
| seconds | wall seconds that judging it took |
| owner, lease | the driver that runs it, and the time (seconds since the epoch) until which that holds; 0: given back |
| losses | how many drivers died while they ran it |

and of the study itself: `space` (the YAML's text), `space_path`, `task`, `plugins` (files of code), `code` (their names
with hashes of them), `known` (the published networks' digests, by name),
`classes`, `runner` (the resolved runner; its data is where the last session found it),
`objectives`, `limits`, `seed`, `protocol` (digest of everything a score or latency depends on), `split` (hash of the
data; of a person's: names and sizes of the files on either side), `reference_ms` (the reference network's time to which
latencies are scaled), `versions`, `machine`, `budget`, `hours`, `is_exhausted` (the space held no other network),
`target:...` (see `hrsearch.targets`), `calibration:...` and `confirmation...` (see `hrsearch.trust`), `session:ID`
(from when to when a driver searched, in seconds since the epoch).
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import optuna
import pandas as pd

from hrsearch.errors import InputError, suggestion
from hrsearch.front import not_surely_dominated
from hrsearch.objective import Limit, Objective, objective_of, parse_limit
from hrsearch.storage import foreign, holds_study, name_in, reaching, storage_of

SAID = {"objectives", "limits", "runner"}  # attributes without which a study is none of ours
UNBEGUN = "its study has not begun; run the search again"
State = Literal["trained", "stopped", "refused", "failed", "waiting", "running"]


@dataclass(frozen=True)
class Trial:
    """One candidate of a study."""

    number: int
    state: State
    knobs: Mapping[str, Any]
    attributes: Mapping[str, Any]
    values: tuple[float | None, ...]  # one per objective of the study; None where it is not known
    started: datetime | None
    finished: datetime | None

    @property
    def name(self) -> str:
        """What a person calls it: the published name, or its number."""
        return str(self.attributes.get("known") or f"trial {self.number}")

    @property
    def is_within_limits(self) -> bool:
        """Whether it keeps every limit; a published network is judged even if it does not, as the yardstick."""
        return all(violation <= 0 for violation in (self.attributes.get("violations") or {}).values())


@dataclass(frozen=True)
class Record:
    """A study as it stands in its storage."""

    name: str
    folder: Path
    attributes: Mapping[str, Any]
    trials: tuple[Trial, ...]
    # Of a study seen through `hrsearch finalize`: the search's front as far as it was not confirmed, best score first.
    unconfirmed: tuple[Trial, ...] | None = None

    @property
    def task(self) -> str:
        """What its networks are for."""
        return str(self.attributes.get("task", "segment"))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What candidates are judged by, in the order of `Trial.values`."""
        return tuple(objective_of(name) for name in self.attributes["objectives"])

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What candidates must keep."""
        return tuple(parse_limit(text) for text in self.attributes["limits"])

    @cached_property
    def trained(self) -> tuple[Trial, ...]:
        """Trials with a value for every objective, in order of their number."""
        return tuple(trial for trial in self.trials if trial.state == "trained" and None not in trial.values)

    @cached_property
    def contenders(self) -> tuple[Trial, ...]:
        """Those of the trained trials that keep every limit: the front and the winners come from them."""
        return tuple(trial for trial in self.trained if trial.is_within_limits)

    def front(self) -> tuple[Trial, ...]:
        """Contenders that no other one beats in every objective beyond the noise of measuring, best score first."""
        directions = [objective.direction for objective in self.objectives]
        chosen = [self.contenders[index] for index in not_surely_dominated(*self._intervals(), directions)]
        sign = -1 if directions[0] == "maximize" else 1
        return tuple(sorted(chosen, key=lambda trial: (sign * float(trial.values[0] or 0.0), trial.number)))

    def _intervals(self) -> tuple[list[list[float]], list[list[float]]]:
        """The lowest and the highest values of every contender."""
        found = [
            [objective.interval(trial.attributes) or (0.0, 0.0) for objective in self.objectives]
            for trial in self.contenders
        ]
        return [[low for low, _ in row] for row in found], [[high for _, high in row] for row in found]

    def trial(self, number: int) -> Trial:
        """The trial of that number; an unknown one is an InputError."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        numbers = [trial.number for trial in self.trials]
        has = f"{numbers[0]} to {numbers[-1]}" if numbers else "none"
        if len(numbers) != (numbers[-1] + 1 if numbers else 0):  # on another target not all were measured
            has = f"{len(numbers)} of {has}"
        raise InputError(f"study {self.name!r} has no trial {number}; it has {has}")

    def table(self) -> pd.DataFrame:
        """One row per trial: its state, its figures, and a column per knob."""
        return pd.DataFrame([_row(trial) for trial in self.trials])


def folder_of(name: str, home: Path = Path("studies")) -> Path:
    """The folder of a study: a path as it is, a plain name below `home`, or here where only here a study has it."""
    here, below = Path(name), home / name
    return here if "/" in name or (holds_study(here) and not holds_study(below)) else below


def read_study(folder: Path) -> Record:
    """The study in `folder`; an InputError if there is none, or if its database is lost."""
    if not holds_study(folder):
        found = sorted(path.name for path in folder.parent.glob("*") if holds_study(path))
        what = suggestion(folder.name, found) if found else "begin one with hrsearch run SPACE"
        raise InputError(f"{folder}: holds no study; {what}")
    storage = storage_of(folder, begins=False)
    with reaching(folder):
        name = name_in(folder, storage)
        if name is None:
            raise InputError(f"{folder}: {UNBEGUN}")
        study = optuna.load_study(study_name=name, storage=storage)
        attributes, stored = study.user_attrs, study.get_trials(deepcopy=False)
    if not attributes.keys() >= SAID:
        raise foreign(folder) if stored else InputError(f"{folder}: {UNBEGUN}")
    objectives = tuple(objective_of(name) for name in attributes["objectives"])
    trials = tuple(trial_of(trial, objectives) for trial in stored)
    return Record(name, folder, attributes, trials)


def is_waiting(attributes: Mapping[str, Any]) -> bool:
    """Whether a trial that has not ended was judged at the rung that it was asked for, and may be sent to the next."""
    return "outcome" not in attributes and len(attributes.get("rungs") or ()) > attributes.get("rung", 0)


def untrained_of(attributes: Mapping[str, Any], kind: str | None) -> float | None:
    """What this zero-cost proxy said of a trial's network before it was trained; None where it said nothing."""
    said = (attributes.get("zero_cost") or {}).get(kind)
    return None if said is None else float(said)


def trial_of(trial: optuna.trial.FrozenTrial, objectives: tuple[Objective, ...]) -> Trial:
    """Optuna's trial as ours."""
    attributes = trial.user_attrs
    state: State = attributes.get("outcome", "failed")
    if not trial.state.is_finished():
        state = "waiting" if is_waiting(attributes) else "running"
    values = tuple(objective.of(attributes) for objective in objectives)
    return Trial(trial.number, state, trial.params, attributes, values, trial.datetime_start, trial.datetime_complete)


def telling(count: int) -> int:
    """How many of so many trials are "the best": a tenth, but at least 20, of few trials a half."""
    return min(max(math.ceil(count / 10), 20), count // 2)


def importances(trials: Sequence[Trial], losses: Mapping[str, Callable[[Trial], float]]) -> dict[str, dict[str, float]]:
    """For each loss the share of every knob in what makes it low, the largest first; empty where trials say nothing.

    Optuna's PED-ANOVA (Watanabe et al., 2023; conditional knobs included): how much the settings of the best trials, as
    many as `telling`, differ from those of all. A loss is low for what is good, so a score goes in negated.
    """
    levels: dict[str, list[Any]] = {}
    for trial in trials:
        for name, value in trial.knobs.items():
            found = levels.setdefault(name, [])
            found += [value] if value not in found else []
    if not any(len(found) > 1 for found in levels.values()):
        return {}
    study = _in_memory()
    choices: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.CategoricalDistribution(found) for name, found in levels.items()
    }
    for trial in trials:
        known = {name: choices[name] for name in trial.knobs}
        study.add_trial(optuna.trial.create_trial(params=dict(trial.knobs), distributions=known, value=0.0))
    return {name: _importances(study, [loss(trial) for trial in trials]) for name, loss in losses.items()}


def _importances(study: optuna.Study, values: Sequence[float]) -> dict[str, float]:
    if min(values) == max(values):  # nothing makes it low
        return {}
    best = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=telling(len(values)) / len(values))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PedAnova.* low", UserWarning)  # low is what is meant
        warnings.filterwarnings("ignore", "Some regimes for parameter", UserWarning)  # a knob that one network has
        return dict(
            optuna.importance.get_param_importances(study, evaluator=best, target=lambda trial: values[trial.number])
        )


def _in_memory() -> optuna.Study:
    """A study that nobody else sees, made without a line in the log."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study()
    finally:
        optuna.logging.set_verbosity(before)


def _row(trial: Trial) -> dict[str, Any]:
    attributes = trial.attributes
    score, latency = attributes.get("score") or {}, attributes.get("latency") or {}
    return {
        "number": trial.number,
        "name": trial.name,
        "state": trial.state,
        "reason": attributes.get("reason"),
        "score": score.get("value") if score.get("steps", 1) else None,  # a zero-cost proxy says none
        **(score.get("metrics") or {}),
        "flops": attributes.get("flops"),
        "latency_ms": latency.get("median_ms"),
        "latency_low_ms": latency.get("low_ms"),
        "latency_high_ms": latency.get("high_ms"),
        "expected_ms": attributes.get("expected_ms"),
        **{f"zero_cost.{kind}": value for kind, value in (attributes.get("zero_cost") or {}).items()},
        "params": attributes.get("params"),
        "rung": score.get("rung"),
        "memory_bytes": (attributes.get("memory") or {}).get("bytes"),
        "training_memory_bytes": (attributes.get("training_memory") or {}).get("bytes"),
        "seconds": attributes.get("seconds"),
        "arm": attributes.get("arm"),
        "copied_from": attributes.get("copied_from"),
        "digest": attributes.get("digest"),
        "started": trial.started,
        "finished": trial.finished,
        **{f"knob.{name}": value for name, value in trial.knobs.items()},
    }
