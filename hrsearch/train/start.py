"""The weights that a training begins with: the search's, those of an earlier stage, or released ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hrsearch.build import Network
from hrsearch.errors import InputError
from hrsearch.released import FAMILIES, load_released
from hrsearch.released.file import read_weights
from hrsearch.released.hrformer import resized_positions
from hrsearch.train.recipe import family_of

WEIGHTS = "weights.safetensors"
BEST, CHECKPOINT = "best.safetensors", "checkpoint.pt"  # of a training
TRAINED = "trained.json"  # what an export of the best weights has to know


def file_of(start: str, folder: Path) -> Path | None:
    """The file that `start` means, seen from the exported folder or else from here; None to begin with none."""
    if start == "scratch":
        return None
    if start == "weights":
        return folder / WEIGHTS if (folder / WEIGHTS).is_file() else None
    found = next((path for path in (folder / start, Path(start)) if path.is_file()), None)
    if found is None:
        raise InputError(f"start: {start!r} is no file, here or in {folder}; give one, or weights, or scratch")
    best = Path(start).with_name(BEST)
    if found.name == CHECKPOINT and found.with_name(BEST).is_file():
        raise InputError(f"start: {start!r} is what a training goes on from, not weights alone; give {best}")
    return found


def within(start: str, folder: Path) -> str:
    """The same start; a file that lies in the folder by its place there, from wherever it was named."""
    path = None if start in ("scratch", "weights") else file_of(start, folder)
    inside = path and path.resolve().is_relative_to(folder.resolve())
    return str(path.resolve().relative_to(folder.resolve())) if path and inside else start


def data_of(weights: Path | None) -> dict[str, str]:
    """What these weights were trained on, where a training of ours wrote them: what fine-tunes them goes on with it."""
    data = said_in(weights.with_name(TRAINED)).get("data") if weights else None
    return {"data": data} if isinstance(data, str) else {}


def said_in(path: Path) -> dict[str, Any]:
    """What a file of ours says; nothing where there is none, or it is damaged and can be made again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def begin_with(network: Network, path: Path) -> None:
    """Load a file, ours or one that a family's authors released.

    A head of another kind keeps its weights, and the layers that deliver another number of classes theirs. No part of
    a network asks for a size of the images; tables of position biases are resized where the windows differ. A file of
    another network is an InputError.
    """
    found = read_weights(path)
    own = network.state_dict()
    if _trunk(found) == _trunk(own):
        network.load_state_dict(own | _taken(path, found, own))
        return
    other = sorted(_trunk(found) ^ _trunk(own))[0]
    family = family_of(network.arch)
    if family not in FAMILIES or _trunk(found) & _trunk(own):
        raise InputError(f"{path}: weights of another network ({other} is in one of them only)")
    try:
        load_released(network, found, family, new_classes=True)
    except InputError as error:
        said = f"weights of another network ({other} is in one of them only)"
        raise InputError(f"{path}: {said}, nor are they {family}'s as released: {error}") from None


def _trunk(weights: Mapping[str, Any]) -> set[str]:
    return {name for name in weights if not name.startswith("head.")}


def _taken(path: Path, found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that fit; all but the head's must."""
    same = found.keys() == own.keys()
    tensors = {name: _fitted(name, found[name], own[name]) for name in (own if same else _trunk(own))}
    odd = [name for name, tensor in tensors.items() if tensor.shape != own[name].shape]
    if wrong := sorted(_trunk(dict.fromkeys(odd))):
        shapes = f"{tuple(tensors[wrong[0]].shape)} there and {tuple(own[wrong[0]].shape)} here"
        raise InputError(f"{path}: weights of another network ({wrong[0]} is {shapes})")
    return {name: tensor for name, tensor in tensors.items() if name not in odd}


def _fitted(name: str, tensor: Tensor, own: Tensor) -> Tensor:
    is_table = name.endswith(".position.table") and tensor.ndim == 2 and tensor.shape[1:] == own.shape[1:]
    return resized_positions(tensor, len(own)) if is_table and tensor.shape != own.shape else tensor
