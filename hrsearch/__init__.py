"""hrsearch: the best high-resolution vision backbone for your data and your device."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hrsearch.api import Study, search
    from hrsearch.build import Network, build
    from hrsearch.cost import cost, measure
    from hrsearch.errors import InputError
    from hrsearch.released import load_released
    from hrsearch.runner import load_runner
    from hrsearch.space import load_arch, load_space

__all__ = [
    "InputError",
    "Network",
    "Study",
    "build",
    "cost",
    "load_arch",
    "load_released",
    "load_runner",
    "load_space",
    "measure",
    "search",
]

_HOMES = {
    "hrsearch.api": ("Study", "search"),
    "hrsearch.build": ("Network", "build"),
    "hrsearch.cost": ("cost", "measure"),
    "hrsearch.errors": ("InputError",),
    "hrsearch.released": ("load_released",),
    "hrsearch.runner": ("load_runner",),
    "hrsearch.space": ("load_arch", "load_space"),
}


class _Face(ModuleType):
    """This package as a module whose functions stay: importing `hrsearch.cost` must not hide `cost` behind it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face


def __getattr__(name: str) -> Any:
    # Loaded when used, so that the command line starts without torch.
    for home, names in _HOMES.items():
        if name in names:
            globals()[name] = getattr(import_module(home), name)
            return globals()[name]
    raise AttributeError(f"module 'hrsearch' has no attribute {name!r}")
