"""The study in its storage: opened by any number of drivers, complete at every moment, never lost."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.trial import FrozenTrial, Trial

from hrsearch.errors import InputError
from hrsearch.objective import Objective
from hrsearch.search.journal import StudyFile
from hrsearch.search.verdict import told
from hrsearch.storage import JOURNAL, exclusive, foreign, in_journal, name_in, pointer_of, reaching, storage_of
from hrsearch.study import SAID, UNBEGUN

MUST_AGREE = ("task", "classes", "objectives", "limits", "seed", "split", "space", "protocol", "code", "known")
CREATES = b'"op_code":4'  # of a line of a journal that makes a trial
DATA = "runner.proxy.data"


class Ledger:
    """A study that drivers write: its trials as Optuna stores them, changed one at a time."""

    def __init__(
        self, folder: Path, storage: BaseStorage, name: str, objectives: Sequence[Objective], file: StudyFile | None
    ) -> None:
        """`file` is what a journal's storage writes to."""
        self.folder = folder
        self.objectives = tuple(objectives)
        self._storage = storage
        self._file = file
        self._study_id = storage.get_study_id_from_name(name)
        # Never asked for anything: proposals come from the view. Given so that Optuna does not make a TPE for it.
        self._study = optuna.load_study(study_name=name, storage=storage, sampler=RandomSampler())

    @property
    def attributes(self) -> dict[str, Any]:
        """The study's own attributes."""
        return self._study.user_attrs

    def exclusive(self) -> AbstractContextManager[None]:
        """Nobody else takes a trial on while this holds."""
        return exclusive(self.folder)

    def at_once(self) -> AbstractContextManager[None]:
        """What is stored within is waited for at the end, where that saves time."""
        return self._file.at_once() if self._file else nullcontext()

    def trials(self) -> list[FrozenTrial]:
        """All trials in order of their number. They are the storage's own: not to be changed."""
        return self._study.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        """The trial of that number as it stands now."""
        return self._storage.get_trial(self._id_of(number))

    def set(self, **attributes: Any) -> None:
        """Set attributes of the study, where they differ."""
        present = self.attributes
        for key, value in attributes.items():
            if key not in present or present[key] != value:
                self._study.set_user_attr(key, value)

    def add(self, trial: FrozenTrial) -> FrozenTrial:
        """Store a trial, complete with its parameters, in one step; returned as stored, with its number."""
        return self._storage.get_trial(self._storage.create_new_trial(self._study_id, trial))

    def update(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Set attributes of a running trial."""
        trial_id = self._id_of(number)
        with self.at_once():
            for key, value in attributes.items():
                self._storage.set_trial_user_attr(trial_id, key, value)

    def renew(self, number: int, owner: Mapping[str, Any], until: float) -> bool:
        """Renew a lease; False if the trial is no longer the owner's. OSError if it cannot be stored now."""
        try:
            trial = self.trial(number)
            if trial.state.is_finished() or trial.user_attrs.get("owner") != owner:
                return False
            with suppress(UpdateFinishedTrialError):
                self.update(number, {"lease": until})
        except StorageInternalError as error:
            raise OSError(str(error)) from error
        return True

    def finish(self, number: int, attributes: Mapping[str, Any]) -> FrozenTrial:
        """Store the rest of a trial's attributes, then tell its end. Whoever finishes a trial first is heard.

        The outcome is written last: where it stands, a driver that died in between has left nothing to judge again.
        """
        # Another driver may have taken it over while this one slept, and finished it.
        with suppress(UpdateFinishedTrialError), self.at_once():
            self.update(number, {key: value for key, value in attributes.items() if key != "outcome"})
            self.update(number, {key: value for key, value in attributes.items() if key == "outcome"})
            self._conclude(self.trial(number))
        return self.trial(number)

    def _conclude(self, trial: FrozenTrial) -> None:
        trial_id = self._id_of(trial.number)
        for limit, violation in (trial.user_attrs.get("violations") or {}).items():
            if limit not in trial.constraints:
                Trial(self._study, trial_id).set_constraint(limit, violation)
        state, values = told(trial.user_attrs, self.objectives)
        self._storage.set_trial_state_values(trial_id, state, values)

    def _id_of(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def open_ledger(folder: Path, objectives: Sequence[Objective], attributes: Mapping[str, Any]) -> Ledger:
    """The study in `folder`, made if there is none; an InputError if it is another one than was asked for.

    Its attributes are written once and stay: they say under which conditions the first trial was judged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = json.loads(json.dumps(dict(attributes)))
    with exclusive(folder):
        if pointer_of(folder):
            _make_in_database(folder, objectives, asked)
        elif not _has_begun(folder / JOURNAL):
            _make(folder / JOURNAL, objectives, asked)
    storage, name, file = _written(folder)
    ledger = Ledger(folder, storage, name, objectives, file)
    if SAID & asked.keys() - ledger.attributes.keys():
        raise foreign(folder)
    _check_agreement(folder, ledger.attributes, asked)
    return ledger


def noting(folder: Path) -> Callable[[Mapping[str, Any]], None]:
    """A function that adds attributes to the finished or running study in `folder`, each whole or not at all.

    Both are InputErrors where its database is lost.
    """
    with reaching(folder):
        storage, name, _ = _written(folder)
        study = optuna.load_study(study_name=name, storage=storage, sampler=RandomSampler())

    def note(attributes: Mapping[str, Any]) -> None:
        with reaching(folder):
            for key, value in attributes.items():
                study.set_user_attr(key, json.loads(json.dumps(value, allow_nan=False)))

    return note


def _written(folder: Path) -> tuple[BaseStorage, str, StudyFile | None]:
    """The storage of a study that has begun, as one to write to, the study's name in it, and its file if it has one."""
    file = None if pointer_of(folder) else StudyFile(folder / JOURNAL)
    storage = in_journal(folder, file) if file else storage_of(folder)
    name = name_in(folder, storage)
    if name is None:
        raise InputError(f"{folder}: {UNBEGUN}")
    return storage, name, file


def _has_begun(journal: Path) -> bool:
    """Whether a new study is complete there, or has trials: one that was cut before that is made again."""
    if not journal.is_file():
        return False
    with journal.open("rb") as lines:
        return any(b'"study:metric_names"' in line or CREATES in line for line in lines)


def _make(journal: Path, objectives: Sequence[Objective], attributes: Mapping[str, Any]) -> None:
    """Write a new study aside and put it in place when it is complete: no death leaves half of one."""
    aside = journal.with_suffix(".new")
    aside.unlink(missing_ok=True)
    storage, name = JournalStorage(StudyFile(aside)), journal.resolve().parent.name
    study = optuna.create_study(study_name=name, storage=storage, directions=_directions(objectives))
    _fill(study, objectives, attributes)
    aside.replace(journal)


def _make_in_database(folder: Path, objectives: Sequence[Objective], attributes: Mapping[str, Any]) -> None:
    """Make the study if there is none, and complete what a maker that died has left. The caller holds the lock."""
    storage, pointer, directions = storage_of(folder), pointer_of(folder), _directions(objectives)
    assert pointer is not None
    study = optuna.create_study(
        study_name=pointer.name, storage=storage, directions=directions, load_if_exists=True, sampler=RandomSampler()
    )
    if study.metric_names is not None and "objectives" in study.user_attrs:
        return
    if study.get_trials(deepcopy=False) or study.directions != directions:
        raise InputError(f"{pointer.url} holds a study {pointer.name!r} of another program; give another --name")
    _fill(study, objectives, attributes)


def _fill(study: optuna.Study, objectives: Sequence[Objective], attributes: Mapping[str, Any]) -> None:
    """Give a new study its attributes. The metrics' names come last: a study that has them is complete."""
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([objective.name for objective in objectives])  # optuna-dashboard shows them


def _directions(objectives: Sequence[Objective]) -> list[optuna.study.StudyDirection]:
    return [optuna.study.StudyDirection[objective.direction.upper()] for objective in objectives]


def _check_agreement(folder: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for key in MUST_AGREE:
        if key in stored and key in asked and not _agree(key, stored[key], asked[key]):
            back = "put it back, or " if key in ("code", "known") else ""
            raise InputError(f"{folder}: {difference(key, stored, asked)}; {back}start another study with --name")
    there = other_processor(stored, asked)
    if there:
        raise InputError(
            f"{folder}: this study's latencies are those of another machine ({there}); start another study with --name"
        )


def _agree(key: str, stored: Any, asked: Any) -> bool:
    if key == "limits":
        return sorted(stored) == sorted(asked)  # in any order they are alike
    return bool(stored == asked or (key == "space" and _searched(stored) == _searched(asked)))


def _searched(space: str) -> str:
    """What a space's YAML says of its networks: comments tell nothing, and how they are judged is the runner's."""
    return repr({key: value for key, value in yaml.safe_load(space).items() if key != "runners"})


def other_processor(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> str | None:
    """The processor of the stored study, if it is not the asked one's, and latencies are asked for.

    Latencies of two processors are no order: what is faster on one may be slower on the other. Where a command times
    networks, or a cluster, the driver's own processor says nothing.
    """
    runner = asked.get("runner") or {}
    engine, timed_by = ((runner.get(part) or {}).get(key) for part, key in (("engine", "kind"), ("measure", "engine")))
    if engine in ("ray", "slurm") or str(timed_by).startswith("command"):
        return None
    there, here = ((attributes.get("machine") or {}).get("processor") for attributes in (stored, asked))
    needed = [*asked.get("objectives", ()), *asked.get("limits", ())]
    return there if here and there != here and any(name.startswith("latency") for name in needed) else None


def difference(key: str, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """How the attribute of a stored study differs from what is asked for, in words."""
    if key == "space":
        path = asked.get("space_path", "the one given")
        return f"this study's space is not {path} as it is now ({_line(stored, asked)})"
    if key == "protocol":
        # Data of the same split is the same, wherever it lies.
        is_same = "split" in stored and stored["split"] == asked.get("split")
        found = _differences(_judging(stored), _judging(asked), "runner", {DATA} if is_same else set())
        where = next(found, "the versions or the data")
        return f"this study judges candidates in another way ({where})"
    if key == "code":
        changed = sorted({word.rpartition(":")[0] for word in {*stored[key]} ^ {*asked[key]}})
        return f"the code of its plug-in {' and '.join(changed)} is not what it was"
    if key == "known":
        changed = sorted({name for name, _ in {*stored[key].items()} ^ {*asked[key].items()}})
        return f"its known network {' and '.join(changed)} is not what it was"
    return f"this study's {key} is {_shown(stored[key])}, but {_shown(asked[key])} was asked for"


def _line(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    old, new = stored["space"].splitlines(), asked["space"].splitlines()
    same = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    return f"the first difference is in line {same + 1}"


def _judging(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    runner = attributes.get("runner") or {}
    return {key: value for key, value in runner.items() if key not in ("search", "engine")}


def _differences(stored: Any, asked: Any, where: str, beside: Set[str]) -> Iterator[str]:
    if where in beside:
        return
    if not (isinstance(stored, Mapping) and isinstance(asked, Mapping)):
        if stored != asked:
            yield f"{where} is {_shown(stored)} there and {_shown(asked)} here"
        return
    for key in {**stored, **asked}:
        yield from _differences(stored.get(key), asked.get(key), f"{where}.{key}", beside)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
