"""What a training leaves in its folder, each file written beside its place and then renamed: never half a file."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from hrsearch.errors import InputError

Row = Mapping[str, float]


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values."""
    partial = _partial(path)
    torch.save(dict(state), partial)
    os.replace(partial, path)


def read_state(path: Path, device: torch.device) -> dict[str, Any] | None:
    """What `write_state` wrote, its tensors on `device`; None if nothing was written yet."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # whatever torch raises on a file that is none of its own
        raise InputError(f"{path}: no checkpoint ({str(error).splitlines()[0]}); remove {path.parent}") from None
    return state


def write_weights(path: Path, network: nn.Module) -> None:
    """Write the network's weights as safetensors."""
    partial = _partial(path)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}, partial)
    os.replace(partial, path)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a table as CSV."""
    partial = _partial(path)
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")
