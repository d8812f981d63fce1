"""The export `standalone`: the network as one readable file of Python that needs torch alone, and its weights."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrsearch.arch import IMAGE, Arch, Branch, Map, Part, Value
from hrsearch.export.source import Extractor, Place
from hrsearch.export.target import Target
from hrsearch.export.winner import Winner
from hrsearch.registry import BLOCKS, EXPORTS, HEADS, LINKS

if TYPE_CHECKING:
    from hrsearch.build import Network

MODEL, WEIGHTS = "model.py", "weights.pt"
WIDTH = 120
OWN_NAMES = ("Network", "load", "Path", "partial", "torch", "nn", "Tensor")  # of the text below

FILE = '''\
"""{title}: a network that needs torch alone.

Cut by hrsearch (Apache-2.0) out of its own source: what this network is made of, and no more. Shape letters: B batch,
C channels, H height and W width of a map.

    network = load()  # the trained weights beside this file
    prediction = network(images)
    maps = network.pyramid(images)
"""

{imports}

{definitions}

class Network(nn.Module):
    """Images (B, 3, H, W) -> the head's prediction.

    `channels` and `strides` describe the pyramid, finest first.
    """

    channels = {channels}
    strides = {strides}

    def __init__(self, classes: int = {classes}) -> None:
        super().__init__()
{body}
        self.to(memory_format=torch.channels_last)

    def pyramid(self, image: Tensor) -> list[Tensor]:
        """The maps that the head is given, finest first: (B, C_i, H / stride_i, W / stride_i), rounded up."""
        maps = [image.contiguous(memory_format=torch.channels_last)]
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.pyramid(image))
{predictions}

def load(folder: str | Path = Path(__file__).parent) -> Network:
    """The network with the weights that lie in `folder`, in eval mode."""
    network = Network()
    network.load_state_dict(torch.load(Path(folder) / "weights.pt", map_location="cpu", weights_only=True))
    return network.eval()
'''
PREDICTIONS = '''
    def predictions(self, image: Tensor) -> list[Tensor]:
        """The prediction, then the auxiliary ones, which only training asks for."""
        return self.head.predictions(self.pyramid(image))
'''

# How the files of other formats find model.py: by its path, as two exports may be loaded by one program.
LOADER = """\

