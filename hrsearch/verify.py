"""The published networks counted again, beside what their papers print: what `hrsearch verify` prints."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from hrsearch.arch import Arch
from hrsearch.cost import cost
from hrsearch.cost.conventions import CONVENTIONS, Elements, elements_of, multiply_accumulates
from hrsearch.document import Document, Keys, shipped, shipped_folder
from hrsearch.errors import InputError, suggestion
from hrsearch.space import load_arch

KEYS = ("source", "task", "image", "classes", "params", "flops", "printed", "convention")
LARGE = 448 * 448  # pixels; beyond them counting on real tensors takes seconds and gigabytes
UNITS = {"M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Figure:
    """A network's parameters or FLOPs: counted now, recorded in its file, and as its paper prints them."""

    network: str
    task: str
    image: tuple[int, int]
    classes: int
    name: str  # params or flops
    counted: int
    recorded: int
    printed: str | None = None
    convention: str | None = None
    by_convention: float | None = None  # counted as the paper counts
    source: str = ""

    @property
    def changed(self) -> bool:
        """Whether the network is no longer the one that was published here."""
        return self.counted != self.recorded

    @property
    def explained(self) -> bool:
        """Whether the figure, counted as the paper counts, rounds to the printed one."""
        if self.printed is None or self.by_convention is None:
            return False
        return rounded(self.by_convention, self.printed) == self.printed

    def difference(self, figure: float) -> float:
        """How far `figure` lies above the printed one, in percent of it."""
        return 100 * (figure / value_of(str(self.printed)) - 1)


def published_names() -> list[str]:
    """Every network that ships with hrsearch."""
    return sorted(path.stem for path in shipped_folder("spaces/nets").glob("*.yaml"))


def figures_of(path_or_name: str) -> Iterator[Figure]:
    """Two figures for every entry under `published` in a network's file; an entry that is wrong is an InputError."""
    document = Document.read(shipped("spaces/nets", path_or_name))
    load_arch(path_or_name)
    entries = document.data.get("published") or []
    if not isinstance(entries, list):
        raise document.error(("published",), f"expected a list of entries, but got {entries!r}")
    for index, entry in enumerate(entries):
        yield from _figures(document, ("published", index), entry, path_or_name)


