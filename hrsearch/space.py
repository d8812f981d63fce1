"""A space: a table of knobs and a network written with them. `load_space` and `load_arch` read the YAML."""

import itertools
import math
import random
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hrsearch.arch import Arch, Value
from hrsearch.document import Document, shipped, shipped_file
from hrsearch.errors import InputError, suggestion
from hrsearch.expression import ExpressionError, evaluate, is_expression, names_in
from hrsearch.plugins import load_plugins
from hrsearch.task import TASKS
from hrsearch.template import Template

TOP = ("task", "plugins", "runners", "known", "knobs", "require", "net")
DEVICES = ("cpu", "cuda")
# The keys of a network's file: nothing judges it there, and what is published is hrsearch verify's.
NETWORK = (*(key for key in TOP if key != "runners"), "published")
Setting = dict[str, Value]


@dataclass(frozen=True)
class Knob:
    """A dimension of the space: its values, and whether their order means something."""

    name: str
    values: tuple[Value, ...]

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers in ascending order."""
        numbers = [value for value in self.values if isinstance(value, int | float) and not isinstance(value, bool)]
        return len(numbers) == len(self.values) and numbers == sorted(numbers)


@dataclass(frozen=True)
class Draw:
    """A setting of the knobs that the network reads, and the network or the requirement that refused it."""

    setting: Setting
    arch: Arch | None
    refused: str | None = None


@dataclass(frozen=True)
class Space:
    """Everything a space's YAML says."""

    document: Document
    task: str
    knobs: Mapping[str, Knob]
    require: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, path: Path = Path("space.yaml")) -> "Space":
        """The space with this YAML text; an InputError says which line is wrong."""
        return _space(Document.parse(text, path))

    @property
    def name(self) -> str:
        """What a study of it is called: the file's name, with the task where that is not the file's own."""
        own = self.document.data.get("task", "segment")
        return self.path.stem if self.task == own else f"{self.path.stem}_{self.task}"

    @property
    def path(self) -> Path:
        """The file that the space was read from."""
        return self.document.path

    @property
    def text(self) -> str:
        """The YAML as it was read."""
        return self.document.text

    @property
    def plugins(self) -> tuple[Path, ...]:
        """The files of code that the space brings along."""
        return plugins_of(self.document)

    def runner(self, device: str) -> Path | None:
        """The file that says how it is judged on a "cpu" or a "cuda" device where no other is asked for."""
        name = (self.document.data.get("runners") or {}).get(device)
        if name is None:
            return None
        near = self.path.parent / str(name)
        try:
            return near if near.is_file() else shipped_file("runners", str(name))
        except InputError as error:
            raise self.document.error(("runners", device), str(error)) from None

    @cached_property
    def known(self) -> tuple[tuple[str, Arch], ...]:
        """The published networks to judge beside the drawn ones, with their head for the space's task."""
        names = self.document.data.get("known") or []
        return tuple((_stem(name), self._known(index, name)) for index, name in enumerate(names))

    def for_task(self, task: str | None) -> "Space":
        """The same space for another task; an InputError if it has no head for that. None: as it is."""
        return self if task is None else _space(self.document, task)

    def draw(self, choose: Callable[[Knob], Value]) -> Draw:
        """Resolve the network; `choose` is called once for each knob, when it is first read."""
        setting: Setting = {}

        def read(name: str) -> Value:
            if name not in setting:
                setting[name] = choose(self.knobs[name])
            return setting[name]

        try:
            arch: Arch | None = Template(self.document).resolve(read, self.task)
        except InputError:
            # Perhaps of values that a requirement refuses: it may be there for that.
            refused = self._refused(setting)
            if refused is None:
                raise
            return Draw(setting, None, refused)
        refused = self._refused(setting)
        return Draw(setting, None if refused else arch, refused)

    def _refused(self, setting: Setting) -> str | None:
        """The first requirement that the setting does not keep."""
        return next((rule for index, rule in enumerate(self.require) if not self._holds(index, setting)), None)

    def sample(self, seed: int | str, tries: int = 1000) -> tuple[Setting, Arch]:
        """A random setting that keeps every requirement, and its network."""
        generator = random.Random(seed)
        refusals: list[str] = []
        for _ in range(tries):
            draw = self.draw(lambda knob: generator.choice(knob.values))
            if draw.arch is not None:
                return draw.setting, draw.arch
            refusals.append(str(draw.refused))
        most = max(set(refusals), key=refusals.count)
        raise self.document.error(("require",), f"refused all of {tries:,} draws, most often by {most!r}; loosen it")

    def arch(self, setting: Mapping[str, Value]) -> Arch:
        """The network of a setting; knobs that it does not read may be absent."""
        for name, value in setting.items():
            if name not in self.knobs:
                raise InputError(f"knob {name!r} does not exist; {suggestion(name, self.knobs)}")
            if value not in self.knobs[name].values:
                raise InputError(f"knob {name!r} has no value {value!r}; {suggestion(value, self.knobs[name].values)}")

        def given(knob: Knob) -> Value:
            if knob.name not in setting:
                raise InputError(f"knob {knob.name!r} is read by this network but not set")
            return setting[knob.name]

        draw = self.draw(given)
        if draw.arch is None:
            raise InputError(f"the setting is refused: {draw.refused} does not hold")
        return draw.arch

    def _holds(self, index: int, setting: Setting) -> bool:
        rule = self.require[index]
        # A requirement on a knob that the drawn network does not have says nothing about that network.
        if any(name not in setting for name in names_in(rule)):
            return True
        try:
            return bool(evaluate(rule, setting.__getitem__))
        except ExpressionError as error:
            raise self.document.error(("require", index), str(error)) from None

    def _known(self, index: int, name: Any) -> Arch:
        near = self.document.path.parent / str(name)  # beside the space, as its plug-ins are, or from here
        try:
            return _published(near if near.is_file() else str(name), self.task)
        except InputError as error:
            raise self.document.error(("known", index), str(error)) from None


