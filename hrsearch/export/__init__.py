"""Exports a trial of a study as a folder that stands alone.

A new format is a module with a class in the registry EXPORTS (see `hrsearch.export.target`), imported here.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hrsearch.errors import InputError
from hrsearch.export import mmseg, native, onnx, pt2, standalone, timm
from hrsearch.export.check import run_check, write_check
from hrsearch.export.native import numbers_of
from hrsearch.export.readme import readme_of
from hrsearch.export.target import ExportFailed, Target
from hrsearch.export.trained import is_winner, trained_winner
from hrsearch.export.winner import KEPT, MARK, Winner
from hrsearch.pick import pick
from hrsearch.registry import EXPORTS
from hrsearch.study import Record, Trial

__all__ = [
    "KEPT",
    "ExportFailed",
    "export",
    "export_trained",
    "is_winner",
    "mmseg",
    "native",
    "onnx",
    "pick",
    "pt2",
    "standalone",
    "timm",
]

NATIVE = "native"
CACHE = "__pycache__"  # what running the exported code leaves beside it


def export(record: Record, choice: str, to: Path, formats: Sequence[str] = (NATIVE,)) -> Path:
    """Write the trial that `choice` picks (see `hrsearch.pick.pick`) to the folder `to`, and return the folder.

    `formats` are of the registry EXPORTS; "native" always comes along. Every file that computes is run and held against
    the network; one that computes something else is an ExportFailed. An InputError if a format lacks a package or the
    weights, or if the folder holds anything but an earlier export, which is replaced. What training has left there
    stays when the network is the same, and is an InputError when it is another one: its checkpoints would not fit.
    """
    trial = pick(record, choice)
    if not trial.attributes.get("arch"):
        raise InputError(f"{trial.name} has no architecture in the study; it cannot be exported")
    return _exported(Winner(record, trial), to, _targets(formats))


def export_trained(folder: Path, to: Path, formats: Sequence[str] = (NATIVE,)) -> Path:
    """Write what `hrsearch train` has made of the winner in `folder` to the folder `to`, as `export` writes a trial."""
    if to.resolve() in (folder.resolve(), folder.resolve().parent):
        raise InputError(f"--to {to}: holds the training itself; choose another folder")
    return _exported(trained_winner(folder), to, _targets(formats))


def _exported(winner: Winner, to: Path, targets: dict[str, Target]) -> Path:
    trial = winner.trial
    if winner.weights is None and len(targets) > 1:
        where = f"none lie in {winner.record.folder / 'weights'} ({KEPT})"
        raise InputError(
            f"{trial.name}: format {list(targets)[1]!r} needs weights, but {where}; export native, train it"
        )
    earlier = _earlier(to, trial)
    try:
        to.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:  # as in /proc
        raise InputError(f"--to {to}: no folder can be made there; give another place") from None
    with tempfile.TemporaryDirectory(dir=to, prefix=".export-") as made:
        _write(winner, targets, Path(made))
        _move(Path(made), to, earlier)
    return to


def _targets(formats: Sequence[str]) -> dict[str, Target]:
    """The formats and those that they build upon, these first; an InputError for what does not exist or work here."""
    targets: dict[str, Target] = {}
    for name in (NATIVE, *formats):
        target = EXPORTS[name]()
        target.require(name)
        for each in (*target.upon, name):
            targets.setdefault(each, EXPORTS[each]())
    return targets


def _write(winner: Winner, targets: dict[str, Target], folder: Path) -> None:
    """All files, checked."""
    usages = {name: target.write(winner, folder) for name, target in targets.items()}
    if winner.weights:
        write_check(winner, targets, folder)
    names = sorted({path.name for path in folder.iterdir()} | {"README.md", MARK})
    known = {**numbers_of(winner.record, winner.trial), "normalisation": winner.normalisation}
    numbers = {"files": names, "formats": list(targets), **known}
    (folder / MARK).write_text(json.dumps(numbers, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    checked = run_check(folder, fresh=len(targets) > 1 or bool(winner.plugins)) if winner.weights else []
    (folder / "README.md").write_text(readme_of(winner, usages, checked), encoding="utf-8")


def _earlier(to: Path, trial: Trial) -> set[str]:
    """The files of an earlier export in `to`; an InputError if there is anything that must stay."""
    if to.exists() and not to.is_dir():
        raise InputError(f"{to}: is a file; choose a folder that is empty or does not exist")
    found = to.iterdir() if to.exists() else ()
    present = {path.name for path in found if path.name != CACHE and not path.name.startswith(".export-")}
    if not present:
        return set()
    mark = _mark(to / MARK)
    if mark is None:
        raise InputError(
            f"{to}: holds files and is no export of hrsearch; choose a folder that is empty or does not exist"
        )
    added = sorted(present - set(mark["files"]))
    if added and mark["digest"] != trial.attributes.get("digest"):
        raise InputError(f"{to}: holds {added[0]!r} of another network ({mark['name']}); choose another folder")
    return present & set(mark["files"])


def _mark(path: Path) -> dict[str, Any] | None:
    """What an earlier export says of itself."""
    try:
        mark = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(mark, dict) and isinstance(mark.get("files"), list) and {"digest", "name"} <= mark.keys()
    return mark if ours else None


def _move(made: Path, to: Path, earlier: set[str]) -> None:
    """The mark first, so that an export that is cut off is known as one."""
    names = sorted((path.name for path in made.iterdir()), key=lambda name: (name != MARK, name))
    for name in names:
        os.replace(made / name, to / name)
    for name in earlier - set(names):
        (to / name).unlink()
