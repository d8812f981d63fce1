"""What every registered link, block and head keeps; a new kind is tested by being registered."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from archs import flops_of, maps_of, params_of, pyramid, randomised
from torch import Tensor, nn

from hrsearch.arch import IMAGE, Map
from hrsearch.cost.onnx import onnx_of
from hrsearch.errors import InputError
from hrsearch.nets.link import InParts, Link
from hrsearch.nets.norm import DropPath
from hrsearch.plugins import load_plugins
from hrsearch.registry import BLOCKS, HEADS, LINKS

load_plugins([Path(__file__).parent / "plugin_block.py"])  # and those of `--plugin`

Maps = tuple[Map, ...]
Case = tuple[Callable[[], nn.Module], Maps, Maps | None]  # constructor, inputs, outputs (None: a prediction)

CHANNELS = 32
CLASSES = 5
ODD = (45, 77)  # pixels: odd at strides 4 and 8
PYRAMIDS: list[tuple[Maps, Maps]] = [
    ((IMAGE,), pyramid(16)),
    (pyramid(16), pyramid(24)),
    (pyramid(16), pyramid(24, stride=8)),
    (pyramid(16), pyramid(16, 32)),
    (pyramid(16, 32), pyramid(24, 32)),
    (pyramid(16, 32, 64, stride=8), pyramid(16, 32, 64, 96, stride=8)),
]


def possible(construct: Callable[[], nn.Module]) -> bool:
    """Whether the constructor takes these maps; it must refuse others with an InputError."""
    try:
        construct()
    except InputError:
        return False
    return True


def link_cases() -> Iterator[tuple[str, Case]]:
    for kind in LINKS:
        for number, (inputs, outputs) in enumerate(PYRAMIDS):

            def construct(kind: str = kind, inputs: Maps = inputs, outputs: Maps = outputs) -> nn.Module:
                link: Link = LINKS[kind](inputs, outputs)
                return link

            if possible(construct):
                yield f"{kind}-{number}", (construct, inputs, outputs)


def block_cases() -> Iterator[tuple[str, Case]]:
    for kind in BLOCKS:

        def construct(kind: str = kind) -> nn.Module:
            block: nn.Module = BLOCKS[kind](CHANNELS, CHANNELS, 0.0)
            return block

        yield kind, (construct, pyramid(CHANNELS), pyramid(CHANNELS))


def head_cases() -> Iterator[tuple[str, Case]]:
    for kind in HEADS:
        for inputs in (pyramid(16), pyramid(16, 32, 64, 128)):

            def construct(kind: str = kind, inputs: Maps = inputs) -> nn.Module:
                # A narrow head keeps the same contract as one of 512 channels, in a tenth of the time.
                narrow = {"width": CHANNELS} if isinstance(HEADS.options(kind).get("width"), int) else {}
                head: nn.Module = HEADS[kind](inputs, CLASSES, **narrow)
                return head

            if possible(construct):
                yield f"{kind}-{len(inputs)}", (construct, inputs, None)


CASES = dict([*link_cases(), *block_cases(), *head_cases()])
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
# The last case of a kind that does not have the pyramid of three branches: an export to ONNX takes a second or two.
ONE_OF_A_KIND = {name.partition("-")[0]: case for name, case in CASES.items() if not name.endswith("-5")}


def called(module: nn.Module, maps: list[Tensor]) -> list[Tensor]:
    """The module's outputs as a list; blocks take one tensor, links and heads a list."""
    out = module(maps) if isinstance(module, InParts) else module(maps[0])
    return out if isinstance(out, list) else [out]


def require_close(got: list[Tensor], wanted: list[Tensor]) -> None:
    for left, right in zip(got, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [*LINKS, *HEADS])
def test_every_kind_has_a_case(kind: str) -> None:
    assert any(name.startswith(f"{kind}-") for name in CASES)


@pytest.mark.parametrize("image", [(64, 96), ODD])
@each
def test_delivers_what_is_declared(case: Case, image: tuple[int, int]) -> None:
    construct, inputs, outputs = case
    module = construct().double()
    got = called(module, maps_of(inputs, image))
    if outputs is None:
        assert got[0].shape[:2] == (2, CLASSES)
        return
    delivered: Maps = getattr(module, "outputs", outputs)
    assert [each.shape for each in got] == [each.shape for each in maps_of(delivered, image)]
    if delivered != outputs:  # other channels are left to the branches' first blocks
        assert delivered == inputs
        assert [each.stride for each in inputs] == [each.stride for each in outputs]


