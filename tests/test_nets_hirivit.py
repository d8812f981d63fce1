"""HIRI-ViT and its ablation path: the fitted integers, the paper's own figures, and parts against slow twins.

tests/golden/hirivit.json holds what was fitted and what was published.
"""

import json
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from archs import maps_of, params_of, part, pyramid, randomised
from recipe import piece_flops
from torch import Tensor, nn

from hrsearch.arch import IMAGE, Arch, Branch, Map, Stage
from hrsearch.build import Network, build, pieces
from hrsearch.cost import cost
from hrsearch.errors import InputError
from hrsearch.nets.transformer import ATTENTIONS, FEEDS, GlobalAttention
from hrsearch.registry import BLOCKS, HEADS, LINKS
from hrsearch.space import Space, load_arch

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "hirivit.json").read_text())
NETWORKS: dict[str, dict[str, Any]] = {
    **{f"hirivit_{size}": golden for size, golden in GOLDEN["networks"].items()},
    **{f"mvit_{size}": golden["four_stage"] for size, golden in GOLDEN["networks"].items()},
}
SIZES = [(name, int(size)) for name, golden in NETWORKS.items() for size in golden["macs_g"]]

# Rows 1 to 10 of the paper's ablation: from M-ViT, a relative of PVT, to HIRI-ViT-S, one option or two at a time.
PATH = """
knobs:
  stem:      [vit_stem, deep_stem, hr_stem]
  stages:    [4, 5]
  attention: [true, false]                   # in the first two of four stages, with reduced keys and values
  feed:      [ffn, cffn]
  norm:      [layer, batch]                  # of the first stages and in front of every feed-forward
  early:     [plain, a]
  late:      [plain, b]
  hr:        [false, true]                   # two-branch blocks instead of feed-forwards
net:
  blocks:
    first:  {kind: transformer, reduction: 4, feed: $feed, norm: $norm}
    second: {kind: transformer, reduction: 2, feed: $feed, norm: $norm}
    global: {kind: transformer, feed: $feed, norm: $norm}
    feed:   {kind: cffn, ratio: 6, norm: $norm}
  stages:
    - {when: $stem == 'vit_stem', link: {kind: vit_stem, norm: $norm}, channels: 64, stride: 4}
    - {when: $stem == 'deep_stem', link: {kind: deep_stem, hidden: 32}, channels: 32 * (6 - $stages), stride: 4}
    - {when: $stem == 'hr_stem', link: {kind: hr_stem, hidden: 32}, channels: 32, stride: 4}
    - {when: $stages == 5 and not $hr, link: keep, depth: 1, block: {kind: cffn, ratio: 4}}
    - {when: $stages == 5 and $hr, link: keep, depth: 2, block: {kind: hr, ratio: 4}}
    - {when: $stages == 5, link: {kind: irds, variant: a}, channels: 64, stride: 8}
    - {when: not $hr and $attention, link: keep, depth: 1, block: first}
    - {when: not $hr and not $attention, link: keep, depth: 1, block: feed}
    - {when: $hr, link: keep, depth: 2, block: {kind: hr, ratio: 6}}
    - {link: {kind: irds, variant: $early, norm: $norm}, channels: 128, stride: 8 * ($stages - 3)}
    - {when: not $hr and $attention, link: keep, depth: 4, block: second}
    - {when: $hr or not $attention, link: keep, depth: 4, block: feed}
    - {link: {kind: irds, variant: $late, norm: $norm}, channels: 320, stride: 16 * ($stages - 3)}
    - {link: keep, depth: 9, block: global}
    - {link: {kind: irds, variant: $late, norm: $norm}, channels: 512, stride: 32 * ($stages - 3)}
    - {link: keep, depth: 4, block: global}
  head: classify_norm
"""
Setting = dict[str, Any]
CHANGES: list[Setting] = [
    {"stem": "vit_stem", "stages": 4, "attention": True, "feed": "ffn", "norm": "layer", "image": 224}
    | {"early": "plain", "late": "plain", "hr": False},
    {"feed": "cffn"},
    {"attention": False},
    {"norm": "batch"},
    {"stem": "deep_stem"},
    {"early": "a", "late": "b"},
    {"image": 448},
    {"stages": 5},
    {"stem": "hr_stem"},
    {"hr": True},
]


