"""Links, blocks and heads against slow twins, published parameter counts, and their errors."""

import math

import pytest
import torch
from archs import maps_of, params_of, pyramid, randomised
from torch import Tensor, nn

from hrsearch.arch import IMAGE, Map
from hrsearch.errors import InputError
from hrsearch.nets.hrvit import CrossAttention, KroneckerShortcut, MixedFeedForward
from hrsearch.nets.link import Link
from hrsearch.nets.norm import DropPath
from hrsearch.registry import BLOCKS, HEADS, LINKS

FINE, COARSE = pyramid(4, 8)


class Scale(nn.Module):
    """Multiplies by a number, and by a power of two in size."""

    def __init__(self, factor: float, size: int = 1) -> None:
        super().__init__()
        self.factor, self.size = factor, size

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x.repeat_interleave(self.size, -1).repeat_interleave(self.size, -2)


def test_a_link_sums_its_paths_then_acts_then_applies_what_comes_after() -> None:
    maps = pyramid(4, 4)
    paths = {(0, 0): nn.Identity(), (0, 1): Scale(10.0, size=2), (1, 1): Scale(-1.0)}
    link = Link(maps, maps, paths, nn.ReLU(), {0: Scale(100.0)})
    fine, coarse = link([torch.full((1, 4, 3, 5), 2.0), torch.full((1, 4, 2, 3), 3.0)])
    assert torch.equal(fine, torch.full((1, 4, 3, 5), 3200.0))  # 2 + 10 * 3, cropped to the odd size
    assert torch.equal(coarse, torch.zeros(1, 4, 2, 3))


def test_identity_paths_have_no_piece_and_no_parameters() -> None:
    link = Link([FINE], [FINE], {(0, 0): nn.Identity()})
    assert not list(link.parts([(8, 8)]))
    assert not list(link.parameters())


@pytest.mark.parametrize(
    ("module", "params"),
    [
        (lambda: LINKS["hr_stem"]([IMAGE], [Map(32, 4)]), 30_144),
        (lambda: LINKS["irds"]([Map(32, 4)], [Map(64, 8)], variant="a"), 70_144),
        (lambda: LINKS["irds"]([Map(128, 4)], [Map(320, 8)], variant="b"), 394_880),
        (lambda: BLOCKS["hr"](64, 64, ratio=6), 51_008),
        (lambda: BLOCKS["cross"](32, 32, window=1), 14_428),
        (lambda: BLOCKS["cross"](64, 64, window=2), 51_344),
        (lambda: BLOCKS["cross"](128, 128, window=7), 192_856),
        (lambda: BLOCKS["cross"](256, 256, window=7), 746_016),
    ],
)
def test_parameters_of_parts(module: object, params: int) -> None:
    assert callable(module)
    assert params_of(module()) == params


# The last three cut uneven strips. 96 channels at 32 a head are the odd number of heads of the released networks,
# 16 channels at 32 a head a map narrower than a head.
@pytest.mark.parametrize(
    ("channels", "head_dim", "window", "size"),
    [(32, 32, 2, (4, 6)), (64, 16, 3, (6, 3)), (64, 32, 3, (5, 7)), (96, 32, 2, (5, 3)), (16, 32, 7, (4, 5))],
)
def test_cross_attention_is_its_slow_twin(channels: int, head_dim: int, window: int, size: tuple[int, int]) -> None:
    attention = randomised(CrossAttention(channels, window, head_dim))
    assert isinstance(attention, CrossAttention)
    tokens = torch.randn(2, *size, channels, dtype=torch.float64)
    torch.testing.assert_close(attention(tokens), slow_attention(attention, tokens, head_dim), rtol=1e-9, atol=1e-12)


