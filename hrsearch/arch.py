"""A network as data: stages over a pyramid of maps, and a head. Frozen, hashable, without torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Value = int | float | str | bool | None | tuple["Value", ...]


@dataclass(frozen=True)
class Map:
    """A feature map: its channels, and its stride in image pixels."""

    channels: int
    stride: int


IMAGE = Map(channels=3, stride=1)


@dataclass(frozen=True)
class Part:
    """A registered kind with every option filled in, options in alphabetical order."""

    kind: str
    options: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, kind: str, options: Mapping[str, Value]) -> "Part":
        """The part of `kind` with these options."""
        return cls(kind, tuple(sorted(options.items())))

    def keywords(self) -> dict[str, Any]:
        """The options as keyword arguments of the kind's constructor."""
        return dict(self.options)


@dataclass(frozen=True)
class Branch:
    """One resolution of a stage: `depth` blocks of one kind at a stride, then a norm or none."""

    channels: int
    stride: int
    depth: int = 0
    block: Part | None = None  # None exactly when depth is 0
    norm: str | None = None

    @property
    def map(self) -> Map:
        """The map that the branch delivers."""
        return Map(self.channels, self.stride)


@dataclass(frozen=True)
class Stage:
    """A link that leads the pyramid to the branches' maps, and the branches."""

    link: Part
    branches: tuple[Branch, ...]

    @property
    def maps(self) -> tuple[Map, ...]:
        """The pyramid that the stage delivers, finest first."""
        return tuple(branch.map for branch in self.branches)


@dataclass(frozen=True)
class Arch:
    """A network: its stages, repeats written out, its head, and the size of the images that it is for."""

    stages: tuple[Stage, ...]
    head: Part
    image: tuple[int, int] | None = None  # height, width in pixels; None: whichever its user deploys it at

    def digest(self) -> str:
        """The network's identity: 16 hexadecimal digits, equal exactly for equal resolved architectures."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and mappings, for JSON and for the study."""
        image = {"image": list(self.image)} if self.image else {}
        return {"stages": [_stage_to_dict(stage) for stage in self.stages], "head": _part_to_dict(self.head), **image}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Arch":
        """The inverse of `to_dict`."""
        stages = tuple(_stage_from_dict(stage) for stage in data["stages"])
        height, width = data.get("image") or (0, 0)
        return cls(stages, _part_from_dict(data["head"]), (height, width) if height else None)

    @property
    def maps(self) -> tuple[Map, ...]:
        """The pyramid that the head is given, finest first."""
        return self.stages[-1].maps if self.stages else (IMAGE,)


def inputs_of(arch: Arch, index: int) -> tuple[Map, ...]:
    """The pyramid that enters stage `index`."""
    return arch.stages[index - 1].maps if index else (IMAGE,)


def by_place(arch: Arch, figures: Mapping[str, float]) -> dict[str, float]:
    """Figures of parts, by their path in the network, added up: links, branches of each stride, head.

    What is under the empty path lies between the parts: sums, activations, resizing of maps.
    """
    strides = sorted(
        {branch.stride for stage in arch.stages for branch in stage.branches if branch.depth or branch.norm}
    )
    sums = dict.fromkeys([*(f"branches at stride {stride}" for stride in strides), "links", "head"], 0.0)
    for path, figure in figures.items():
        place = _place(arch, path.split("."))
        sums[place] = sums.get(place, 0.0) + figure
    return sums


def _place(arch: Arch, path: list[str]) -> str:
    if path == [""]:
        return "between the parts"
    if path[0] == "head":
        return "head"
    if path[2] == "link":
        return "links"
    return f"branches at stride {arch.stages[int(path[1])].branches[int(path[3])].stride}"


def _part_to_dict(part: Part) -> dict[str, Any]:
    return {"kind": part.kind, **part.keywords()}


def _part_from_dict(data: Mapping[str, Any]) -> Part:
    return Part.of(data["kind"], {key: _frozen(value) for key, value in data.items() if key != "kind"})


def _stage_to_dict(stage: Stage) -> dict[str, Any]:
    branches = [
        asdict(branch) | {"block": _part_to_dict(branch.block) if branch.block else None} for branch in stage.branches
    ]
    return {"link": _part_to_dict(stage.link), "branches": branches}


def _stage_from_dict(data: Mapping[str, Any]) -> Stage:
    branches = (
        Branch(**{**branch, "block": _part_from_dict(branch["block"]) if branch["block"] else None})
        for branch in data["branches"]
    )
    return Stage(_part_from_dict(data["link"]), tuple(branches))


def _frozen(value: Any) -> Value:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
