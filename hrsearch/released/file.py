"""A file of released weights: read without running what a pickle may hold, and tried on a network."""

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.errors import InputError
from hrsearch.released import FAMILIES, load_released


@dataclass(frozen=True)
class Fit:
    """A file that fits a network: how many of the network's tensors it gave, and which family's names it has."""

    path: str
    family: str
    loaded: int
    tensors: int
    head: bool  # whether the head's are among them

    def __str__(self) -> str:
        kept = "" if self.head else "; the head keeps its own weights"
        return f"{self.path}: {self.loaded} of {self.tensors} tensors loaded as {self.family}{kept}"


def read_weights(path: Path) -> Mapping[str, Any]:
    """The tensors of a .safetensors or a torch file; one that cannot be read is an InputError."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, struct.error) as error:
        first = str(error).partition("\n")[0]
        raise InputError(f"{path}: no file of weights alone ({type(error).__name__}: {first})") from None
    if not isinstance(weights, Mapping):
        raise InputError(f"{path}: expected a mapping of names to tensors, but got {type(weights).__name__}")
    return weights


def fit(arch: Arch, classes: int, path: Path, family: str) -> Fit:
    """Load a file into the network; one that does not fit is an InputError with its keys and shapes."""
    weights = read_weights(path)
    network = build(arch, classes)
    try:
        loaded = load_released(network, weights, family)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    head = any(key.startswith("head.") for key in loaded)
    return Fit(str(path), family, len(loaded), len(network.state_dict()), head)


def family_of(network: str) -> str:
    """The family that a network is named after, such as hrvit for hrvit_b1; else an InputError."""
    family = Path(network).stem.partition("_")[0]
    if family not in FAMILIES:
        raise InputError(f"{network!r} does not begin with a family's name; add --family {', '.join(FAMILIES)}")
    return family