def changed(before: Setting, change: Setting) -> Setting:
    return before | change


ROWS = {str(number): setting for number, setting in enumerate(accumulate(CHANGES, changed), start=1)}


@cache
def hollow(arch: Arch, classes: int = 1000) -> Network:
    """The network on the meta device, for counting."""
    with torch.device("meta"):
        return build(arch, classes).eval()


def counted(arch: Arch, side: int) -> tuple[float, float]:
    """FLOPs in G, rounded to three places, and parameters in M, rounded to two."""
    network = hollow(arch)
    flops = sum(map(piece_flops, pieces(network, (side, side))))
    return round(flops / 1e9, 3), round(params_of(network) / 1e6, 2)


def row(number: str) -> tuple[Arch, int]:
    """The network of a row of the ablation, and the side of its image."""
    setting = dict(ROWS[number])
    side = setting.pop("image")
    return Space.parse("task: classify\n" + PATH).arch(setting), side


@pytest.mark.parametrize(
    ("name", "side", "key"),
    [(name, 448, "macs_448") for name in NETWORKS if "hirivit" in name]
    + [(name, 224, "macs_224") for name in NETWORKS if "mvit" in name],
)
def test_networks_to_the_integer(name: str, side: int, key: str) -> None:
    """By the command's counter; traces some seconds in all."""
    counts = cost(load_arch(name), (side, side), 1000)
    assert (counts.params, counts.flops) == (NETWORKS[name]["params"], NETWORKS[name][key])


@pytest.mark.parametrize(("name", "side"), SIZES)
def test_networks_at_other_resolutions(name: str, side: int) -> None:
    assert counted(load_arch(name), side)[0] == NETWORKS[name]["macs_g"][str(side)]


@pytest.mark.parametrize("number", ROWS)
def test_a_row_of_the_ablation(number: str) -> None:
    assert counted(*row(number)) == tuple(GOLDEN["rows"][number])


def test_the_papers_own_figures() -> None:
    published = GOLDEN["published"]
    found = {number: counted(*row(number))[0] for number in published["rows_gflops"]}
    assert found == pytest.approx(published["rows_gflops"], rel=0.01)
    assert counted(load_arch("hirivit_b"), 448)[0] == pytest.approx(published["hirivit_b_448"], rel=0.01)
    assert counted(load_arch("mvit_b"), 224)[0] == pytest.approx(published["mvit_b_224"], rel=0.01)
    costs = [counted(*row(number)) for number in ROWS]
    assert costs[1] > costs[2]  # without attention in the first stages both FLOPs and parameters decrease (row 3)
    assert 21.5 > costs[7][0] > 5.1  # five stages


@pytest.mark.parametrize(("number", "name"), [("6", "mvit_s"), ("10", "hirivit_s")])
def test_the_ablation_ends_in_the_published_networks(number: str, name: str) -> None:
    """Layer by layer: the same shapes in the same order."""
    shapes = [[each.shape for each in hollow(arch).parameters()] for arch in (row(number)[0], load_arch(name))]
    assert shapes[0] == shapes[1]


