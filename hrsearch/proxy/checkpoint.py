"""What a training leaves behind, each file written beside its place and then renamed: never half a file."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from hrsearch.errors import InputError
from hrsearch.proxy.learning import Learner

Row = Mapping[str, float]


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values."""
    path.parent.mkdir(parents=True, exist_ok=True)
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


def state_of(learner: Learner) -> dict[str, Any]:
    """All that training changes, as tensors and plain values."""
    return {
        "network": learner.network.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in learner.optimizers],
        "scaler": learner.scaler.state_dict(),
    }


def restore(learner: Learner, state: Mapping[str, Any]) -> None:
    """Put the learner where `state_of` found it."""
    learner.network.load_state_dict(state["network"])
    for optimizer, kept in zip(learner.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    learner.scaler.load_state_dict(state["scaler"])


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


def write_text(path: Path, text: str) -> None:
    """Write a text."""
    partial = _partial(path)
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")