def text_of(figures: Sequence[Figure]) -> str:
    """The figures in columns, and below what the conventions mean."""
    head = (
        "network",
        "task",
        "image",
        "classes",
        "figure",
        "here",
        "printed",
        "off",
        "their way",
        "off",
        "their way to count",
    )
    lines = [head, *map(_cells, figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    table = "\n".join(_line(line, widths) for line in lines)
    used = {each.convention for each in figures if each.convention}
    legend = [f"{name}: {CONVENTIONS[name].words}" for name in CONVENTIONS if name in used]
    return "\n".join([table, "", *legend, ""])


def summary_of(figures: Sequence[Figure], silent: Sequence[str]) -> str:
    """Which networks changed, or that none did; `silent` are networks whose files record nothing."""
    lines = [
        f"changed: {each.network}, {each.task} at {_size(each)}, {each.classes} classes: {each.counted:,} "
        f"{_NAMES[each.name]}, but {each.recorded:,} are recorded"
        for each in figures
        if each.changed
    ]
    if silent:
        lines.append(f"without recorded figures: {', '.join(silent)}")
    explained, printed = sum(each.explained for each in figures), sum(each.printed is not None for each in figures)
    count = len({each.network for each in figures})
    outcome = f"{len(figures)} figures of {count} networks: {sum(each.changed for each in figures)} changed; "
    return "\n".join([*lines, f"{outcome}{explained} of {printed} printed ones are met to their last digit"])


def json_of(figures: Sequence[Figure], silent: Sequence[str]) -> dict[str, Any]:
    """The same for machines."""
    rows = [{**asdict(each), "changed": each.changed, "explained": each.explained} for each in figures]
    return {"figures": rows, "without_figures": list(silent), "changed": sum(each.changed for each in figures)}


def value_of(printed: str) -> float:
    """`19.7M` as a number."""
    return float(printed[:-1]) * UNITS[printed[-1]]


def rounded(value: float, printed: str) -> str:
    """`value` with the unit and the digits of `printed`."""
    digits = len(printed[:-1].partition(".")[2])
    return f"{value / UNITS[printed[-1]]:.{digits}f}{printed[-1]}"


def _figures(document: Document, keys: Keys, raw: Any, path_or_name: str) -> Iterator[Figure]:
    entry = document.mapping(keys, raw, KEYS)
    params, flops, classes = (_whole(document, keys, entry, name) for name in ("params", "flops", "classes"))
    image, convention = _image(document, keys, entry), _convention(document, keys, entry)
    task = str(entry.get("task"))
    if entry.get("task") is None:
        raise document.error(keys, "has no task; write segment, classify or pose")
    printed = document.mapping((*keys, "printed"), entry.get("printed") or {}, ("params", "flops"))
    arch = load_arch(path_or_name, task)
    counted = _counted(arch, image, classes)
    common: dict[str, Any] = {
        "network": document.path.stem,
        "task": task,
        "image": image,
        "classes": classes,
        "source": str(entry.get("source", "")),
    }
    as_printed = {"params": float(counted[0]), "flops": 0.0}
    if "flops" in printed:
        as_printed["flops"] = CONVENTIONS[convention].flops(_elements(arch, image, classes))
    for name, now, before in (("params", counted[0], params), ("flops", counted[1], flops)):
        if name not in printed:
            yield Figure(**common, name=name, counted=now, recorded=before)
            continue
        text = _printed(document, (*keys, "printed", name), printed[name])
        how = convention if name == "flops" else None
        yield Figure(
            **common,
            name=name,
            counted=now,
            recorded=before,
            printed=text,
            convention=how,
            by_convention=as_printed[name],
        )


def _counted(arch: Arch, image: tuple[int, int], classes: int) -> tuple[int, int]:
    """Parameters and FLOPs, by the counter of every other command, or for large images without memory."""
    if image[0] * image[1] <= LARGE:
        whole = cost(arch, image, classes)
        return whole.params, whole.flops
    return cost(arch, (64, 64), classes).params, multiply_accumulates(_elements(arch, image, classes))


@cache
def _elements(arch: Arch, image: tuple[int, int], classes: int) -> Elements:
    return elements_of(arch, image, classes)


def _whole(document: Document, keys: Keys, entry: dict[str, Any], name: str) -> int:
    value = entry.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise document.error((*keys, name), f"expected a whole number of at least 1, but got {value!r}")
    return value


def _image(document: Document, keys: Keys, entry: dict[str, Any]) -> tuple[int, int]:
    raw = entry.get("image")
    sides = raw if isinstance(raw, list) else [raw, raw]
    match sides:
        case [int(height), int(width)] if height > 0 and width > 0:
            return height, width
    raise document.error((*keys, "image"), f"expected a side, or height and width in pixels, but got {raw!r}")


def _convention(document: Document, keys: Keys, entry: dict[str, Any]) -> str:
    name = entry.get("convention", "plain")
    if name not in CONVENTIONS:
        place = (*keys, "convention")
        raise document.error(place, f"convention {name!r} does not exist; {suggestion(name, CONVENTIONS)}")
    return str(name)


def _printed(document: Document, keys: Keys, raw: Any) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?[MG]", str(raw)) or not value_of(str(raw)):
        raise document.error(keys, f"expected a figure as it is printed, such as 19.7M or 2.7G, but got {raw!r}")
    return str(raw)


_NAMES = {"params": "parameters", "flops": "FLOPs"}


def _cells(figure: Figure) -> tuple[str, ...]:
    start = (figure.network, figure.task, _size(figure), str(figure.classes), _NAMES[figure.name])
    here = f"{figure.counted:,}{' CHANGED' if figure.changed else ''}"
    if figure.printed is None or figure.by_convention is None:
        return (*start, here, "", "", "", "", "")
    same = rounded(figure.by_convention, figure.printed)
    off = "" if figure.explained else _percent(figure.difference(figure.by_convention))
    return (
        *start,
        here,
        figure.printed,
        _percent(figure.difference(figure.counted)),
        same,
        off,
        figure.convention or "",
    )


def _size(figure: Figure) -> str:
    return f"{figure.image[0]}x{figure.image[1]}"


def _percent(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f} %"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = {0, 1, 2, 4, 10}
    return "  ".join(
        cell.ljust(width) if column in left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()


def verified(names: Sequence[str]) -> tuple[list[Figure], list[str]]:
    """All figures of these networks, by default of all that ship, and the networks whose files record none."""
    found = {name: list(figures_of(name)) for name in names or published_names()}
    if not found:
        raise InputError("no network is shipped; reinstall hrsearch")
    return [each for figures in found.values() for each in figures], [name for name in found if not found[name]]
