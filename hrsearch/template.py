"""A network written with knobs: the `net` of a space, resolved row by row to an architecture."""

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hrsearch.arch import Arch, Branch, Part, Stage, Value
from hrsearch.document import Document, Keys
from hrsearch.errors import suggestion
from hrsearch.expression import ExpressionError, Read, evaluate, is_expression
from hrsearch.registry import BLOCKS, HEADS, LINKS, Registry
from hrsearch.task import TASKS

ROW = ("when", "link", "channels", "stride", "depth", "block", "norm", "repeat")
NET = ("image", "blocks", "stages", "head", "heads")
NORMS = ("layer", "batch")


@dataclass(frozen=True)
class Template:
    """The `net` section of a document; knobs are read while it is resolved, and only those that the network uses."""

    document: Document

    @property
    def net(self) -> dict[str, Any]:
        """The section itself."""
        section: dict[str, Any] = self.document.data["net"]
        return section

    def expressions(self) -> Iterator[tuple[Keys, str]]:
        """Every expression of the section, with its place."""
        return _expressions(("net",), self.net)

    def resolve(self, read: Read, task: str) -> Arch:
        """The architecture for the knobs that `read` gives; `read` is called for those that matter."""
        reading = _Reading(self.document, read, self.net.get("blocks") or {})
        stages: list[Stage] = []
        for index, row in enumerate(self.net["stages"]):
            stages.extend(reading.row(("net", "stages", index), row, stages[-1] if stages else None))
        if not stages:
            raise self.document.error(("net", "stages"), "no stage is left; at least one row must apply")
        return Arch(tuple(stages), reading.part(*self.head(task), HEADS), reading.image(self.net.get("image")))

    def validate(self) -> None:
        """Check all that needs no knob: keys, kinds, options, block names. An InputError says where."""
        document, net = self.document, self.document.mapping(("net",), self.document.data.get("net"), NET)
        if not isinstance(net.get("stages"), list) or not net["stages"]:
            raise document.error(("net", "stages"), f"expected a list of rows, but got {net.get('stages')!r}")
        if "head" in net and "heads" in net:
            raise document.error(("net",), "expected either head (one for all tasks) or heads (one per task), not both")
        blocks = document.mapping(("net", "blocks"), net.get("blocks") or {})
        for name, block in blocks.items():
            self._validate_part(("net", "blocks", name), block, BLOCKS)
        for index, row in enumerate(net["stages"]):
            self._validate_row(("net", "stages", index), row, blocks)
        heads = {("net", "head"): net["head"]} if "head" in net else self._heads()
        for keys, head in heads.items():
            self._validate_part(keys, head, HEADS)

    def _heads(self) -> dict[Keys, Any]:
        heads = self.document.mapping(("net", "heads"), self.net.get("heads", {}), TASKS)
        return {("net", "heads", task): head for task, head in heads.items()}

    def head(self, task: str) -> tuple[Keys, Any]:
        """The head for the task, with its place: as the document says, else the task's default."""
        if "head" in self.net:
            return ("net", "head"), self.net["head"]
        if "heads" not in self.net:
            return ("net",), TASKS[task].head
        heads = self.net["heads"]
        if task not in heads:
            raise self.document.error(("net", "heads"), f"no head for task {task!r}; {suggestion(task, heads)}")
        return ("net", "heads", task), heads[task]

    def _validate_row(self, keys: Keys, row: Any, blocks: Mapping[str, Any]) -> None:
        self.document.mapping(keys, row, ROW)
        if "link" not in row:
            raise self.document.error(keys, f"link is missing; {suggestion('', LINKS)}")
        self._validate_part((*keys, "link"), row["link"], LINKS)
        given = row.get("block")
        for place, block in _each((*keys, "block"), given):
            if isinstance(block, dict):
                self._validate_part(place, block, BLOCKS)
            elif isinstance(block, str) and not is_expression(block) and block not in blocks:
                _registered(self.document, place, block, BLOCKS, blocks)

    def _validate_part(self, keys: Keys, part: Any, registry: Registry) -> None:
        kind = part.get("kind") if isinstance(part, dict) else part
        if not isinstance(kind, str):
            raise self.document.error(keys, f"expected a kind, or a mapping with a kind, but got {part!r}")
        if is_expression(kind):
            return
        place = (*keys, "kind") if isinstance(part, dict) else keys
        _registered(self.document, place, kind, registry)
        if isinstance(part, dict):
            self.document.mapping(keys, part, ("kind", *registry.options(kind)))


