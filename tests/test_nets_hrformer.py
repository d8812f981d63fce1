"""Parts of HRNet and HRFormer against slow twins, and the schedule of their drop path."""

import pytest
import torch
import torch.nn.functional as F
from archs import maps_of, params_of, part, pyramid, randomised
from torch import Tensor, nn

from hrsearch.arch import Arch, Branch, Map, Stage
from hrsearch.build import build, drop_path_rates, pieces, widths_of
from hrsearch.cost import cost
from hrsearch.errors import InputError
from hrsearch.nets.hrformer import WindowAttention
from hrsearch.nets.hrnet import UPSAMPLINGS, Exchange
from hrsearch.nets.link import Link
from hrsearch.nets.norm import DropPath
from hrsearch.nets.ocr import ObjectContext
from hrsearch.registry import BLOCKS, HEADS, LINKS
from hrsearch.space import load_arch

STEM = Stage(part(LINKS, "conv_stem", hidden=8, bias=False), (Branch(8, 4),))
FIRST = Stage(part(LINKS, "keep"), (Branch(16, 4, 2, part(BLOCKS, "bottleneck")),))
WINDOW = part(BLOCKS, "window", window=3, head_dim=8, ratio=2.0)


def row(*channels: int, kind: str = "hrformer", depth: int = 1) -> Stage:
    """A row of window blocks."""
    block = WINDOW if depth else None
    branches = tuple(Branch(each.channels, each.stride, depth, block) for each in pyramid(*channels))
    return Stage(part(LINKS, kind), branches)


# Windows that divide the map, that do not, of even side, larger than the map; heads of another width than asked for.
@pytest.mark.parametrize(
    ("channels", "head_dim", "window", "size"),
    [(32, 16, 2, (4, 6)), (18, 18, 7, (9, 15)), (24, 8, 4, (5, 7)), (16, 4, 9, (5, 4)), (48, 32, 3, (4, 4))],
)
@pytest.mark.parametrize("position", [True, False])
def test_window_attention_is_its_slow_twin(
    channels: int, head_dim: int, window: int, size: tuple[int, int], position: bool
) -> None:
    attention = randomised(WindowAttention(channels, window, head_dim, position))
    assert isinstance(attention, WindowAttention)
    tokens = torch.randn(2, *size, channels, dtype=torch.float64)
    torch.testing.assert_close(attention(tokens), slow_attention(attention, tokens), rtol=1e-9, atol=1e-12)


