"""Named plug-ins: a constructor's keyword-only parameters are the YAML options of its kind."""

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from hrsearch.errors import InputError, suggestion
from hrsearch.plugins import PLUGIN, load_entry_points

Entry = TypeVar("Entry", bound=Callable[..., Any])


class Registry:
    """Constructors by kind, filled by the modules of `package` when a kind is first asked for.

    Loading late keeps spaces and reports free of torch until a network is needed.
    """

    def __init__(self, what: str, package: str) -> None:
        self.what = what
        self.package = package
        self._entries: dict[str, Callable[..., Any]] = {}

    def add(self, kind: str) -> Callable[[Entry], Entry]:
        """Register the decorated constructor under `kind`."""

        def register(constructor: Entry) -> Entry:
            taken = self._entries.get(kind)
            if taken is not None and _origin(taken) != _origin(constructor):
                raise InputError(f"{self.what} {kind!r} is registered twice; choose another name")
            self._entries[kind] = constructor
            return constructor

        return register

    def __getitem__(self, kind: str) -> Callable[..., Any]:
        self._fill()
        if kind not in self._entries:
            raise InputError(f"{self.what} {kind!r} does not exist; {suggestion(kind, self._entries)}")
        return self._entries[kind]

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return iter(sorted(self._entries))

    def _fill(self) -> None:
        import_module(self.package)
        load_entry_points()

    def options(self, kind: str) -> dict[str, Any]:
        """The options of `kind` with their defaults."""
        return dict(_options(self[kind]))


def _origin(constructor: Callable[..., Any]) -> tuple[str, str]:
    """Its name and its module's; a plug-in's file is the same wherever it lies, for an export brings a copy."""
    module = constructor.__module__
    return (module.rpartition("_")[0] if module.startswith(PLUGIN) else module), constructor.__qualname__


@cache
def _options(constructor: Callable[..., Any]) -> tuple[tuple[str, Any], ...]:
    parameters = inspect.signature(constructor).parameters.values()
    return tuple((p.name, p.default) for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


LINKS = Registry("link", "hrsearch.nets")
BLOCKS = Registry("block", "hrsearch.nets")
HEADS = Registry("head", "hrsearch.nets")
DATASETS = Registry("data set", "hrsearch.proxy.data")
ENGINES = Registry("latency engine", "hrsearch.cost")
WORKERS = Registry("engine", "hrsearch.search.engines")
ZERO_COST = Registry("zero-cost proxy", "hrsearch.proxy.zero")
EXPORTS = Registry("export format", "hrsearch.export")
