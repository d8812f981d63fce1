"""Exports a trial of a study as a folder that stands alone. A new target is a module and its entry in `TARGETS`."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hrsearch.errors import InputError, suggestion
from hrsearch.export import native
from hrsearch.pick import pick
from hrsearch.study import Record, Trial

__all__ = ["TARGETS", "export", "pick"]

# Each writes a trial's files into an empty folder, `numbers.json` among them, by which an export is known again.
TARGETS: dict[str, Callable[[Record, Trial, Path], None]] = {"native": native.write}
MARK = "numbers.json"


def export(record: Record, choice: str, to: Path, target: str = "native") -> Path:
    """Write the trial that `choice` picks (see `hrsearch.pick.pick`) to the folder `to`, and return the folder.

    An InputError if the folder holds anything but an earlier export, which is replaced. What training has left there
    stays when the network is the same, and is an InputError when it is another one: its checkpoints would not fit.
    """
    if target not in TARGETS:
        raise InputError(f"export target {target!r} does not exist; {suggestion(target, TARGETS)}")
    trial = pick(record, choice)
    if not trial.attributes.get("arch"):
        raise InputError(f"{trial.name} has no architecture in the study; it cannot be exported")
    earlier = _earlier(to, trial)
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to, prefix=".export-") as made:
        TARGETS[target](record, trial, Path(made))
        _move(Path(made), to, earlier)
    return to


def _earlier(to: Path, trial: Trial) -> set[str]:
    """The files of an earlier export in `to`; an InputError if there is anything that must stay."""
    if to.exists() and not to.is_dir():
        raise InputError(f"{to}: is a file; choose a folder that is empty or does not exist")
    present = {path.name for path in to.iterdir() if not path.name.startswith(".export-")} if to.exists() else set()
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