def slow_attention(attention: WindowAttention, tokens: Tensor) -> Tensor:
    """Window attention from its definition: every pixel asks the pixels of its window, padding among them."""
    batch, height, width, channels = tokens.shape
    side, heads = attention.window, attention.heads
    top, left = (-height % side) // 2, (-width % side) // 2
    padded = tokens.new_zeros(batch, height + -height % side, width + -width % side, channels)
    padded[:, top : top + height, left : left + width] = tokens
    query, key, value = attention.query_key_value(padded).unflatten(-1, (3, heads, channels // heads)).unbind(-3)
    out = torch.zeros_like(query)
    for i in range(padded.shape[1]):
        for j in range(padded.shape[2]):
            rows, columns = (slice(at - at % side, at - at % side + side) for at in (i, j))
            near = key[:, rows, columns].flatten(1, 2)
            logits = torch.einsum("bhd,blhd->bhl", query[:, i, j], near) * (channels // heads) ** -0.5
            if attention.position is not None:
                logits = logits + torch.stack([bias(attention, i % side - r, j % side - c) for r, c in cells(side)], -1)
            out[:, i, j] = torch.einsum("bhl,blhd->bhd", logits.softmax(-1), value[:, rows, columns].flatten(1, 2))
    whole: Tensor = attention.output(out.flatten(3))
    return whole[:, top : top + height, left : left + width]


def cells(side: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(side) for column in range(side)]


def bias(attention: WindowAttention, down: int, across: int) -> Tensor:
    """Of each head, for a query so far below and to the right of the key."""
    assert attention.position is not None
    side = attention.window
    return attention.position.table[(down + side - 1) * (2 * side - 1) + across + side - 1]


@pytest.mark.parametrize(
    ("channels", "head_dim", "window", "ratio", "heads"),
    [(18, 18, 7, 4.0, 1), (64, 32, 7, 4.0, 2), (312, 39, 15, 4.0, 8), (30, 10, 4, 2.55, 3)],
)
def test_parameters_of_a_window_block(channels: int, head_dim: int, window: int, ratio: float, heads: int) -> None:
    block = BLOCKS["window"](channels, channels, window=window, head_dim=head_dim, ratio=ratio)
    hidden = int(channels * ratio)
    table = (2 * window - 1) ** 2 * heads
    assert params_of(block) == 4 * channels**2 + 11 * channels + 2 * channels * hidden + 15 * hidden + table
    plain = BLOCKS["window"](
        channels, channels, window=window, head_dim=head_dim, ratio=ratio, kernel=0, position=False
    )
    assert params_of(block) - params_of(plain) == table + 12 * hidden


@pytest.mark.parametrize("image", [(64, 96), (193, 260)])
@pytest.mark.parametrize("upsample", UPSAMPLINGS)
@pytest.mark.parametrize("kind", ["hrnet", "hrformer"])
def test_fusion_is_its_slow_twin(kind: str, upsample: str, image: tuple[int, int]) -> None:
    described = pyramid(4, 6, 10)
    link = randomised(LINKS[kind](described, described, upsample=upsample))
    maps = maps_of(described, image)
    assert isinstance(link, Exchange)
    for i, got in enumerate(link(maps)):
        size = maps[i].shape[-2:]
        terms = [enlarged(path(link.fuse, i, j, maps[j]), upsample, 2 ** (j - i), size) for j in range(3)]
        torch.testing.assert_close(got, F.relu(terms[0] + terms[1] + terms[2]), rtol=1e-12, atol=1e-12)


def path(fuse: Link, i: int, j: int, x: Tensor) -> Tensor:
    """The convolutions of a path, its upsampling left out."""
    for module in fuse.paths[f"{i}_{j}"].modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.ReLU):
            x = module(x)
    return x


def enlarged(x: Tensor, upsample: str, scale: int, size: torch.Size) -> Tensor:
    if scale <= 1:
        return x
    if upsample == "nearest":
        return F.interpolate(x, scale_factor=scale, mode="nearest")[..., : size[0], : size[1]]
    if upsample == "nearest+bilinear":
        x = F.interpolate(x, scale_factor=scale, mode="nearest")
        return F.interpolate(x, list(size), mode="bilinear", align_corners=True)
    if upsample == "bilinear":
        x = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
        return F.interpolate(x, list(size), mode="bilinear", align_corners=False)
    return F.interpolate(x, list(size), mode="bilinear", align_corners=upsample == "resize_aligned")


def test_a_path_down_ends_without_activation() -> None:
    link = LINKS["hrformer"](pyramid(4, 6, 10), pyramid(4, 6, 10))
    down = link.fuse.paths["2_0"]
    kinds = [type(module).__name__ for unit in down for module in unit]
    assert kinds == [*["Conv2d", "BatchNorm2d"] * 2, "ReLU", *["Conv2d", "BatchNorm2d"] * 2]
    assert [each.groups for each in convolutions(down)] == [4, 1, 4, 1]


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [each for each in module.modules() if isinstance(each, nn.Conv2d)]


def test_a_single_map_is_not_fused_and_new_branches_start_from_the_coarsest() -> None:
    link = randomised(LINKS["hrnet"](pyramid(4), pyramid(4, 6, 8)))
    assert isinstance(link, Exchange)
    (x,) = maps_of(pyramid(4), (40, 40))
    same, half, quarter = link([x])
    assert torch.equal(same, x)
    torch.testing.assert_close(half, link.grow.paths["1_0"](x))
    assert quarter.shape == (2, 8, 3, 3)
    assert [each.in_channels for each in convolutions(link.grow.paths["2_0"])] == [4, 4]


def test_fewer_outputs_leave_the_other_sums_out() -> None:
    whole, one = LINKS["hrnet"](pyramid(4, 8), pyramid(4, 8)), LINKS["hrnet"](pyramid(4, 8), pyramid(4))
    assert set(one.state_dict()) == {key for key in whole.state_dict() if ".0_" in key}


def test_bottlenecks_widen_in_their_first_block_and_are_counted_so() -> None:
    arch = Arch((STEM, FIRST, row(16, 24)), part(HEADS, "fcn"))
    network = build(arch, classes=3)
    first, second = network.stages[1].get_submodule("branches.0").children()
    assert [convolutions(block)[0].in_channels for block in (first, second)] == [8, 16]
    assert network(torch.randn(2, 3, 45, 61)).shape == (2, 3, 12, 16)
    counted = cost(arch, (45, 61), 3)
    assert counted.params == params_of(network)
    assert counted.params_by_part.keys() >= {piece.name for piece in pieces(network, (45, 61))}


@pytest.mark.parametrize(
    ("delivered", "message"),
    [
        ((Map(8, 8),), "link 'keep' delivers (Map(channels=8, stride=8),), but the branches need"),
        ((Map(8, 4), Map(8, 8)), "but the branches need"),
        ((Map(8, 4),), "link 'keep' delivers 8 channels, but a branch without blocks needs 16"),
    ],
)
def test_a_link_must_lead_to_its_branches(delivered: tuple[Map, ...], message: str) -> None:
    stage = Stage(part(LINKS, "keep"), (Branch(16, 4),))
    with pytest.raises(InputError) as error:
        widths_of(stage, delivered)
    assert message in str(error.value)


def test_drop_path_is_that_of_the_release() -> None:
    """Step l of T has l * rate / (T - 1), counted over the blocks of the finest branch; the first stage has none."""
    arch = load_arch("hrformer_t", task="classify")
    rates = drop_path_rates(arch, 0.22)
    steps = [0.02 * step for step in range(12)]
    assert [len(each) for each in rates] == [0, 0, 2, 2, 2, 2, 2, 2, 0]
    assert [rate for each in rates for rate in each] == pytest.approx(steps)
    network = build(arch, drop_path=0.22)
    dropped = {name: each.rate for name, each in network.named_modules() if isinstance(each, DropPath)}
    assert not any(name.startswith("stages.1.") for name in dropped)
    assert dropped["stages.7.branches.3.0.drop_path"] == pytest.approx(0.2)


def test_blocks_that_do_not_drop_do_not_shorten_the_others_schedule() -> None:
    first, second = Branch(8, 4, 3, part(BLOCKS, "basic")), Branch(16, 8, 2, WINDOW)
    mixed = Arch((STEM, Stage(part(LINKS, "hrnet"), (first, second))), part(HEADS, "fcn"))
    assert drop_path_rates(mixed, 0.4) == [[], [0.0, 0.4]]
    assert len(build(mixed, drop_path=0.4).stages[1].get_submodule("branches.0")) == 3  # type: ignore[arg-type]


def test_a_high_resolution_transformer_exports_at_odd_sizes() -> None:
    arch = Arch((STEM, FIRST, row(16, 24), row(16, 24, depth=0)), part(HEADS, "ocr", width=16))
    network = build(arch, classes=3).eval()
    image = torch.randn(1, 3, 45, 77)
    torch.testing.assert_close(torch.export.export(network, (image,)).module()(image), network(image))


@pytest.mark.parametrize("variant", ["v2", "v3", "hrnet"])
def test_object_context_is_its_slow_twin(variant: str) -> None:
    described = pyramid(4, 8)
    head = randomised(HEADS["ocr"](described, 3, variant=variant, width=6))
    assert isinstance(head, ObjectContext)
    maps = maps_of(described, (20, 36))
    whole = torch.cat([maps[0], F.interpolate(maps[1], (5, 9), mode="bilinear", align_corners=True)], dim=1)
    aux, pixels = head.aux_classifier(head.coarse(whole)), head.pixels(whole)
    share = aux.flatten(2).softmax(-1)
    regions = torch.stack([(pixels.flatten(2) * share[:, k : k + 1]).sum(-1) for k in range(3)], dim=-1)[..., None]
    logits = torch.einsum("bcn,bck->bnk", head.query(pixels).flatten(2), head.key(regions).flatten(2)) * 3**-0.5
    context = torch.einsum("bnk,bck->bcn", logits.softmax(-1), head.value(regions).flatten(2)).reshape(2, -1, 5, 9)
    wanted = head.classifier(head.fuse(torch.cat([head.up(context), pixels], dim=1)))
    for got, twin in zip(head.predictions(maps), [wanted, aux], strict=True):
        torch.testing.assert_close(got, twin, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(head(maps), wanted, rtol=1e-9, atol=1e-12)


def test_training_asks_for_the_auxiliary_predictions() -> None:
    image = torch.randn(2, 3, 64, 64)
    for kind, strides in (("ocr", [4, 4]), ("uper", [4, 4]), ("fcn", [4])):
        options = {"width": 8} if kind != "fcn" else {}
        network = build(Arch((STEM, FIRST, row(16, 24)), part(HEADS, kind, **options)), classes=3).eval()
        predictions = network.predictions(image)
        assert [64 // each.shape[-1] for each in predictions] == strides
        torch.testing.assert_close(predictions[0], network(image))


@pytest.mark.parametrize(
    ("construct", "message"),
    [
        (lambda: LINKS["hrnet"](pyramid(8), pyramid(8), upsample="cubic"), "upsample 'cubic' does not exist"),
        (lambda: LINKS["hrformer"](pyramid(8), pyramid(8, stride=8)), "strides must be [4], but got [8]"),
        (
            lambda: LINKS["keep"](pyramid(8), pyramid(8, 16)),
            "link 'keep': it keeps the strides, but got 8/4 -> 8/4 16/8",
        ),
        (lambda: BLOCKS["window"](32, 64), "block 'window': it keeps its channels, but got 32 -> 64"),
        (lambda: BLOCKS["window"](32, 32, window=0), "block 'window': window >= 1 must hold, but got 0"),
        (lambda: BLOCKS["window"](32, 32, head_dim=0), "block 'window': head_dim >= 1 must hold, but got 0"),
        (lambda: BLOCKS["window"](80, 80, head_dim=24), "must hold, but got channels=80, head_dim=24"),
        (lambda: BLOCKS["window"](32, 32, ratio=0.01), "channels * ratio >= 1 must hold, but got 32 * 0.01"),
        (lambda: BLOCKS["window"](32, 32, kernel=4), "kernel must be odd, or 0 for none, but got 4"),
        (lambda: BLOCKS["basic"](32, 64), "block 'basic': it keeps its channels, but got 32 -> 64"),
        (lambda: BLOCKS["separable"](32, 64), "block 'separable': it keeps its channels, but got 32 -> 64"),
        (lambda: BLOCKS["bottleneck"](32, 30), "expansion must divide channels, but got 4 and 30"),
        (lambda: HEADS["ocr"](pyramid(8), 3, variant="v4"), "variant 'v4' does not exist; choose from v2, v3, hrnet"),
        (lambda: HEADS["ocr"](pyramid(8), 3, width=7), "head 'ocr': width must be even, but got 7"),
        (lambda: HEADS["uper"](pyramid(8), 3, pools=(0,)), "pools >= 1 must hold, but got 512 and [0]"),
    ],
)
def test_errors_state_the_law_and_the_values(construct: object, message: str) -> None:
    assert callable(construct)
    with pytest.raises(InputError) as error:
        construct()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
