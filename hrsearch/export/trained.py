"""What `hrsearch train` has made of an exported winner, as a winner to be exported again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from hrsearch.errors import InputError
from hrsearch.export.winner import MARK, Winner
from hrsearch.space import load_arch, load_task
from hrsearch.study import Record, Trial

ARCH = "arch.yaml"
MEASURED = ("latency", "memory", "training_memory")


def is_winner(path: Path) -> bool:
    """Whether a folder is one that an export wrote, or a training in it."""
    return any((folder / ARCH).is_file() and (folder / MARK).is_file() for folder in (path, path.parent))


def trained_winner(path: Path) -> Winner:
    """The winner in a folder with the best weights of its training, its classes and its score.

    `path` may also be one of its trainings: a fine-tuning, `winner/run-768`. An InputError if it was not trained, or if
    its network is no longer that of the export.
    """
    from hrsearch.proxy.data import located
    from hrsearch.train import RUN  # loads torch
    from hrsearch.train.start import BEST, TRAINED

    folder, run = (path, path / RUN) if (path / ARCH).is_file() else (path.parent, path)
    told = _read(run / TRAINED, f"{run}: holds no training; first: hrsearch train {folder}")
    numbers = _read(folder / MARK, f"{folder / MARK}: cannot be read; export it again")
    arch = load_arch(folder / ARCH)
    if not (run / BEST).is_file() or arch.digest() != told["digest"]:
        raise InputError(f"{folder}: {ARCH} is not what {run} was trained from; train it again")
    score = {key: told[key] for key in ("value", "metric", "steps", "seed")} | {"data": located(told["data"])}
    known = {"known": numbers["name"]} if not str(numbers["name"]).startswith("trial ") else {}
    attributes = {
        **{key: numbers.get(key) for key in (*MEASURED, "flops", "params")},
        **{"digest": arch.digest(), "arch": arch.to_dict(), "score": score, **known},
    }
    trial = Trial(numbers["trial"], "trained", numbers.get("knobs") or {}, attributes, (), None, None)
    plugins = [str(folder / name) for name in numbers["files"] if name.endswith(".py") and name in _plugins(folder)]
    about = {**numbers, "classes": told["classes"], "task": load_task(folder / ARCH), "plugins": plugins}
    winner = Winner(Record(numbers["study"], folder, about, (trial,)), trial, run / BEST)
    before = replace(winner, record=replace(winner.record, attributes=numbers)).classes
    return winner if winner.classes == before else _with_other_classes(winner, before)


def _with_other_classes(winner: Winner, before: int) -> Winner:
    """With costs of its own classes; what was measured with a head of so many as `before` says of how many."""
    from hrsearch.cost import cost

    known, counted = winner.trial.attributes, cost(winner.arch, winner.image, winner.classes)
    measured = {key: {"classes": before, **known[key]} for key in MEASURED if known[key]}
    attributes = {**known, **measured, "params": counted.params, "flops": counted.flops}
    return replace(winner, trial=replace(winner.trial, attributes=attributes))


def _plugins(folder: Path) -> set[str]:
    """The files of code that arch.yaml names."""
    named = yaml.safe_load((folder / ARCH).read_text(encoding="utf-8")).get("plugins") or ()
    return {Path(name).name for name in named}


def _read(path: Path, otherwise: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(otherwise) from None
    return found
