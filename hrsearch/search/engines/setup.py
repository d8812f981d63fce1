"""What every engine is given, and what an engine on other machines sends along with a call."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Prepare = Callable[[], None]

MOST_LOSSES = 3  # nodes that may die while they run a candidate before the candidate fails


class Workers(Executor):
    """An executor that says how many candidates it judges at a time."""

    workers: int


@dataclass(frozen=True)
class Setup:
    """What a search tells its engine."""

    preload: Sequence[str] = ()  # modules that workers on this machine have at hand without importing them
    prepare: Prepare | None = None  # run in a worker before anything else; must pickle
    folder: Path = Path()  # the study's: workers write the weights into it
    cuda: bool = False  # whether candidates are judged on GPUs


@dataclass(frozen=True)
class Elsewhere:
    """Calls in the folder that the search was started in, so that a person's relative paths mean the same there."""

    home: Path
    prepare: Prepare | None

    def __call__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs in the worker."""
        os.chdir(self.home)
        if self.prepare:
            self.prepare()
        return function(*args, **kwargs)

    def unreachable(self, mark: Path) -> str | None:
        """Runs in the worker: why the file `mark`, which the driver wrote, is not in a folder shared with it, if so."""
        try:
            os.chdir(self.home)
            mark.read_bytes()
            beside = mark.with_name(f"{mark.name}-{os.getpid()}")
            beside.touch()
            beside.unlink()
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        return None
