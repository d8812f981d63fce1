"""The source of a network's parts, cut out of their modules: what they need and no more, in one flat text.

Registries, checks of a person's input (`raise InputError`) and the parts that only counting asks for are left out.
"""

import ast
import builtins
import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from hrsearch.errors import InputError
from hrsearch.export.names import free_names, import_lines, imported

Place = tuple[str, str]  # module, name
Edit = tuple[int, int, str]  # from, to, what stands there instead
ERROR = "InputError"
UNUSED_METHODS = ("parts", "extra_repr")  # for counting, and for printing
IMPORTED = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Extract:
    """Definitions in an order in which they run, and the imports that they need."""

    imports: str
    definitions: str
    names: Mapping[Place, str]  # what each is called in the text


@dataclass
class Module:
    """A module's source, and its definitions and imports by name."""

    name: str
    text: str
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    @classmethod
    @cache
    def of(cls, name: str) -> "Module":
        """The module of that name, which is loaded; an InputError if it has no source."""
        try:
            module = cls(name, inspect.getsource(sys.modules[name]))
        except (OSError, TypeError, KeyError) as error:
            raise InputError(f"{name}: has no source to take ({error}); export other formats") from None
        for statement in ast.parse(module.text).body:
            if isinstance(statement, IMPORTED):
                module.imports.update(imported(statement))
            for defined in _defined(statement):
                module.definitions[defined] = statement
        return module

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines(keepends=True)

    @cached_property
    def starts(self) -> list[int]:
        """Where each line starts in the text."""
        starts = [0]
        for line in self.lines:
            starts.append(starts[-1] + len(line))
        return starts

    def offset(self, line: int, column: int) -> int:
        """Where a position of a syntax tree, which counts bytes, lies in the text."""
        return self.starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.AST) -> tuple[int, int]:
        """From where to where an expression reaches."""
        place: Any = node
        return self.offset(place.lineno, place.col_offset), self.offset(place.end_lineno, place.end_col_offset)

    def whole_lines(self, node: ast.AST) -> tuple[int, int]:
        """The lines of a statement, its decorators among them."""
        place: Any = node
        first = min([place.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        return self.starts[first - 1], self.starts[place.end_lineno]

    def comments_above(self, start: int) -> int:
        """Where the comments begin that stand directly above."""
        line = self.starts.index(start)
        while line and self.lines[line - 1].startswith("#"):
            line -= 1
        return self.starts[line]


class Extractor:
    """Follows definitions to all that they need; `options` are the values by which a network looks things up."""

    def __init__(self, options: Collection[str], reserved: Iterable[str] = ()) -> None:
        self.options = options
        self.reserved = set(reserved)
        self.modules: dict[str, Module] = {}
        self.packages = {"hrsearch"}
        self.cuts: dict[Place, Cut] = {}  # in the order in which they run
        self.under_way: set[Place] = set()
        self.imports: dict[str, tuple[str, str | None]] = {}

    def add(self, thing: Callable[..., Any]) -> None:
        """Take a top-level function or class along; torch's own are there already."""
        if thing.__module__.partition(".")[0] == "torch":
            return
        if "." in thing.__qualname__:
            raise InputError(f"{thing.__qualname__}: only functions and classes of a module can be taken along")
        self.packages.add(thing.__module__.partition(".")[0])
        self._follow(thing.__module__, thing.__name__)

    def extract(self, used: Mapping[str, tuple[str, str | None]]) -> Extract:
        """All that was added, with what it needs; `used` is imported besides."""
        self.imports |= used
        names = self._names()
        texts = [cut.text(names) for cut in self.cuts.values()]
        short = [text.count("\n") == 1 and not text.startswith(("def ", "class ", "@")) for text in texts]
        joined = "".join(
            text + ("" if index + 1 == len(texts) else "\n" if short[index] and short[index + 1] else "\n\n")
            for index, text in enumerate(texts)
        )
        return Extract(import_lines(self.imports), re.sub(r"(?<=\n\n)\n+(?=\S)", "\n", joined), names)

    def module(self, name: str) -> Module:
        """The module's source, read once."""
        if name not in self.modules:
            self.modules[name] = Module.of(name)
        return self.modules[name]

    def resolve(self, module: str, name: str) -> Place | None:
        """Where one of our definitions lies that a module knows by this name; None for all other names."""
        known = self.module(module)
        if name in known.definitions:
            return module, name
        source, attribute = known.imports.get(name, ("", None))
        if attribute is None or source.partition(".")[0] not in self.packages:
            return None
        return self.resolve(source, attribute)

    def is_check(self, module: str, name: str) -> bool:
        """Whether this is a function that does nothing but raise InputErrors."""
        place = self.resolve(module, name)
        function = self.module(place[0]).definitions[place[1]] if place else None
        if not isinstance(function, ast.FunctionDef):
            return False
        inside = list(ast.walk(function))
        returns = any(isinstance(node, ast.Return) and node.value is not None for node in inside)
        return not returns and any(isinstance(node, ast.Raise) and _raises_input_error(node) for node in inside)

    def _follow(self, module: str, name: str) -> None:
        place = self.resolve(module, name)
        if place is None:
            self._import(module, name)
            return
        if place in self.cuts or place in self.under_way:
            return
        self.under_way.add(place)
        cut = Cut(self, *place)
        for used in cut.used():
            self._follow(place[0], used)
        self.under_way.remove(place)
        self.cuts[place] = cut

    def _import(self, module: str, name: str) -> None:
        source = self.module(module).imports.get(name)
        if source is None:
            if not hasattr(builtins, name):
                raise InputError(f"{module}: cannot tell where {name!r} comes from; export other formats")
            return
        if source[0].partition(".")[0] in self.packages:
            raise InputError(f"{module}: {name!r} is a module of its own; import what it holds by name")
        if self.imports.setdefault(name, source) != source:
            raise InputError(f"{module}: {name!r} means two things in one network; rename one of them")

    def _names(self) -> dict[Place, str]:
        """Names as they are, the module's before one that is taken."""
        names: dict[Place, str] = {}
        taken = self.reserved | set(self.imports)
        for module, name in self.cuts:
            private = "_" * (len(name) - len(name.lstrip("_")))
            new = name if name not in taken else f"{private}{module.rpartition('.')[2]}_{name.lstrip('_')}"
            while new in taken:
                new += "_"
            names[module, name] = new
            taken.add(new)
        return names


class Cut:
    """A definition without what only hrsearch needs."""

    def __init__(self, extractor: Extractor, module: str, name: str) -> None:
        self.extractor = extractor
        self.module = extractor.module(module)
        self.statement = self.module.definitions[name]
        self.edits: list[Edit] = []
        self.left_out: set[int] = set()  # nodes
        self._leave_out()

    def used(self) -> list[str]:
        """The names that it uses and does not define itself, in the order in which they stand there."""
        return list(dict.fromkeys(name for name, _ in self._uses()))

    def text(self, names: Mapping[Place, str]) -> str:
        """Its source, with others' names as they are in the new text."""
        edits = [*self.edits, *self._renamed(names)]
        start, end = self.module.whole_lines(self.statement)
        start = self.module.comments_above(start)
        text, at = "", start
        for first, last, instead in sorted(edits):
            text += self.module.text[at:first] + instead
            at = last
        return text + self.module.text[at:end]

    def _renamed(self, names: Mapping[Place, str]) -> Iterator[Edit]:
        own = next(name for name, node in self.module.definitions.items() if node is self.statement)
        new = names[self.module.name, own]
        if new != own:
            start, _ = self.module.whole_lines(self.statement)
            found = re.compile(rf"\b{own}\b").search(self.module.text, start)
            assert found is not None
            yield found.start(), found.end(), new
        for name, node in self._uses():
            place = self.extractor.resolve(self.module.name, name)
            if place is not None and names.get(place, name) != name:
                start, end = self.module.span(node)
                yield start, end, f'"{names[place]}"' if isinstance(node, ast.Constant) else names[place]

    def _uses(self) -> Iterator[tuple[str, ast.AST]]:
        yield from free_names(self.statement, frozenset(), self.left_out)

    def _leave_out(self) -> None:
        for node in getattr(self.statement, "decorator_list", ()):
            if self._is_ours(node):
                self._remove(node)
        for node in ast.walk(self.statement):
            for body in (getattr(node, "body", None), getattr(node, "orelse", None)):
                if isinstance(body, list):
                    self._leave_out_of(body)
        value = getattr(self.statement, "value", None)
        if isinstance(value, ast.Dict):
            self._narrow(value)

    def _leave_out_of(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if self._is_check(statement):
                self._remove(statement)
            elif isinstance(statement, ast.FunctionDef) and statement.name in UNUSED_METHODS:
                self._remove(statement, blank=True)
        first = body[0] if body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and ERROR in str(first.value.value):
            start, end = self.module.span(first)
            self.edits.append((start, end, _without_error(self.module.text[start:end])))

    def _is_check(self, statement: ast.stmt) -> bool:
        """Whether all that it can do is to raise an InputError."""
        match statement:
            case ast.Raise():
                return _raises_input_error(statement)
            case ast.If(orelse=[]) | ast.For(orelse=[]):
                checks = [self._is_check(each) for each in statement.body]
                idle = (isinstance(each, ast.Assign) for each in statement.body)
                return any(checks) and all(check or calm for check, calm in zip(checks, idle, strict=True))
            case ast.Expr(value=ast.Call(func=ast.Name(id=name))):
                return self.extractor.is_check(self.module.name, name)
        return False

    def _is_ours(self, decorator: ast.expr) -> bool:
        """Whether a decorator is hrsearch's: it registers, or shares what is only counted."""
        root = decorator
        while isinstance(root, ast.Call | ast.Attribute):
            root = root.func if isinstance(root, ast.Call) else root.value
        return isinstance(root, ast.Name) and self.extractor.resolve(self.module.name, root.id) is not None

    def _remove(self, node: ast.AST, blank: bool = False) -> None:
        """Take out its lines, and the blank one above."""
        if any(self._spans(node, other) for other in self.edits):
            return
        start, end = self.module.whole_lines(node)
        while blank and self.module.text[start - 2 : start] == "\n\n":
            start -= 1
        self.edits.append((start, end, ""))
        self.left_out.add(id(node))

    def _spans(self, node: ast.AST, edit: Edit) -> bool:
        """Whether it is taken out already, with what it stands in."""
        start, end = self.module.whole_lines(node)
        return edit[0] <= start and end <= edit[1]

    def _narrow(self, table: ast.Dict) -> None:
        """Leave of a table by option only the entries that the network asks for."""
        keys = [key.value if isinstance(key, ast.Constant) else None for key in table.keys]
        kept = [key in self.extractor.options for key in keys]
        if not all(isinstance(key, str) for key in keys) or not any(kept) or all(kept):
            return
        pairs = list(zip(table.keys, table.values, kept, strict=True))
        for key, value, keep in pairs:
            if not keep:
                self.left_out |= {id(key), id(value)}
                if table.lineno != table.end_lineno:
                    self.edits.append((self.module.whole_lines(key)[0], self.module.whole_lines(value)[1], ""))  # type: ignore[arg-type]
        if table.lineno == table.end_lineno:
            start, end = self.module.span(table)
            self.edits.append((start, end, "{" + ", ".join(self._entry(*pair) for pair in pairs if pair[2]) + "}"))

    def _entry(self, key: ast.expr | None, value: ast.expr, _: bool) -> str:
        assert key is not None
        texts = (self.module.text[slice(*self.module.span(node))] for node in (key, value))
        return ": ".join(texts)


def _defined(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def _raises_input_error(statement: ast.Raise) -> bool:
    return (
        isinstance(statement.exc, ast.Call)
        and isinstance(statement.exc.func, ast.Name)
        and statement.exc.func.id == ERROR
    )


def _without_error(docstring: str) -> str:
    """A docstring without the clauses and sentences that tell of an InputError."""
    return re.sub(r"(?:; [^.;]*|\s+[A-Z][^.;]*)InputError[^.;]*(?=\.)|(?<=\.)\s+[^.]*InputError[^.]*\.", "", docstring)
