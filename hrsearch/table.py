"""A network as a table: what `hrsearch show` prints. One row per link and per branch of each stage, and the head."""

from dataclasses import asdict, dataclass
from typing import Any

from hrsearch.arch import Arch, Map, Part, inputs_of
from hrsearch.cost.flops import size_at
from hrsearch.objective import Cost, readable


@dataclass(frozen=True)
class Row:
    """A link, a branch or the head: what it is, the map that it delivers, and what it costs."""

    stage: str
    part: str
    map: str  # height x width
    stride: int
    channels: int
    blocks: int
    params: int
    flops: int  # multiply-accumulates


def rows_of(arch: Arch, cost: Cost, image: tuple[int, int]) -> list[Row]:
    """The rows of a network whose costs were counted at `image` (height, width)."""
    rows: list[Row] = []
    for index, stage in enumerate(arch.stages):
        finest, name = stage.maps[0], f"stages.{index}"
        title = f"link {stage.link.kind}: {_maps(inputs_of(arch, index))} -> {_maps(stage.maps)}"
        rows.append(_row(str(index), title, finest, 0, cost, f"{name}.link", image))
        for place, branch in enumerate(stage.branches):
            if branch.depth or branch.norm:
                what = _words(branch.block) if branch.block else f"{branch.norm} norm"
                title = f"branch {place}: {what}"
                rows.append(_row(str(index), title, branch.map, branch.depth, cost, f"{name}.branches.{place}", image))
    rows.append(_row("head", _words(arch.head), arch.maps[0], 0, cost, "head", image))
    return rows


def text_of(rows: list[Row], cost: Cost) -> str:
    """The rows in columns, with the total."""
    lines = [("stage", "part", "map", "channels", "blocks", "params", "FLOPs", "share")]
    for row in rows:
        share = f"{100 * row.flops / max(cost.flops, 1):.1f} %"
        count = str(row.blocks or "")
        lines.append(
            (row.stage, row.part, row.map, str(row.channels), count, f"{row.params:,}", f"{row.flops:,}", share)
        )
    lines.append(("total", "", "", "", "", f"{cost.params:,}", f"{cost.flops:,}", "100.0 %"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
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


def _row(stage: str, part: str, one: Map, blocks: int, cost: Cost, name: str, image: tuple[int, int]) -> Row:
    height, width = size_at(image, one.stride)
    keys = [key for key in cost.params_by_part if key == name or key.startswith(f"{name}.")]
    return Row(
        stage=stage,
        part=part,
        map=f"{height}x{width}",
        stride=one.stride,
        channels=one.channels,
        blocks=blocks,
        params=sum(cost.params_by_part[key] for key in keys),
        flops=sum(cost.flops_by_part[key] for key in keys),
    )


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
