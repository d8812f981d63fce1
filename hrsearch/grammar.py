"""An architecture written in the grammar of spaces, without knobs: `hrsearch.load_arch` reads it back."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import yaml

from hrsearch.arch import Arch, Branch, Part, Stage, Value

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's writes the same, five times as fast


def yaml_of(arch: Arch, task: str, comment: str = "", plugins: Sequence[str] = ()) -> str:
    """The YAML of a network: every option written out, a row per stage, blocks by name.

    `plugins` are the files of code that it needs, as seen from the YAML.
    """
    names = _names(arch)
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [f"task: {task}", *([f"plugins: {_flow(list(plugins))}"] if plugins else []), "net:"]
    lines += [f"  image: {list(arch.image)}"] if arch.image else []
    lines += ["  blocks:" if names else "  blocks: {}"]
    lines += [f"    {name}: {_flow(_part(block))}" for block, name in names.items()]
    lines += ["  stages:", *(f"    - {_flow(row)}" for row in _rows(arch, names))]
    lines += [f"  head: {_flow(_part(arch.head))}"]
    return "\n".join(lines) + "\n"


def _names(arch: Arch) -> dict[Part, str]:
    """A name for every different block: its kind, numbered where a kind comes with several sets of options."""
    blocks = dict.fromkeys(b.block for stage in arch.stages for b in stage.branches if b.block)
    kinds = [block.kind for block in blocks]
    numbers = [kinds[: index + 1].count(kind) for index, kind in enumerate(kinds)]
    return {
        block: f"{kind}{number}" if kinds.count(kind) > 1 else kind
        for block, kind, number in zip(blocks, kinds, numbers, strict=True)
    }


def _rows(arch: Arch, names: dict[Part, str]) -> Iterator[dict[str, Any]]:
    for stage, same in groupby(arch.stages):
        repeat = len(list(same))
        yield _row(stage, names) | ({"repeat": repeat} if repeat > 1 else {})


def _row(stage: Stage, names: dict[Part, str]) -> dict[str, Any]:
    branches = stage.branches
    _check_strides(branches)
    row: dict[str, Any] = {
        "link": _part(stage.link),
        "channels": [branch.channels for branch in branches],
        "stride": branches[0].stride,
    }
    if any(branch.depth for branch in branches):
        row["depth"] = [branch.depth for branch in branches]
        row["block"] = [names[branch.block] if branch.block else None for branch in branches]
    if any(branch.norm for branch in branches):
        row["norm"] = [branch.norm for branch in branches]
    return row


def _check_strides(branches: tuple[Branch, ...]) -> None:
    strides = [branch.stride for branch in branches]
    if strides != [strides[0] * 2**index for index in range(len(strides))]:
        raise AssertionError(f"the grammar knows strides that double from branch to branch only, but got {strides}")


def _part(part: Part) -> Any:
    options = {name: _plain(value) for name, value in part.options}
    return {"kind": part.kind, **options} if options else part.kind


def _plain(value: Value) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _flow(data: Any) -> str:
    text: str = yaml.dump(
        data, Dumper=_DUMPER, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True
    )
    return text.removesuffix("...\n").strip()  # a scalar alone ends its document