@dataclass(frozen=True)
class _Reading:
    """One resolution of a template."""

    document: Document
    read: Read
    blocks: Mapping[str, Any]

    def value(self, keys: Keys, raw: Any) -> Value:
        if isinstance(raw, list):
            return tuple(self.value((*keys, index), item) for index, item in enumerate(raw))
        if not is_expression(raw):
            return raw  # type: ignore[no-any-return]  # a plain YAML scalar
        try:
            return evaluate(raw, self.read)
        except ExpressionError as error:
            raise self.document.error(keys, str(error)) from None

    def image(self, raw: Any) -> tuple[int, int] | None:
        """Height and width: a list of both, or the side of a square."""
        if raw is None:
            return None
        value = self.value(("net", "image"), raw)
        sides = value if isinstance(value, tuple) else (value, value)
        if len(sides) != 2:
            raise self.document.error(("net", "image"), f"expected a side, or height and width, but got {list(sides)}")
        height, width = (self._positive(("net", "image"), side) for side in sides)
        return height, width

    def row(self, keys: Keys, row: Mapping[str, Any], above: Stage | None) -> list[Stage]:
        when = self.value((*keys, "when"), row.get("when", True))
        if not isinstance(when, bool):
            raise self.document.error((*keys, "when"), f"expected true or false, but got {when!r}")
        if not when:
            return []
        repeat = self._positive((*keys, "repeat"), self.value((*keys, "repeat"), row.get("repeat", 1)))
        return [Stage(self.part((*keys, "link"), row["link"], LINKS), self._branches(keys, row, above))] * repeat

    def part(self, keys: Keys, raw: Any, registry: Registry) -> Part:
        given = raw if isinstance(raw, dict) else {"kind": raw}
        kind = self.value((*keys, "kind"), given.get("kind"))
        _registered(self.document, (*keys, "kind") if isinstance(raw, dict) else keys, kind, registry)
        defaults = registry.options(str(kind))
        self.document.mapping(keys, given, ("kind", *defaults))
        options = {
            name: self._option((*keys, name), given[name], default) if name in given else _tuple(default)
            for name, default in defaults.items()
        }
        return Part.of(str(kind), options)

    def _branches(self, keys: Keys, row: Mapping[str, Any], above: Stage | None) -> tuple[Branch, ...]:
        count, why = _branch_count(self.document, keys, row, above)
        if "channels" in row:
            channels = [self._positive(k, v) for k, v in self._spread(keys, row, "channels", None, count, why)]
        elif above:
            channels = [branch.channels for branch in above.branches]
        else:
            raise self.document.error(keys, "the first row must give channels and stride")
        stride = self._stride(keys, row, above)
        depths = [self._depth(k, v) for k, v in self._spread(keys, row, "depth", 0, count, why)]
        blocks = list(_spread_raw(self.document, keys, row, "block", None, count, why))
        norms = [self._norm(k, v) for k, v in self._spread(keys, row, "norm", None, count, why)]
        return tuple(
            Branch(channels[i], stride * 2**i, depths[i], self._block(*blocks[i]) if depths[i] else None, norms[i])
            for i in range(count)
        )

    def _spread(
        self, keys: Keys, row: Mapping[str, Any], name: str, default: Any, count: int, why: str
    ) -> list[tuple[Keys, Value]]:
        raw = _spread_raw(self.document, keys, row, name, default, count, why)
        return [(place, self.value(place, value)) for place, value in raw]

    def _stride(self, keys: Keys, row: Mapping[str, Any], above: Stage | None) -> int:
        if "stride" in row:
            return self._positive((*keys, "stride"), self.value((*keys, "stride"), row["stride"]))
        if above:
            return above.branches[0].stride
        raise self.document.error(keys, "the first row must give channels and stride")

    def _block(self, keys: Keys, raw: Any) -> Part:
        name = self.value(keys, raw) if isinstance(raw, str) else raw
        if name is None:
            raise self.document.error(keys, f"a depth needs a block; {suggestion('', self.blocks)}")
        if isinstance(name, str) and name in self.blocks:
            return self.part(("net", "blocks", name), self.blocks[name], BLOCKS)
        return self.part(keys, name, BLOCKS)

    def _norm(self, keys: Keys, value: Value) -> str | None:
        if value is not None and value not in NORMS:
            raise self.document.error(keys, f"norm {value!r} does not exist; {suggestion(value, NORMS)}")
        return None if value is None else str(value)

    def _option(self, keys: Keys, raw: Any, default: Any) -> Value:
        value = self.value(keys, raw)
        if isinstance(value, float) and not math.isfinite(value):
            raise self.document.error(keys, f"expected a finite number, but got {value}")
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        expected: Any = tuple if isinstance(default, list | tuple) else type(default)
        if default is not inspect.Parameter.empty and default is not None and type(value) is not expected:
            raise self.document.error(keys, f"expected {_NAMES.get(expected, 'a value')}, but got {value!r}")
        return value

    def _positive(self, keys: Keys, value: Value) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.document.error(keys, f"expected a whole number of at least 1, but got {value!r}")
        return value

    def _depth(self, keys: Keys, value: Value) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.document.error(keys, f"expected a whole number of at least 0, but got {value!r}")
        return value


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", tuple: "a list"}


