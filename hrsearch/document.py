"""YAML files that remember where each value stands, so that an error can say so."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hrsearch.errors import InputError, suggestion

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A YAML file: its data, and the line of every key."""

    path: Path
    text: str
    data: Any
    lines: Mapping[Keys, int]

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Read a YAML file; a file that is missing or is no YAML is an InputError."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: Path) -> "Document":
        """The document with this text; `path` is what errors call it."""
        try:
            data = yaml.safe_load(text)
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else f"{path}"
            raise InputError(f"{where}: no valid YAML ({getattr(error, 'problem', error)})") from None
        except (ValueError, RecursionError) as error:  # a date or a number that there is none, a list within itself
            raise InputError(f"{path}: no valid YAML ({str(error).splitlines()[0]})") from None
        lines: dict[Keys, int] = {}
        for keys, line in _lines_of(node, ()):
            if keys in lines:
                raise InputError(f"{path}:{line}: {dotted(keys)} is given twice; keep one")
            lines[keys] = line
        return cls(path, text, data, lines)

    def error(self, keys: Keys, message: str) -> InputError:
        """An error at a key: file, line, key, then the message."""
        known = next((keys[:n] for n in range(len(keys), -1, -1) if keys[:n] in self.lines), ())
        where = f"{self.path}:{self.lines.get(known, 1)}"
        return InputError(f"{where}: {dotted(keys)}: {message}" if keys else f"{where}: {message}")

    def mapping(self, keys: Keys, value: Any, allowed: Iterable[str] | None = None) -> dict[str, Any]:
        """`value` as a mapping whose keys are strings, among `allowed` if that is given."""
        if not isinstance(value, dict):
            raise self.error(keys, f"expected a mapping, but got {value!r}")
        for key in value:
            if not isinstance(key, str):
                raise self.error(keys, f"keys must be text, but got {key!r}")
            if allowed is not None and key not in set(allowed):
                raise self.error((*keys, key), f"key {key!r} does not exist; {suggestion(key, allowed)}")
        return value


def dotted(keys: Keys) -> str:
    """`stages[3].depth` for ("stages", 3, "depth")."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


def shipped(folder: str, path_or_name: str | Path) -> Path:
    """The file itself if it exists, else the shipped YAML of that name in `folder`: spaces, runners or spaces/nets."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    return shipped_file(folder, str(path_or_name))


def shipped_file(folder: str, name: str) -> Path:
    """The shipped YAML of that name in `folder`, whatever lies where the command is typed."""
    home = shipped_folder(folder)
    names = sorted(file.stem for file in home.glob("*.yaml"))
    inside = f"{folder}/"
    plain = name.removeprefix(inside).removesuffix(".yaml")
    if plain in names:
        return home / f"{plain}.yaml"
    raise InputError(
        f"{Path(name)}: no such file, and no shipped {folder} entry of that name; {suggestion(plain, names)}"
    )


def shipped_folder(folder: str) -> Path:
    """Where the YAML files of `folder` lie: in the installed package, or in the checkout."""
    package = Path(__file__).parent
    return package / folder if (package / folder).is_dir() else package.parent / folder


def _lines_of(node: yaml.Node | None, keys: Keys) -> Iterator[tuple[Keys, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*keys, str(key.value))
            yield inner, key.start_mark.line + 1
            yield from _lines_of(value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            inner = (*keys, index)
            yield inner, value.start_mark.line + 1
            yield from _lines_of(value, inner)