@each
def test_gradient_reaches_every_parameter(case: Case) -> None:
    construct, inputs, _ = case
    module = randomised(construct())
    call = getattr(module, "predictions", None)  # with the auxiliary ones
    maps = [each.requires_grad_() for each in maps_of(inputs, ODD)]
    outputs = call(maps) if call else called(module, maps)
    torch.stack([(each * torch.randn_like(each)).sum() for each in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    without = [name for name, each in module.named_parameters() if each.grad is None or not each.grad.any()]
    assert not without


@each
def test_samples_do_not_mix_in_eval_mode(case: Case) -> None:
    construct, inputs, _ = case
    module = randomised(construct())
    maps = maps_of(inputs, ODD)
    both = called(module, maps)
    alone = called(module, [each[:1] for each in maps])
    require_close([each[:1] for each in both], alone)


@each
def test_memory_format_does_not_matter(case: Case) -> None:
    construct, inputs, _ = case
    module = randomised(construct())
    maps = maps_of(inputs, ODD)
    last = [each.contiguous(memory_format=torch.channels_last) for each in maps]
    require_close(called(module, last), called(module, maps))


@each
def test_lives_on_the_meta_device(case: Case) -> None:
    construct, inputs, _ = case
    with torch.device("meta"):
        module = construct().double()
    got = called(module, maps_of(inputs, ODD, device="meta"))
    wanted = called(construct().double(), maps_of(inputs, ODD))
    assert [each.shape for each in got] == [each.shape for each in wanted]


@each
def test_state_dict_round_trip(case: Case) -> None:
    construct, inputs, _ = case
    first, second = randomised(construct()), construct().double().eval()
    second.load_state_dict(first.state_dict())
    maps = maps_of(inputs, ODD)
    require_close(called(first, maps), called(second, maps))


@each
def test_exports(case: Case) -> None:
    construct, inputs, _ = case
    module = randomised(construct())
    maps = maps_of(inputs, ODD)
    arguments: tuple[Any, ...] = (maps,) if isinstance(module, InParts) else (maps[0],)
    exported = torch.export.export(module, arguments).module()
    out = exported(*arguments)
    require_close(out if isinstance(out, list) else [out], called(module, maps))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's exporter uses it
@pytest.mark.parametrize("kind", ONE_OF_A_KIND)
def test_exports_to_onnx(kind: str) -> None:
    """As a search's networks are, in float32."""
    construct, inputs, _ = ONE_OF_A_KIND[kind]
    module = randomised(construct()).float()
    maps = [each.float() for each in maps_of(inputs, ODD)]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # what it cannot fold is no error
    session = onnxruntime.InferenceSession(onnx_of(module, maps if isinstance(module, InParts) else maps[0]), options)
    names = [f"map{index}" for index in range(len(maps))] if isinstance(module, InParts) else ["image"]
    read = {each.name for each in session.get_inputs()}  # a head may leave maps out
    named = {name: tensor.numpy() for name, tensor in zip(names, maps, strict=True) if name in read}
    for got, wanted in zip(session.run(None, named), called(module, maps), strict=True):
        torch.testing.assert_close(torch.from_numpy(got), wanted, rtol=1e-4, atol=1e-4)


@each
def test_parts_add_up(case: Case) -> None:
    construct, inputs, _ = case
    with torch.device("meta"):
        module = construct().double().eval()
    if not isinstance(module, InParts):
        return
    maps = maps_of(inputs, ODD, batch=1, device="meta")
    sizes = [(each.shape[2], each.shape[3]) for each in maps]
    params, flops = 0, 0
    for piece in module.parts(sizes):
        assert piece.module is module.get_submodule(piece.name)
        given = [torch.empty(shape, dtype=torch.float64, device="meta") for shape in piece.shapes]
        params += params_of(piece.module)
        flops += flops_of(lambda m=piece.module, x=given: m(x if isinstance(m, InParts) else x[0]))  # type: ignore[misc]
    assert params == params_of(module)
    assert flops == flops_of(lambda: called(module, maps))


@pytest.mark.parametrize("kind", list(BLOCKS))
def test_drop_path_is_off_in_eval_mode_and_on_in_training(kind: str) -> None:
    block = randomised(BLOCKS[kind](CHANNELS, CHANNELS, 0.9))
    drops = any(isinstance(module, DropPath) for module in block.modules())
    assert drops == getattr(BLOCKS[kind], "drops", True)
    if not drops:
        return
    plain = BLOCKS[kind](CHANNELS, CHANNELS, 0.0).double().eval()
    plain.load_state_dict(block.state_dict())
    (x,) = maps_of(pyramid(CHANNELS), ODD, batch=8)
    require_close([block(x)], [plain(x)])
    torch.manual_seed(0)
    kept = [not torch.equal(out, sample) for out, sample in zip(block.train()(x), x, strict=True)]
    assert any(kept)
    assert not all(kept)


@pytest.mark.parametrize("registry", [LINKS, BLOCKS, HEADS], ids=lambda registry: registry.what)
def test_every_option_has_a_default_of_plain_data(registry: Any) -> None:
    for kind in registry:
        for name, default in registry.options(kind).items():
            assert isinstance(default, int | float | str | bool | tuple), f"{kind}.{name}"