def sequential(
    kinds: list[str], channels: list[int], depths: list[int], ratios: list[int], stem: str, **irds: Any
) -> Arch:
    """A network like S in these sizes: kinds HR, F (feed-forward) and T, downsampling a, b, b or a, a, b, b."""
    blocks = {"HR": "hr", "F": "cffn", "T": "transformer"}
    links = [part(LINKS, stem, hidden=32)]
    links += [part(LINKS, "irds", variant=variant, **irds) for variant in "aabb"[-len(kinds) + 1 :]]
    rows = zip(links, kinds, channels, depths, ratios, strict=True)
    stages = (
        Stage(link, (Branch(width, 4 * 2**index, depth, part(BLOCKS, blocks[kind], ratio=float(ratio))),))
        for index, (link, kind, width, depth, ratio) in enumerate(rows)
    )
    return Arch(tuple(stages), part(HEADS, "classify_norm"))


@pytest.mark.parametrize("kinds", GOLDEN["kinds"])
def test_other_kinds_of_blocks_per_stage(kinds: str) -> None:
    arch = sequential(kinds.split(","), [32, 64, 128, 320, 512], [2, 2, 4, 9, 4], [4, 6, 6, 4, 4], "hr_stem")
    assert counted(arch, 448)[0] == GOLDEN["kinds"][kinds]