def slow_attention(attention: CrossAttention, tokens: Tensor, head_dim: int) -> Tensor:
    """Cross-shaped attention from its definition: every token asks the tokens of its own strip."""
    channels, window = attention.channels, attention.window
    query, value = attention.query_value(tokens).split(channels, -1)
    heads = max(channels // head_dim, 1)
    per_half, nominal = max(heads // 2, 1), min(channels // heads, channels // 2)
    wide = channels // 2 // per_half
    crossed = torch.zeros_like(query)
    for place in range(0, channels, wide):
        axis = 1 if place < channels // 2 else 2
        strip = torch.arange(tokens.shape[axis]) // window
        strip = strip[:, None].expand(tokens.shape[1:3]) if axis == 1 else strip[None].expand(tokens.shape[1:3])
        q, v = (each[..., place : place + wide].flatten(1, 2) for each in (query, value))
        logits = q @ v.transpose(1, 2) * nominal**-0.5
        same = strip.flatten()[:, None] == strip.flatten()[None]
        weights = logits.masked_fill(~same, -math.inf).softmax(-1)
        crossed[..., place : place + wide] = (weights @ v).unflatten(1, tokens.shape[1:3])
    local = attention.local(nn.functional.hardswish(value).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    mixed = attention.output(nn.functional.hardswish(crossed + local))
    normed: Tensor = attention.norm(mixed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return normed


@pytest.mark.parametrize(
    ("channels", "left", "right"), [(32, 4, 8), (48, 6, 8), (240, 15, 16), (512, 16, 32), (6, 3, 2)]
)
def test_kronecker_shortcut_is_its_slow_twin(channels: int, left: int, right: int) -> None:
    shortcut = randomised(KroneckerShortcut(channels))
    assert isinstance(shortcut, KroneckerShortcut)
    assert (shortcut.left.in_features, shortcut.right.in_features) == (left, right)
    tokens = torch.randn(2, 3, 4, channels, dtype=torch.float64)
    matrix = tokens.reshape(2, 3, 4, left, right)
    mixed = nn.functional.gelu(torch.einsum("...ab,cb->...ac", matrix, shortcut.right.weight) + shortcut.right.bias)
    wanted = torch.einsum("...ab,ca->...cb", mixed, shortcut.left.weight) + shortcut.left.bias[:, None]
    torch.testing.assert_close(shortcut(tokens), wanted.reshape(tokens.shape))


def test_mixed_feed_forward_sees_a_pixel_two_away_with_half_of_its_channels() -> None:
    feed = randomised(MixedFeedForward(8, 2.0))
    tokens = torch.zeros(1, 7, 7, 8, dtype=torch.float64, requires_grad=True)
    for channels, reach in ((slice(0, 8), 1), (slice(8, 16), 2)):
        assert isinstance(feed, MixedFeedForward)
        hidden = feed.expand(tokens).permute(0, 3, 1, 2)[:, channels]
        out = (feed.conv3 if reach == 1 else feed.conv5)(hidden)
        (gradient,) = torch.autograd.grad(out[0, :, 3, 3].sum(), tokens)
        assert gradient.abs().sum(-1)[0, 3].nonzero().flatten().tolist() == list(range(3 - reach, 4 + reach))


def test_the_attention_of_a_new_block_is_off() -> None:
    attention = CrossAttention(32, 7, 32)
    assert not attention(torch.randn(2, 5, 5, 32)).any()


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3)
    out = DropPath(0.25).train()(x)
    assert set(out.flatten().tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert torch.equal(out.amax((1, 2)), out.amin((1, 2)))
    assert out.mean().item() == pytest.approx(1.0, abs=0.03)


def test_segformer_takes_any_number_of_maps_and_answers_at_the_finest() -> None:
    for channels in ((16,), (16, 32), (16, 32, 64, 128, 256)):
        described = pyramid(*channels)
        head = HEADS["segformer"](described, 7, width=24).double()
        assert head(maps_of(described, (50, 70))).shape == (2, 7, 13, 18)


def test_options_change_the_text_of_a_block() -> None:
    texts = {
        repr(BLOCKS["cross"](64, 64, window=window, head_dim=head_dim, ratio=ratio))
        for window in (2, 7)
        for head_dim in (16, 32)
        for ratio in (2, 4.0)
    }
    assert len(texts) == 8


@pytest.mark.parametrize(
    ("construct", "message"),
    [
        (lambda: BLOCKS["cross"](32, 64), "block 'cross': it keeps its channels, but got 32 -> 64"),
        (lambda: BLOCKS["cross"](32, 32, window=0), "block 'cross': window >= 1 must hold, but got 0"),
        (lambda: BLOCKS["cross"](16, 16, head_dim=0), "block 'cross': head_dim >= 1 must hold, but got 0"),
        (lambda: BLOCKS["cross"](80, 80, head_dim=24), "must hold, but got channels=80, head_dim=24"),
        (lambda: BLOCKS["cross"](112, 112, head_dim=32), "must hold, but got channels=112, head_dim=32"),
        (lambda: BLOCKS["cross"](100, 100, head_dim=25), "8 must divide channels of 100 (Kronecker shortcut)"),
        (lambda: BLOCKS["cross"](36, 36, head_dim=18), "8 must divide channels of 36 (Kronecker shortcut)"),
        (lambda: BLOCKS["cross"](32, 32, ratio=0.04), "channels * ratio must be even, but got 32 * 0.04 = 1"),
        (lambda: BLOCKS["hr"](32, 16), "block 'hr': it keeps its channels, but got 32 -> 16"),
        (lambda: LINKS["hrvit"](pyramid(8), pyramid(8, 16, 32)), "must grow by 0 or 1, but got 1 to 3"),
        (lambda: LINKS["hrvit"](pyramid(8, 16), pyramid(8)), "must grow by 0 or 1, but got 2 to 1"),
        (lambda: LINKS["hrvit"](pyramid(8), pyramid(8, stride=8)), "strides must be [4], but got [8]"),
        (lambda: LINKS["conv_stem"]([IMAGE], [Map(16, 8)]), "must grow by a factor of 4, but got 1 to 8"),
        (lambda: LINKS["conv_stem"]([IMAGE], [Map(15, 4)]), "give hidden > 0, or even channels"),
        (lambda: LINKS["hr_stem"](pyramid(8, 16), [Map(16, 4)]), "it leads one map to one map, but got 2 to 1"),
        (
            lambda: LINKS["irds"](pyramid(8), [Map(16, 8)], variant="c"),
            "variant 'c' does not exist; choose from a, b, plain",
        ),
        (lambda: HEADS["classify_hr"](pyramid(8, 16), 10), "head 'classify_hr': it needs 4 maps, but got 2"),
        (lambda: HEADS["segformer"](pyramid(8), 10, width=0), "width >= 1 must hold, but got 0"),
    ],
)
def test_errors_state_the_law_and_the_values(construct: object, message: str) -> None:
    assert callable(construct)
    with pytest.raises(InputError) as error:
        construct()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
