"""Code outside the repository: entry points of installed packages, and files that a space names under `plugins:`.

Both register what they bring (links, blocks, heads, data sets, engines) while they are imported.
"""

import importlib.util
import sys
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path

from hrsearch.errors import InputError

GROUP = "hrsearch.plugins"
PLUGIN = "hrsearch_plugin_"  # modules of files are called this, the file's stem and a hash of where it lies


@cache
def load_entry_points() -> None:
    """Import every module that an installed package names in the group `hrsearch.plugins`."""
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"plug-in {point.value}: {type(error).__name__}: {error}; mend or remove it") from error


def load_plugins(paths: Iterable[str | Path]) -> None:
    """Run these Python files, each once a process; one that is missing or fails is an InputError."""
    for path in paths:
        _run(Path(path).resolve())


def code_of(paths: Iterable[Path]) -> list[str]:
    """What these files hold, a word for each: its name and a hash, by which a change of it is seen."""
    return sorted({f"{path.name}:{sha256(path.read_bytes()).hexdigest()[:16]}" for path in paths})


@cache
def _run(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"plug-in {path}: no such file")
    name = f"{PLUGIN}{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"plug-in {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class up in its module
    try:
        spec.loader.exec_module(module)
    except InputError as error:
        del sys.modules[name]
        raise InputError(f"plug-in {path}: {error}") from None
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"plug-in {path}: {type(error).__name__}: {error}") from error