@pytest.mark.parametrize("golden", GOLDEN["alternatives"])
def test_sizes_that_fit_as_well(golden: dict[str, Any]) -> None:
    """A smaller expansion beside a convolution as the shortcut."""
    channels, depths, ratios = golden["channels"], golden["blocks"], golden["ratios"]
    fewer = [depths[0] // 2, depths[1] // 2, *depths[2:]]
    irds = {"expansion": 4, "shortcut": "conv"}
    four = sequential(list("FFTT"), channels[1:], fewer[1:], ratios[1:], "deep_stem", **irds)
    plain = sequential(list("FFFTT"), channels, fewer, ratios, "hr_stem", **irds)
    last = sequential(["HR", "HR", "F", "T", "T"], channels, depths, ratios, "hr_stem", **irds)
    found = [counted(arch, side)[0] for arch, side in ((four, 224), (four, 448), (plain, 448), (last, 448))]
    assert found == golden["rows_6_7_9_10"]
    assert counted(last, 448)[1] == pytest.approx(golden["params_m"], abs=0.05)


# PVTv2-B2 (Wang et al., 2022) and HIRI-ViT's lift of it to five stages need no Python of their own.
PVT = """
task: classify
knobs:
  stages: [4, 5]
  early: [plain, a]
  late: [plain, b]
  norm: [layer, batch]
net:
  blocks:
    first:  {kind: transformer, head_dim: 64, reduction: 8, ratio: 8, norm: layer}
    second: {kind: transformer, head_dim: 64, reduction: 4, ratio: 8, norm: layer}
    third:  {kind: transformer, head_dim: 64, reduction: 2, ratio: 4, norm: layer}
    fourth: {kind: transformer, head_dim: 64, ratio: 4, norm: layer}
  stages:
    - {when: $stages == 4, link: vit_stem, channels: 64, stride: 4, depth: 3, block: first, norm: layer}
    - {when: $stages == 5, link: hr_stem, channels: 32, stride: 4, depth: 2, block: {kind: hr, ratio: 4}}
    - {when: $stages == 5, link: {kind: irds, variant: $early}, channels: 64, stride: 8}
    - {when: $stages == 5, link: keep, depth: 6, block: {kind: hr, ratio: 8}}
    - {link: {kind: irds, variant: $early, norm: $norm}, channels: 128, stride: 8 * ($stages - 3)}
    - {link: keep, depth: 4, block: second, norm: layer}
    - {link: {kind: irds, variant: $late, norm: $norm}, channels: 320, stride: 16 * ($stages - 3)}
    - {link: keep, depth: 6, block: third, norm: layer}
    - {link: {kind: irds, variant: $late, norm: $norm}, channels: 512, stride: 32 * ($stages - 3)}
    - {link: keep, depth: 3, block: fourth, norm: layer}
  head: classify
"""


UNLIFTED: Setting = {"stages": 4, "early": "plain", "late": "plain", "norm": "layer"}
PLAIN: Setting = {"stages": 5, "early": "plain", "late": "plain", "norm": "batch"}
LIFTED: Setting = {"stages": 5, "early": "a", "late": "b", "norm": "batch"}


@pytest.mark.parametrize(
    ("setting", "side", "key"),
    [
        (UNLIFTED, 224, "224"),
        (UNLIFTED, 448, "448_unlifted"),
        (PLAIN, 448, "448_lifted_plain"),
        (LIFTED, 448, "448_lifted_irds"),
    ],
)
def test_pvt_and_its_lift(setting: Setting, side: int, key: str) -> None:
    flops, params = counted(Space.parse(PVT).arch(setting), side)
    assert flops == GOLDEN["pvtv2_b2"][key]
    assert setting is not UNLIFTED or params == GOLDEN["pvtv2_b2"]["params_m"]


@pytest.mark.parametrize(
    ("module", "params"),
    [
        (lambda: LINKS["deep_stem"]([IMAGE], [Map(64, 4)], hidden=32), 38_048),
        (lambda: LINKS["vit_stem"]([IMAGE], [Map(64, 4)]), 9_600),
        (lambda: LINKS["irds"](pyramid(32, 64), [*pyramid(32, 64), Map(96, 16)]), 265_152),
        (lambda: BLOCKS["cffn"](128, 128, ratio=6), 205_440),
        (lambda: BLOCKS["transformer"](320, 320), 1_245_760),
    ],
)
def test_parameters_of_parts(module: Any, params: int) -> None:
    assert params_of(module()) == params


# The middle ones leave a remainder; 48 channels at 32 a head are one head.
@pytest.mark.parametrize(
    ("channels", "head_dim", "reduction", "size"), [(32, 16, 1, (3, 5)), (32, 8, 2, (5, 6)), (48, 32, 4, (6, 3))]
)
def test_global_attention_is_its_slow_twin(channels: int, head_dim: int, reduction: int, size: tuple[int, int]) -> None:
    attention = randomised(GlobalAttention(channels, head_dim, reduction))
    assert isinstance(attention, GlobalAttention)
    tokens = torch.randn(2, *size, channels, dtype=torch.float64)
    torch.testing.assert_close(attention(tokens), slow_attention(attention, tokens), rtol=1e-9, atol=1e-12)


def slow_attention(attention: GlobalAttention, tokens: Tensor) -> Tensor:
    """Global attention from its definition: every pixel asks every patch."""
    patches = tokens.flatten(1, 2)
    if attention.reduce is not None:
        conv, norm = attention.reduce
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        assert isinstance(norm, nn.LayerNorm)
        side = attention.reduction
        rows = [tokens[:, top : top + side] for top in range(0, tokens.shape[1], side)]
        cells = [row[:, :, left : left + side] for row in rows for left in range(0, tokens.shape[2], side)]
        summed = [
            torch.einsum("bhwc,dchw->bd", cell, conv.weight[..., : cell.shape[1], : cell.shape[2]]) for cell in cells
        ]
        patches = nn.LayerNorm.forward(norm, torch.stack(summed, 1) + conv.bias)
    heads = (attention.heads, attention.channels // attention.heads)
    query = attention.query(tokens).flatten(1, 2).unflatten(-1, heads)
    key, value = attention.key_value(patches).unflatten(-1, (2, *heads)).unbind(2)
    weights = (torch.einsum("blhd,bmhd->bhlm", query, key) * heads[1] ** -0.5).softmax(-1)
    out: Tensor = attention.output(torch.einsum("bhlm,bmhd->blhd", weights, value).reshape(tokens.shape))
    return out


def test_with_strips_a_shortcut_and_two_convolutions_it_is_the_block_of_hrvit() -> None:
    wanted = randomised(BLOCKS["cross"](32, 32, window=2, head_dim=16, ratio=2.0))
    options = {"window": 2, "head_dim": 16, "shortcut": True, "feed": "mixcfn", "ratio": 2.0, "norm": "layer"}
    block = BLOCKS["transformer"](32, 32, attention="cross", **options).double().eval()
    block.load_state_dict({key.replace("feed.", "feed.module."): value for key, value in wanted.state_dict().items()})
    (x,) = maps_of(pyramid(32), (45, 77))
    torch.testing.assert_close(block(x), wanted(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_attention_goes_with_every_feed_forward(attention: str, feed: str) -> None:
    options = {"attention": attention, "feed": feed, "head_dim": 16, "window": 3, "reduction": 2, "norm": "layer"}
    block = randomised(BLOCKS["transformer"](32, 32, 0.5, **options))
    (x,) = maps_of(pyramid(32), (45, 77))
    out = block(x)
    assert out.shape == x.shape
    torch.testing.assert_close(block(x[:1]), out[:1])
    torch.testing.assert_close(torch.export.export(block, (x,)).module()(x), out)


def test_downsampling_keeps_the_maps_that_it_is_asked_for() -> None:
    maps = pyramid(8, 16, 24)
    given = maps_of(maps, (45, 77))
    for count in range(4):
        outputs = (*maps[3 - count :], Map(32, 32))
        got = LINKS["irds"](maps, outputs).double()(given)
        assert len(got) == count + 1
        assert all(kept is one for kept, one in zip(got, given[3 - count :], strict=False))
        assert got[-1].shape == (2, 32, 2, 3)


def test_the_pyramid_of_five_stages_begins_at_stride_eight() -> None:
    network = hollow(load_arch("hirivit_s", task="segment"), 5)
    assert (network.strides, network.channels) == ((8, 16, 32, 64), (64, 128, 320, 512))
    assert hollow(load_arch("mvit_s", task="segment"), 5).strides == (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("construct", "message"),
    [
        (lambda: BLOCKS["cffn"](32, 64), "block 'cffn': it keeps its channels, but got 32 -> 64"),
        (lambda: BLOCKS["cffn"](32, 32, norm="layr"), "norm 'layr' does not exist; did you mean 'layer'"),
        (lambda: BLOCKS["cffn"](32, 32, ratio=0.01), "channels * ratio >= 1 must hold, but got 32 * 0.01"),
        (lambda: BLOCKS["transformer"](32, 16), "block 'transformer': it keeps its channels, but got 32 -> 16"),
        (lambda: BLOCKS["transformer"](80, 80, head_dim=24), "must hold, but got channels=80, head_dim=24"),
        (lambda: BLOCKS["transformer"](32, 32, reduction=0), "must hold, but got reduction=0, head_dim=32"),
        (lambda: BLOCKS["transformer"](32, 32, feed="cfn"), "feed 'cfn' does not exist; did you mean"),
        (lambda: BLOCKS["transformer"](32, 32, attention="glob"), "attention 'glob' does not exist; did you mean"),
        (lambda: LINKS["deep_stem"]([IMAGE], [Map(16, 4)], middle=-1), "hidden=0, channels=16, middle=-1"),
        (lambda: LINKS["vit_stem"](pyramid(8), [Map(16, 8)]), "must grow by a factor of 4, but got 4 to 8"),
        (lambda: LINKS["irds"](pyramid(8), [Map(16, 16)]), "must grow by a factor of 2, but got 4 to 16"),
        (lambda: LINKS["irds"](pyramid(8), pyramid(12, 16)), "all outputs but the last must be the coarsest inputs"),
        (lambda: LINKS["irds"](pyramid(8), [Map(16, 8)], shortcut="pol"), "shortcut 'pol' does not exist; did you"),
        (lambda: LINKS["irds"](pyramid(8), [Map(16, 8)], expansion=0), "expansion >= 1 must hold, but got 0"),
    ],
)
def test_errors_state_the_law_and_the_values(construct: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        construct()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
