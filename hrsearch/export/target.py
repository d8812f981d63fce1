"""What the export formats have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrsearch.errors import InputError
from hrsearch.export.winner import Winner

if TYPE_CHECKING:
    import torch


class ExportFailed(RuntimeError):
    """A format that cannot hold this network, or a file that computes something else: nothing is written."""


class Target(ABC):
    """A format of the registry EXPORTS: a class without arguments.

    `outputs(folder, image)` is a function of its module that says what the written files compute, for an array
    (B, 3, H, W): arrays named "prediction", "map0" (the finest), "map1" and so on. Its source goes to `check.py`, which
    holds them against the network's own; there it has `numpy`, `import_module`, `Path` and `Any`, and imports the rest.
    """

    needs: tuple[str, ...] = ()  # packages without which it cannot be written
    upon: tuple[str, ...] = ()  # formats whose files it uses
    fixed_size = False  # whether its files take images of the deployed size only
    tolerance = 1e-5  # how far off each output may be, in units of its largest value, but of 1 at least
    outputs: Callable[[Path, Any], dict[str, Any]]

    @abstractmethod
    def write(self, winner: Winner, folder: Path) -> str:
        """Write its files into the folder; the text of the README that says how to use them, as Markdown."""

    def require(self, name: str) -> None:
        """An InputError where a package is missing."""
        missing = [package for package in self.needs if find_spec(package) is None]
        if missing:
            raise InputError(f"export format {name!r} needs {missing[0]}; pip install {' '.join(self.needs)}")


def example_of(winner: Winner, batch: int) -> "torch.Tensor":
    """Images of the deployed size: (batch, 3, H, W)."""
    import torch

    return torch.zeros(batch, 3, *winner.image)