def _branch_count(document: Document, keys: Keys, row: Mapping[str, Any], above: Stage | None) -> tuple[int, str]:
    """How many branches a row has, and the words that say why."""
    for name in ("channels", "depth", "block", "norm"):
        if isinstance(row.get(name), list):
            if not row[name]:
                raise document.error((*keys, name), "expected at least one branch, but got an empty list")
            return len(row[name]), f"{name}: [{', '.join(map(str, row[name]))}]"
    if "channels" not in row and above:
        return len(above.branches), "as in the row above"
    return 1, "no key of the row is a list"


def _spread_raw(
    document: Document, keys: Keys, row: Mapping[str, Any], name: str, default: Any, count: int, why: str
) -> list[tuple[Keys, Any]]:
    """A value per branch, each with its place: the items of a list, or one scalar for all."""
    raw = row.get(name, default)
    if not isinstance(raw, list):
        return [((*keys, name), raw)] * count
    if len(raw) != count:
        plural = "es" if count > 1 else ""
        raise document.error((*keys, name), f"{len(raw)} values for {count} branch{plural} ({why})")
    return [((*keys, name, index), item) for index, item in enumerate(raw)]


def _registered(
    document: Document, keys: Keys, kind: object, registry: Registry, names: Mapping[str, Any] | None = None
) -> None:
    """Check that `kind` is a kind of the registry; `names` are further names that would have worked."""
    if not isinstance(kind, str) or kind not in list(registry):
        choices = [*(names or ()), *registry]
        raise document.error(keys, f"{registry.what} {kind!r} does not exist; {suggestion(kind, choices)}")


def _expressions(keys: Keys, value: Any) -> Iterator[tuple[Keys, str]]:
    if is_expression(value):
        yield keys, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _expressions((*keys, key), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _expressions((*keys, index), inner)


def _each(keys: Keys, value: Any) -> list[tuple[Keys, Any]]:
    return [((*keys, i), item) for i, item in enumerate(value)] if isinstance(value, list) else [(keys, value)]


def _tuple(value: Any) -> Value:
    return tuple(value) if isinstance(value, list) else value