def load_space(path_or_name: str | Path, task: str | None = None) -> Space:
    """The space in a YAML file, or the shipped one of that name ("hrvit").

    `task` picks the head where the file gives one per task; the file's own task is the default.
    """
    return _space(Document.read(shipped("spaces", path_or_name)), task)


def load_arch(path_or_name: str | Path, task: str | None = None) -> Arch:
    """The network in a YAML file without knobs, or the published one of that name ("hrvit_b1").

    `task` picks the head where the file gives one per task; the file's own task is the default.
    """
    document = _network(path_or_name)
    return Template(document).resolve(_never, _task_with_head(document, task))


def load_task(path_or_name: str | Path) -> str:
    """The task that the file of a network is for."""
    return _task(_network(path_or_name))


def _published(path_or_name: str | Path, task: str) -> Arch:
    """A network for a task that its file need not know: the task's default head where the file has none for it."""
    document = _network(path_or_name)
    net = document.data["net"]
    other = task not in net["heads"] if "heads" in net else document.data.get("task", task) != task
    if other:
        bare = {key: value for key, value in net.items() if key not in ("head", "heads")}
        document = replace(document, data={**document.data, "net": bare})
    return Template(document).resolve(_never, task)


def _network(path_or_name: str | Path) -> Document:
    """The checked file of a network."""
    document = Document.read(shipped("spaces/nets", path_or_name))
    document.mapping((), document.data, NETWORK)
    if document.data.get("knobs"):
        raise document.error(("knobs",), "a network has no knobs; use hrsearch sample to draw one from a space")
    load_plugins(plugins_of(document))
    _no_knobs(document)
    Template(document).validate()
    return document


def plugins_of(document: Document) -> tuple[Path, ...]:
    """The Python files under `plugins`, found from where the document lies."""
    names = document.data.get("plugins") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise document.error(("plugins",), f"expected a list of Python files, but got {names!r}")
    paths = tuple((document.path.parent / name).resolve() for name in names)
    for index, path in enumerate(paths):
        if not path.is_file():
            raise document.error(("plugins", index), f"no such file: {path}")
    return paths


def _space(document: Document, asked: str | None = None) -> Space:
    data = document.mapping((), document.data, TOP)
    load_plugins(plugins_of(document))
    template = Template(document)
    template.validate()
    raw = document.mapping(("knobs",), data.get("knobs") or {})
    for name in raw:
        if unicodedata.normalize("NFKC", name) != name:
            # Python reads identifiers so, and would not find it.
            raise document.error(("knobs", name), f"write this name as {unicodedata.normalize('NFKC', name)!r}")
    knobs = {name: Knob(name, _values(document, name, value)) for name, value in raw.items()}
    require = tuple(_rules(document, data.get("require") or []))
    _check_references(document, template, knobs, require)
    _check_possible(document, knobs, require)
    known = data.get("known") or []
    if not isinstance(known, list):
        raise document.error(("known",), f"expected a list of networks, but got {known!r}")
    if data.get("runners") is not None:
        document.mapping(("runners",), data["runners"], DEVICES)
    task = _task_with_head(document, asked)
    template.head(task)  # read now, so that a missing one is told before anything starts
    space = Space(document, task, knobs, require)
    # Read now, so that a wrong name is told before anything starts.
    _check_known(document, space.known)
    for device in DEVICES:
        space.runner(device)
    return space


def _check_known(document: Document, known: Sequence[tuple[str, Arch]]) -> None:
    """Refuse a published network by whose name another one goes: a study would judge the first alone. And the same
    network under two names, which it would train twice."""
    names, digests = [name for name, _ in known], [arch.digest() for _, arch in known]
    for index, name in enumerate(names):
        first = names.index(name)
        if first < index:
            said = f"{name!r} is the name of known[{first}], too: networks are called after their files; rename one"
            raise document.error(("known", index), said)
        same = digests.index(digests[index])
        if same < index:
            raise document.error(("known", index), f"{name!r} is the same network as {names[same]!r}; leave one out")


