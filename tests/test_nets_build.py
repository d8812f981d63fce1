"""Networks built from architectures."""

import copy

import pytest
import torch
from archs import maps_of, params_of, part, pyramid

from hrsearch.arch import Arch, Branch, Stage
from hrsearch.build import NetworkStage, build, drop_path_rates, pieces
from hrsearch.errors import InputError
from hrsearch.nets.norm import DropPath
from hrsearch.registry import BLOCKS, HEADS, LINKS
from hrsearch.space import load_arch

FINE = part(BLOCKS, "cross", window=1, head_dim=16)
COARSE = part(BLOCKS, "cross", window=3, head_dim=16, ratio=2.0)
PLAIN = Stage(part(LINKS, "conv_stem"), (Branch(16, 4),))
GROWN = Stage(part(LINKS, "hrvit"), (Branch(16, 4, 1, FINE, "layer"), Branch(32, 8, 3, COARSE, "batch")))
SMALL = Arch((PLAIN, GROWN, GROWN), part(HEADS, "segformer", width=24))

# HIRI-ViT's lift: a stage of two-branch blocks at stride 4, then the family's own rows from stride 8 on.
LIFTED = Arch(
    (
        Stage(part(LINKS, "hr_stem"), (Branch(8, 4, 2, part(BLOCKS, "hr")),)),
        Stage(part(LINKS, "irds"), (Branch(16, 8),)),
        Stage(part(LINKS, "hrvit"), (Branch(16, 8, 1, FINE, "layer"), Branch(32, 16, 1, COARSE, "layer"))),
    ),
    part(HEADS, "classify"),
)


def test_the_pyramid_is_as_described() -> None:
    network = build(SMALL, classes=5)
    maps = network.pyramid(torch.randn(1, 3, 45, 77))
    assert network.channels == (16, 32)
    assert network.strides == (4, 8)
    assert [tuple(each.shape) for each in maps] == [tuple(each.shape) for each in maps_of(SMALL.maps, (45, 77), 1)]
    assert network.head(maps).shape == (1, 5, 12, 20)


def test_a_lifted_network_starts_at_stride_eight() -> None:
    network = build(LIFTED, classes=5)
    assert network.strides == (8, 16)
    assert network(torch.randn(2, 3, 50, 70)).shape == (2, 5)


def test_stages_branches_and_norms_are_in_their_places() -> None:
    stage = build(SMALL).stages[1]
    assert isinstance(stage, NetworkStage)
    names = [[type(module).__name__ for module in branch.children()] for branch in stage.branches]
    assert names == [["CrossBlock", "ChannelNorm"], ["CrossBlock", "CrossBlock", "CrossBlock", "BatchNorm2d"]]


def test_drop_path_rises_linearly_and_shallow_branches_take_the_low_end() -> None:
    rates = drop_path_rates(SMALL, 0.5)
    assert rates == [[], pytest.approx([0.0, 0.1, 0.2]), pytest.approx([0.3, 0.4, 0.5])]
    dropped = {
        name: module.rate
        for name, module in build(SMALL, drop_path=0.5).named_modules()
        if isinstance(module, DropPath)
    }
    assert dropped["stages.2.branches.0.0.drop_path"] == pytest.approx(0.3)
    assert dropped["stages.2.branches.1.2.drop_path"] == pytest.approx(0.5)


def test_drop_path_of_a_single_block_is_zero() -> None:
    one = Arch((PLAIN, Stage(part(LINKS, "hrvit"), (Branch(16, 4, 1, FINE),))), part(HEADS, "classify"))
    assert drop_path_rates(one, 0.5) == [[], [0.0]]


@pytest.mark.parametrize("arch", [SMALL, LIFTED], ids=["small", "lifted"])
def test_pieces_hold_every_parameter_and_the_shapes_that_run(arch: Arch) -> None:
    network = build(arch, classes=5).eval()
    seen: dict[str, tuple[tuple[int, ...], ...]] = {}

    def note(name: str) -> None:
        def hook(module: torch.nn.Module, arguments: tuple[torch.Tensor | list[torch.Tensor], ...]) -> None:
            maps = arguments[0] if isinstance(arguments[0], list) else [arguments[0]]
            seen[name] = tuple(tuple(each.shape) for each in maps)

        network.get_submodule(name).register_forward_pre_hook(hook)

    listed = list(pieces(network, (45, 77), batch=2))
    for piece in listed:
        note(piece.name)
    network(torch.randn(2, 3, 45, 77))
    assert seen == {piece.name: piece.shapes for piece in listed}
    assert sum(params_of(piece.module) for piece in listed) == params_of(network)


def test_channels_last_and_contiguous_images_agree() -> None:
    network = build(SMALL, classes=5).double().eval()
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(network(image), network(image.contiguous(memory_format=torch.channels_last)))


def test_training_changes_every_weight() -> None:
    torch.manual_seed(0)
    network = build(SMALL, classes=5, drop_path=0.1)
    before = copy.deepcopy(network.state_dict())
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):  # the attention's zero norm lets gradients through from the second step on
        optimiser.zero_grad()
        network(torch.randn(4, 3, 64, 64)).square().mean().backward()
        optimiser.step()
    after = network.state_dict()
    # A bias in front of a batch norm has no effect, so only matrices and kernels must have moved.
    unchanged = [name for name, value in before.items() if value.ndim > 1 and torch.equal(value, after[name])]
    assert not unchanged


def test_a_network_exports() -> None:
    network = build(SMALL, classes=5).eval()
    image = torch.randn(1, 3, 45, 77)
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), network(image))


def test_published_networks_build_for_each_task_without_memory() -> None:
    for task in ("classify", "segment"):
        with torch.device("meta"):
            network = build(load_arch("hrvit_b1", task=task), classes=19)
        assert network.channels == (32, 64, 128, 256)
        assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage(part(LINKS, "hrvit"), (Branch(16, 4, 1, None),)), "stages[1]: a branch with depth > 0 needs a block"),
        (
            Stage(part(LINKS, "hrvit"), (Branch(16, 4, norm="layr"),)),
            "stages[1]: norm 'layr' does not exist; did you mean",
        ),
        (
            Stage(part(LINKS, "hrvit"), (Branch(18, 4, 1, FINE),)),
            "stages[1]: block 'cross': 4 must divide channels of 18",
        ),
        (
            Stage(part(LINKS, "hrvit"), tuple(Branch(16, 4 * 2**i) for i in range(3))),
            "stages[1]: link 'hrvit': the number",
        ),
    ],
)
def test_errors_name_the_stage(stage: Stage, message: str) -> None:
    with pytest.raises(InputError) as error:
        build(Arch((PLAIN, stage), part(HEADS, "classify")))
    assert str(error.value).startswith(message)


def test_pyramid_helper_doubles_strides() -> None:
    assert [each.stride for each in pyramid(1, 2, 3, stride=8)] == [8, 16, 32]


def test_half_precision_trains() -> None:
    network = build(SMALL, classes=5)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(2, 3, 45, 77))
    assert logits.dtype is torch.bfloat16
    logits.float().square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
