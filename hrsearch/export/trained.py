"""What `hrsearch train` has made of an exported winner, as a winner to be exported again."""

import json
from pathlib import Path
from typing import Any

from hrsearch.errors import InputError
from hrsearch.export.winner import Winner
from hrsearch.space import load_arch, load_task
from hrsearch.study import Record, Trial

ARCH, MARK, TRAINED = "arch.yaml", "numbers.json", "trained.json"
RUN, BEST = "run", "best.safetensors"


def is_winner(path: Path) -> bool:
    """Whether a folder is one that an export wrote."""
    return (path / ARCH).is_file() and (path / MARK).is_file()


def trained_winner(folder: Path) -> Winner:
    """The winner in `folder` with the best weights of its training, its classes and its score.

    An InputError if it was not trained, or if its network is no longer that of the export.
    """
    told = _read(folder / RUN / TRAINED, f"{folder}: was not trained; first: hrsearch train {folder}")
    numbers = _read(folder / MARK, f"{folder}: holds no {MARK}; give a folder that hrsearch export wrote")
    arch = load_arch(folder / ARCH)
    if not (folder / RUN / BEST).is_file() or arch.digest() != told["digest"]:
        raise InputError(f"{folder}: {ARCH} is not what {folder / RUN} was trained from; train it again")
    score = {key: told[key] for key in ("value", "metric", "steps", "seed")} | {"data": told["data"]}
    known = {"known": numbers["name"]} if not str(numbers["name"]).startswith("trial ") else {}
    attributes = {
        **{key: numbers.get(key) for key in ("latency", "memory", "training_memory", "flops", "params")},
        **{"digest": arch.digest(), "arch": arch.to_dict(), "score": score, **known},
    }
    trial = Trial(numbers["trial"], "trained", numbers.get("knobs") or {}, attributes, (), None, None)
    plugins = [str(folder / name) for name in numbers["files"] if name.endswith(".py") and name in _plugins(folder)]
    about = {**numbers, "classes": told["classes"], "task": load_task(folder / ARCH), "plugins": plugins}
    return Winner(Record(numbers["study"], folder, about, (trial,)), trial, folder / RUN / BEST)


def _plugins(folder: Path) -> set[str]:
    """The files of code that arch.yaml names."""
    import yaml

    named = yaml.safe_load((folder / ARCH).read_text(encoding="utf-8")).get("plugins") or ()
    return {Path(name).name for name in named}


def _read(path: Path, otherwise: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(otherwise) from None
    return found
