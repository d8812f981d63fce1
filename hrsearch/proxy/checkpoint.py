"""What a training leaves behind, each file written beside its place and then renamed: never half a file."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from hrsearch.errors import InputError
from hrsearch.proxy.data.dataset import Dataset
from hrsearch.proxy.learning import Learner
from hrsearch.proxy.sections import sections_of

# What a file of weights says besides them.
NORMALISATION = "normalisation"
SECTIONS = "sections"

Row = Mapping[str, float]


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values."""
    with _placed(path) as partial:
        torch.save(dict(state), partial)


def read_state(path: Path, device: torch.device) -> dict[str, Any] | None:
    """What `write_state` wrote, its tensors on `device`; None if nothing was written yet."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # whatever torch raises on a file that is none of its own
        raise InputError(f"{path}: no checkpoint ({str(error).splitlines()[0]})") from None
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


def write_weights(path: Path, network: nn.Module, data: Dataset | None = None) -> None:
    """Write the network's weights as safetensors, what they hold, and how the images of the data were normalised."""
    about = {SECTIONS: json.dumps(sections_of(network))}
    if data:
        about[NORMALISATION] = json.dumps(data.normalisation)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with _placed(path) as partial:
        partial.write(save(tensors, about))


def normalisation_of(path: Path) -> dict[str, list[float]] | None:
    """How the images were normalised that these weights were trained on; None where they do not say."""
    with safe_open(path, "pt") as file:
        said = (file.metadata() or {}).get(NORMALISATION)
    found: dict[str, list[float]] | None = json.loads(said) if said else None
    return found


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a table as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    with _placed(path) as partial:
        partial.write(text.getvalue().encode())


def write_text(path: Path, text: str) -> None:
    """Write a text."""
    with _placed(path) as partial:
        partial.write(text.encode())


@contextmanager
def _placed(path: Path) -> Iterator[BinaryIO]:
    """A file to write, put in its place once it is complete; where that fails nothing stays of it.

    A disk without room is an OSError with the path in it; torch, left alone, tells of a position.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        cause = next((each for each in (error, error.__context__) if isinstance(each, OSError)), None)
        if cause is None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error
