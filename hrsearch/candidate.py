"""What is sent to be judged, and what comes back. Both travel between processes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrsearch.arch import Arch


@dataclass(frozen=True)
class Candidate:
    """A network to judge. `folder` is the study's; what is kept of the candidate is named by its number."""

    number: int
    digest: str
    arch: Arch
    seed: int
    folder: Path
    rung: int = 0  # the rung to train to; what it did before lies in its checkpoint
    known: bool = False  # a published network: the yardstick, judged whether it keeps the limits or not
    relative: int | None = None  # the trial whose weights it begins with, as far as the two overlap


@dataclass(frozen=True)
class Judgement:
    """What is known of a candidate once it is judged: user attributes of its trial, plain JSON (see `hrsearch.study`).

    `outcome` is "trained", "refused" or "failed"; the last two give their `reason`.
    """

    attributes: Mapping[str, Any]


def weights_path(folder: Path, number: int) -> Path:
    """Where the weights of a trial of the study in `folder` lie, once it is trained and while it is on the front."""
    return folder / "weights" / f"{number}.safetensors"


def confirmed_weights(folder: Path, number: int, times: int) -> Path:
    """Where the weights of the best seed of a trial lie that `hrsearch finalize` has trained so many times as long."""
    return folder / "confirmed" / str(times) / f"{number}.safetensors"


def checkpoint_path(folder: Path, number: int) -> Path:
    """Where the training of a trial stands that may go on to the next rung."""
    return folder / "rungs" / f"{number}.pt"


def seed_of(*parts: object) -> int:
    """A seed in [0, 2**32) that depends on every part, and on nothing else: not on the process, not on the platform."""
    text = "|".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
