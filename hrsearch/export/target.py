"""What the export formats have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hrsearch.export.winner import Winner


class Target(ABC):
    """A format of the registry EXPORTS: a class without arguments.

    `outputs(folder, image)` is a function of its module that says what the written files compute, for an array
    (B, 3, H, W): arrays named "prediction", "map0" (the finest), "map1" and so on. Its source goes to `check.py`, which
    holds them against the network's own; there it has `numpy`, `Path`, `Any` and `import_module`, and imports the rest.
    """

    needs: tuple[str, ...] = ()  # packages without which it cannot be written
    upon: tuple[str, ...] = ()  # formats whose files it uses
    trained = True  # whether it is of no use without weights
    tolerance = 1e-5  # of what the files compute, in units of the largest value, but of 1 at least
    outputs: Callable[[Path, Any], dict[str, Any]]

    @abstractmethod
    def write(self, winner: Winner, folder: Path) -> str:
        """Write its files into the folder; the text of the README that says how to use them, as Markdown."""