def _task(document: Document, asked: str | None = None) -> str:
    """The task that was asked for, else the document's own."""
    if asked is not None and asked not in TASKS:
        raise InputError(f"task {asked!r} does not exist; {suggestion(asked, TASKS)}")
    task = document.data.get("task", "segment") if asked is None else asked
    if not isinstance(task, str) or task not in TASKS:
        raise document.error(("task",), f"task {task!r} does not exist; {suggestion(task, TASKS)}")
    return task


def _task_with_head(document: Document, asked: str | None) -> str:
    """The same, if the only head that the file gives is not another task's."""
    task = _task(document, asked)
    if "head" in document.data["net"] and task != _task(document):
        own = f"this one is for task {_task(document)!r}, but {task!r} was asked for"
        raise document.error(("net", "head"), f"{own}; give heads: one per task, or none for the default")
    return task


def _values(document: Document, name: str, raw: Any) -> tuple[Value, ...]:
    keys = ("knobs", name)
    if isinstance(raw, dict):
        return _range(document, name, raw)
    if not isinstance(raw, list) or not raw:
        raise document.error(keys, f"expected a list of values or {{from, to, step}}, but got {raw!r}")
    for value in raw:
        if not isinstance(value, int | float | str | bool):
            raise document.error(keys, f"values are numbers, text, true or false, but got {value!r}")
    if len({(type(value), value) for value in raw}) < len(raw):
        raise document.error(keys, f"each value once, but got {raw!r}")
    return tuple(raw)


def _range(document: Document, name: str, raw: Mapping[str, Any]) -> tuple[Value, ...]:
    keys = ("knobs", name)
    document.mapping(keys, raw, ("from", "to", "step"))
    numbers = [raw.get("from"), raw.get("to"), raw.get("step", 1)]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise document.error(keys, f"from, to and step must be numbers, but got {dict(raw)!r}")
    if not all(map(math.isfinite, numbers)):
        raise document.error(keys, f"from, to and step must be finite, but got {dict(raw)!r}")
    low, high, step = numbers
    if low > high or step <= 0:
        raise document.error(keys, f"from <= to and step > 0 must hold, but got from={low}, to={high}, step={step}")
    count = math.floor((high - low) / step + 1e-9) + 1
    if count > 10_000:
        raise document.error(keys, f"{count:,} values are too many; use a larger step")
    return tuple(low + step * index for index in range(count))


def _rules(document: Document, raw: Any) -> Iterator[str]:
    if not isinstance(raw, list):
        raise document.error(("require",), f"expected a list of expressions, but got {raw!r}")
    for index, rule in enumerate(raw):
        if not is_expression(rule):
            raise document.error(("require", index), f"expected an expression with a $knob, but got {rule!r}")
        yield rule


def _check_references(document: Document, template: Template, knobs: Mapping[str, Knob], rules: Sequence[str]) -> None:
    used: set[str] = set()
    in_rules = [(("require", index), rule) for index, rule in enumerate(rules)]
    for keys, text in [*template.expressions(), *in_rules]:
        for name in names_in(text):
            if name not in knobs:
                raise document.error(keys, f"knob ${name} does not exist; {suggestion(name, knobs)}")
        if keys[0] == "net":
            used.update(names_in(text))
    for name in knobs:
        if name not in used:
            raise document.error(("knobs", name), "no network uses this knob; use it under net or remove it")


def _check_possible(document: Document, knobs: Mapping[str, Knob], rules: Sequence[str]) -> None:
    """Refuse a requirement that no values can keep (tried in full up to 100,000 combinations)."""
    for index, rule in enumerate(rules):
        names = names_in(rule)
        if math.prod(len(knobs[name].values) for name in names) > 100_000:
            continue
        combinations = itertools.product(*(knobs[name].values for name in names))
        try:
            # All of them, so that one for which it cannot be computed is not met in the middle of a search.
            found = [evaluate(rule, dict(zip(names, values, strict=True)).__getitem__) for values in combinations]
        except ExpressionError as error:
            raise document.error(("require", index), str(error)) from None
        if not any(found):
            shown = "; ".join(f"{name}: {list(knobs[name].values)}" for name in names)
            raise document.error(("require", index), f"{rule!r} holds for no values of its knobs ({shown})")


def _no_knobs(document: Document) -> None:
    document.mapping(("net",), document.data.get("net"))
    for keys, text in Template(document).expressions():
        raise document.error(keys, f"{text!r} reads a knob, but this file has none")


def _never(name: str) -> Value:
    raise AssertionError(f"${name} was refused before")


def _stem(name: object) -> str:
    return Path(str(name)).stem