def _model() -> Any:
    spec = importlib.util.spec_from_file_location("hrsearch_{identifier}", Path(__file__).with_name("model.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODEL = _model()
"""


def standalone_outputs(folder: Path, image: Any) -> dict[str, Any]:
    """What model.py computes."""
    import torch

    network = import_module("model").load(folder)
    with torch.inference_mode():
        prediction, maps = network(torch.from_numpy(image)), network.pyramid(torch.from_numpy(image))
    return {"prediction": prediction.numpy()} | {f"map{index}": each.numpy() for index, each in enumerate(maps)}


@EXPORTS.add("standalone")
class Standalone(Target):
    """One file that needs torch alone."""

    tolerance = 1e-6
    outputs = staticmethod(standalone_outputs)

    def write(self, winner: Winner, folder: Path) -> str:
        """Write model.py and weights.pt."""
        import torch

        text = source_of(winner.network, winner.classes, winner.title_in_code)
        (folder / MODEL).write_text(text, encoding="utf-8")
        torch.save(dict(winner.network.state_dict()), folder / WEIGHTS)
        return USAGE.format(height=winner.image[0], width=winner.image[1])


USAGE = """\
`model.py` is the network as one file that needs torch alone, `weights.pt` its weights:

```python
import torch
from model import load

network = load()
with torch.inference_mode():
    prediction = network(torch.zeros(1, 3, {height}, {width}))
```

`network.pyramid(images)` gives the maps, finest first, `Network(classes=7)` the untrained network for other classes.
"""


def source_of(network: "Network", classes: int, title: str) -> str:
    """The text of model.py; an InputError where a part's source cannot be taken along. `title` is one plain line."""
    arch = network.arch
    extractor = Extractor(set(_words(arch)), reserved=OWN_NAMES)
    for thing in _things(arch):
        extractor.add(thing)
    used = {"torch": ("torch", None), "Tensor": ("torch", "Tensor"), "nn": ("torch", "nn"), "Path": ("pathlib", "Path")}
    if any(part.options for part in _blocks(arch)):
        used["partial"] = ("functools", "partial")
    extract = extractor.extract(used)
    return FILE.format(
        title=title,
        imports=extract.imports,
        definitions=extract.definitions,
        channels=_literal(tuple(each.channels for each in arch.maps)),
        strides=_literal(tuple(each.stride for each in arch.maps)),
        classes=classes,
        body="\n".join(_Body(network, extract.names).lines()),
        predictions=PREDICTIONS if hasattr(HEADS[arch.head.kind], "predictions") else "",
    )


def _blocks(arch: Arch) -> list[Part]:
    """The blocks, each once."""
    return list(dict.fromkeys(each.block for stage in arch.stages for each in stage.branches if each.block))


def _things(arch: Arch) -> Iterator[Callable[..., Any]]:
    """The constructors of all that the network consists of."""
    from hrsearch.build import NetworkStage
    from hrsearch.nets.norm import NORMS

    yield Map
    for stage in arch.stages:
        yield LINKS[stage.link.kind]
        for branch in stage.branches:
            yield from [BLOCKS[branch.block.kind]] if branch.block else []
            yield from [NORMS[branch.norm]] if branch.norm else []
    yield HEADS[arch.head.kind]
    yield NetworkStage


def _words(arch: Arch) -> Iterator[str]:
    """The options that are words: by them parts are looked up in tables."""
    parts = [arch.head, *(stage.link for stage in arch.stages), *_blocks(arch)]
    yield from (value for part in parts for value in part.keywords().values() if isinstance(value, str))


@dataclass(frozen=True)
class _Group:
    """Something in brackets: on one line where it fits, else an item per line."""

    before: str
    items: Sequence["_Group | str"]
    after: str

    def lines(self, indent: int, before: str = "", after: str = "") -> list[str]:
        whole = " " * indent + before + self.flat() + after
        if len(whole) <= WIDTH:
            return [whole]
        lines = [" " * indent + before + self.before]
        for item in self.items:
            if isinstance(item, str):
                lines.append(" " * (indent + 4) + item + ",")
            else:
                lines += item.lines(indent + 4, after=",")
        return [*lines, " " * indent + self.after + after]

    def flat(self) -> str:
        return (
            self.before + ", ".join(each if isinstance(each, str) else each.flat() for each in self.items) + self.after
        )


class _Body:
    """The constructor of a network, written out: `names` tells what each definition is called there."""

    def __init__(self, network: "Network", names: Mapping[Place, str]) -> None:
        self.network = network
        self.arch = arch = network.arch
        self.names = names
        self.blocks = {block: f"block{index}" for index, block in enumerate(_blocks(arch), start=1)}
        pyramids = dict.fromkeys(stage.maps for stage in arch.stages)
        self.pyramids = {(IMAGE,): "image"} | {maps: f"maps{index}" for index, maps in enumerate(pyramids, start=1)}

    def lines(self) -> Iterator[str]:
        """Its lines, behind the call of the parent's."""
        for block, name in self.blocks.items():
            if block.options:
                constructor = _Group("partial(", [self._name(BLOCKS[block.kind]), *_keywords(block)], ")")
                yield from constructor.lines(8, f"{name} = ")
        for maps, name in self.pyramids.items():
            each = [f"{self._name(Map)}(channels={one.channels}, stride={one.stride})" for one in maps]
            yield from _Group("[", each, "]").lines(8, f"{name} = ")
        yield from _Group("nn.ModuleList(", [_Group("[", list(self._stages()), "]")], ")").lines(8, "self.stages = ")
        head = [self.pyramids[self.arch.maps], "classes", *_keywords(self.arch.head)]
        yield from _Group(f"{self._name(HEADS[self.arch.head.kind])}(", head, ")").lines(8, "self.head = ")

    def _stages(self) -> Iterator[_Group]:
        from hrsearch.build import NetworkStage, widths_of

        for index, stage in enumerate(self.arch.stages):
            widths = widths_of(stage, self.network.stages[index].link.outputs)  # type: ignore[arg-type,union-attr]
            before = self.arch.stages[index - 1].maps if index else (IMAGE,)
            maps = [self.pyramids[before], self.pyramids[stage.maps]]
            link = _Group(f"{self._name(LINKS[stage.link.kind])}(", [*maps, *_keywords(stage.link)], ")")
            branches = [self._branch(branch, width) for branch, width in zip(stage.branches, widths, strict=True)]
            yield _Group(f"{self._name(NetworkStage)}(", [link, _Group("[", branches, "]")], ")")

    def _branch(self, branch: Branch, width: int) -> _Group:
        from hrsearch.nets.norm import NORMS

        items = []
        if branch.block:
            name = self.blocks[branch.block] if branch.block.options else self._name(BLOCKS[branch.block.kind])
            first = [f"{name}({width}, {branch.channels})"] if width != branch.channels else []
            rest, again = branch.depth - len(first), f"{name}({branch.channels}, {branch.channels})"
            items = [*first, *([again] * rest if rest < 3 else [f"*({again} for _ in range({rest}))"])]
        if branch.norm:
            items.append(f"{self._name(NORMS[branch.norm])}({branch.channels})")
        return _Group("nn.Sequential(", items, ")")

    def _name(self, thing: Callable[..., Any]) -> str:
        return self.names.get((thing.__module__, thing.__name__), f"nn.{thing.__name__}")


def _keywords(part: Part) -> list[str]:
    return [f"{name}={_literal(value)}" for name, value in part.options]


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
    return repr(value)
