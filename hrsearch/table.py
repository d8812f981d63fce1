"""A network as a table: what `hrsearch show` prints. One row per link and per branch of each stage, and the head."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hrsearch.arch import Arch, Map, Part, inputs_of
from hrsearch.arch import by_place as places
from hrsearch.cost.flops import size_at
from hrsearch.objective import Cost, Latency, readable

BETWEEN = "between the parts (sums, activations, resizing)"


@dataclass(frozen=True)
class Row:
    """A link, a branch, the head or a part of one: what it is, the map that it delivers, and what it costs."""

    stage: str
    part: str
    map: str  # height x width
    stride: int
    channels: int
    blocks: int
    params: int
    flops: int  # multiply-accumulates
    ms: float | None = None  # where the network was measured
    within: bool = False  # a part of the row above, not to be added again


def rows_of(
    arch: Arch, cost: Cost, image: tuple[int, int], ms: Mapping[str, float] | None = None, in_parts: bool = False
) -> list[Row]:
    """The rows of a network whose costs were counted at `image` (height, width).

    `ms` holds the milliseconds of every part and, under the empty name, what lies between. `in_parts` adds a row for
    every part that computes below the row that it belongs to.
    """
    rows: list[Row] = []
    for index, stage in enumerate(arch.stages):
        finest, name = stage.maps[0], f"stages.{index}"
        title = f"link {stage.link.kind}: {_maps(inputs_of(arch, index))} -> {_maps(stage.maps)}"
        rows += _rows(Row(str(index), title, *_on(finest, image), 0, 0, 0), f"{name}.link", cost, ms, in_parts)
        for place, branch in enumerate(stage.branches):
            if branch.depth or branch.norm:
                what = _words(branch.block) if branch.block else f"{branch.norm} norm"
                row = Row(str(index), f"branch {place}: {what}", *_on(branch.map, image), branch.depth, 0, 0)
                rows += _rows(row, f"{name}.branches.{place}", cost, ms, in_parts)
    rows += _rows(Row("head", _words(arch.head), *_on(arch.maps[0], image), 0, 0, 0), "head", cost, ms, in_parts)
    if ms is not None:
        rows.append(Row("", BETWEEN, "", 0, 0, 0, 0, 0, ms.get("", 0.0)))
    return rows


def by_place(arch: Arch, cost: Cost, ms: Mapping[str, float] | None = None) -> list[Row]:
    """The same bill in a few rows: the branches of each stride over all stages, the links, the head."""
    params, flops = places(arch, cost.params_by_part), places(arch, cost.flops_by_part)
    times = places(arch, ms) if ms is not None else {}
    rows = ((place, params.get(place, 0), flops.get(place, 0), times.get(place)) for place in {**params, **times})
    return [Row("", place, "", 0, 0, 0, int(own), int(counted), spent) for place, own, counted, spent in rows]


def text_of(rows: list[Row], cost: Cost) -> str:
    """The rows in columns, with the total; milliseconds and their shares where they were measured."""
    total_ms = sum(row.ms or 0.0 for row in rows if not row.within)
    timed = any(row.ms is not None for row in rows)
    head = ("stage", "part", "map", "channels", "blocks", "params", "FLOPs", "share", *(("ms", "share") * timed))
    total = ("total", "", "", "", "", f"{cost.params:,}", f"{cost.flops:,}", _share(1, 1))
    last = (*total, *((f"{total_ms:.2f}", _share(1, 1)) * timed))
    lines = [head, *(_cells(row, cost.flops, total_ms if timed else None) for row in rows), last]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(_line(line, widths) for line in lines)


def json_of(arch: Arch, rows: list[Row], cost: Cost, image: tuple[int, int], classes: int) -> dict[str, Any]:
    """The same for machines, with the costs of every part."""
    return {
        "digest": arch.digest(),
        "image": list(image),
        "classes": classes,
        **asdict(cost),
        "rows": [asdict(row) for row in rows],
        "arch": arch.to_dict(),
    }


def summary_of(cost: Cost, image: tuple[int, int], classes: int) -> str:
    """One line under the table."""
    size = f"{image[0]}x{image[1]}"
    return (
        f"{readable(cost.params)} parameters, {readable(cost.flops)} FLOPs at {size}, {classes} classes "
        "(one multiply-accumulate is one; norms, activations and softmax are not counted)"
    )


def certificate_of(latency: Latency) -> str:
    """A latency and what it depends on, in one line."""
    threads = "1 thread" if latency.threads == 1 else f"{latency.threads} threads"
    steady = "steady" if latency.steady else f"not steady: {latency.trouble}"
    return (
        f"{latency.median_ms:.3g} ms ({latency.low_ms:.3g} to {latency.high_ms:.3g}; {latency.runs} runs, {steady}), "
        f"engine {latency.engine}, batch {latency.batch}, {threads} of {latency.device}"
    )


def _rows(row: Row, name: str, cost: Cost, ms: Mapping[str, float] | None, in_parts: bool) -> Iterator[Row]:
    """The row with its costs, and its parts' rows."""
    keys = [key for key in cost.params_by_part if key == name or key.startswith(f"{name}.")]
    yield _costed(row, keys, cost, ms)
    if in_parts and keys != [name]:
        for key in keys:
            part = Row(row.stage, key.removeprefix(f"{name}."), "", 0, 0, 0, 0, 0, within=True)
            yield _costed(part, [key], cost, ms)


def _costed(row: Row, keys: list[str], cost: Cost, ms: Mapping[str, float] | None) -> Row:
    figures = {
        "params": sum(cost.params_by_part[key] for key in keys),
        "flops": sum(cost.flops_by_part[key] for key in keys),
        "ms": None if ms is None else sum(ms.get(key, 0.0) for key in keys),
    }
    return Row(**{**asdict(row), **figures})


def _cells(row: Row, flops: int, ms: float | None) -> tuple[str, ...]:
    """The row's figures and their shares of the whole network's."""
    own = row.ms or 0.0
    return (
        row.stage,
        f"  {row.part}" if row.within else row.part,
        row.map,
        str(row.channels or ""),
        str(row.blocks or ""),
        f"{row.params:,}",
        f"{row.flops:,}",
        _share(row.flops, flops),
        *(() if ms is None else (f"{own:.2f}", _share(own, ms))),
    )


def _on(one: Map, image: tuple[int, int]) -> tuple[str, int, int]:
    """A map's size in words, its stride and its channels."""
    height, width = size_at(image, one.stride)
    return f"{height}x{width}", one.stride, one.channels


def _share(part: float, whole: float) -> str:
    return f"{100 * part / (whole or 1):.1f} %"


def _words(part: Part) -> str:
    return " ".join([part.kind, *(f"{name}={_plain(value)}" for name, value in part.options)])


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _maps(maps: tuple[Map, ...]) -> str:
    return " ".join(f"{one.channels}/{one.stride}" for one in maps)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    return "  ".join([*left, *right]).rstrip()
