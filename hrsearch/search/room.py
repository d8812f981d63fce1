"""Room on the disk: what is kept free for a search's last words, and what its checkpoints take."""

import re
from contextlib import suppress
from pathlib import Path

from hrsearch.candidate import checkpoint_path

RESERVE = 1 << 18  # bytes: what dozens of candidates leave in the study's file


class Reserve:
    """A file that holds room in the study's folder, so that what is finished can be stored when the disk is full."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".reserve"

    def take(self) -> None:
        """Hold the room, as far as there is any."""
        try:
            if not self._path.exists():
                self._path.write_bytes(bytes(RESERVE))
        except OSError:
            self.release()

    def release(self) -> None:
        """Free it."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def checkpoints_in(folder: Path) -> list[tuple[Path, int]]:
    """The checkpoints in the study's folder, half written ones of killed workers too, each with its trial's number."""
    named = [(path, re.match(r"\.?(\d+)\.", path.name)) for path in checkpoint_path(folder, 0).parent.glob("*")]
    return [(path, int(number[1])) for path, number in named if number]
