"""The drawing of a network, as everyone knows it from HRNet: stages left to right, resolutions top to bottom.

A bar is a block, its height grows with the channels, its colour tells the kind; thin lines are the links between
stages, which lead every map to every map.
"""

import math
from collections.abc import Iterator

from hrsearch.arch import Arch, Branch
from hrsearch.report.markup import Markup, element
from hrsearch.report.words import design, kinds_of

ROW, BAR, GAP, LINK, LABEL = 34, 5, 2, 20, 30  # all in pixels of the drawing


def drawing(arch: Arch) -> Markup:
    """The network as SVG; colours come from the page's style."""
    strides = sorted({branch.stride for stage in arch.stages for branch in stage.branches})
    kinds = kinds_of(branch for stage in arch.stages for branch in stage.branches)
    lines, bars, left = [], [], float(LABEL)
    ends: list[tuple[float, float]] = [(left, ROW / 2)]  # where the maps of the stage before leave it
    for stage in arch.stages:
        rows = [_middle(strides.index(branch.stride)) for branch in stage.branches]
        start = left + LINK
        left = start + max(_length(branch) for branch in stage.branches)
        lines += [_line(x, y, start, row) for x, y in ends for row in rows]
        lines += [_line(start, row, left, row) for row in rows]
        for branch, row in zip(stage.branches, rows, strict=True):
            bars += list(_bars(branch, start, row, kinds))
        ends = [(left, row) for row in rows]
    labels = [_label(0, _middle(i), f"1/{stride}") for i, stride in enumerate(strides)]
    labels += [_label(left + 6, _middle(strides.index(map.stride)), str(map.channels)) for map in arch.maps]
    box = f"0 0 {left + LABEL:g} {max(len(strides), 1) * ROW}"
    group = element("g", lines, class_="links")
    return element("svg", group, bars, labels, viewBox=box, role="img", aria_label=design(arch), class_="drawing")


def _middle(row: int) -> float:
    return ROW * (row + 0.5)


def _length(branch: Branch) -> float:
    return max(branch.depth, 1) * (BAR + GAP)


def _bars(branch: Branch, start: float, row: float, kinds: list[str]) -> Iterator[Markup]:
    height = min(4 + 3 * math.log2(max(branch.channels / 8, 1)), ROW - 4)
    style = f"block kind{kinds.index(branch.block.kind) % 4}" if branch.block else "map"
    title = element("title", f"{branch.channels} channels at 1/{branch.stride}: {_blocks(branch)}")
    for index in range(max(branch.depth, 1)):
        x = start + index * (BAR + GAP) + GAP / 2
        shape = {"x": f"{x:g}", "y": f"{row - height / 2:g}", "width": str(BAR), "height": f"{height:g}", "rx": "1.5"}
        yield element("rect", title, class_=style, **shape)


def _blocks(branch: Branch) -> str:
    if not branch.block:
        return "no blocks"
    options = ", ".join(f"{name} {value}" for name, value in branch.block.options)
    return f"{branch.depth} × {branch.block.kind}" + (f" ({options})" if options else "")


def _line(x1: float, y1: float, x2: float, y2: float) -> Markup:
    return element("line", x1=f"{x1:g}", y1=f"{y1:g}", x2=f"{x2:g}", y2=f"{y2:g}")


def _label(x: float, y: float, text: str) -> Markup:
    return element("text", text, x=f"{x:g}", y=f"{y + 3.5:g}")
