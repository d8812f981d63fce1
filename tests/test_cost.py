import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.cost import cost, measure
from hrsearch.cost.flops import _Counter, _piece, count_module, size_at
from hrsearch.cost.timer import interval
from hrsearch.errors import InputError
from hrsearch.nets.link import Piece
from hrsearch.objective import parse_limit, readable
from hrsearch.registry import ENGINES
from hrsearch.space import Space, load_arch, load_space

# From the reference counts of the released networks: classifier at 224, backbone at 512.
PUBLISHED = [("hrvit_b1", 19_685_152, 2_775_573_440), ("hrvit_b2", 32_486_408, 5_288_290_304)]


def flops_of(arch: Arch, image: tuple[int, int], classes: int) -> float:
    with torch.device("meta"):
        network = build(arch, classes=classes).eval()
        example = torch.zeros(1, 3, *image)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(example)
    return float(counter.get_total_flops()) / 2


@pytest.mark.parametrize(("name", "params", "flops"), PUBLISHED)
def test_published_networks_to_the_integer(name: str, params: int, flops: int) -> None:
    counted = cost(load_arch(name), (224, 224), 1000)
    assert (counted.params, counted.flops) == (params, flops)


@pytest.mark.long
@pytest.mark.parametrize(("name", "count"), [("hrvit", 6), ("hrformer", 2), ("hrnet", 2), ("hirivit", 3), ("mixed", 3)])
def test_the_sum_of_parts_is_the_whole_for_drawn_networks(name: str, count: int) -> None:
    """Takes some seconds because the other side builds and runs each whole network."""
    space = load_space(name)
    for seed in range(count):
        arch = space.sample(seed)[1]
        image = (100, 130)  # sides that no stride divides
        counted = cost(arch, image, 11)
        assert counted.flops == flops_of(arch, image, 11), seed
        assert sum(counted.flops_by_part.values()) == counted.flops
        assert sum(counted.params_by_part.values()) == counted.params


class Merges(nn.Module):
    """Normalises `width` channels, which come last then, and joins neighbours, which needs them side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.merge = nn.LayerNorm(width), nn.Linear(4 * 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 8, 4, 4) -> (B, 4, 3)"""
        merged: Tensor = self.merge(self.norm(x.permute(0, 2, 3, 1)).view(len(x), 4, -1))
        return merged


def test_what_a_norm_delivers_is_what_it_would_deliver() -> None:
    """In the same order in memory, and not at all where it is as wide as something else."""
    assert count_module(Merges(8), [(2, 8, 4, 4)]) == 2 * 4 * 32 * 3
    with pytest.raises(RuntimeError, match="normalized_shape"):
        count_module(Merges(16), [(2, 8, 4, 4)])


def layouts() -> dict[str, Tensor]:
    """(2, 4, 6, 4) in every order in memory that networks have, and what is broadcast to it."""
    plain = torch.empty(2, 4, 6, 4, device="meta")
    return {
        "plain": plain,
        "turned": torch.empty(2, 6, 4, 4, device="meta").permute(0, 2, 1, 3),
        "channels last": plain.to(memory_format=torch.channels_last),
        "rows": torch.empty(6, 4, device="meta"),
        "channels": torch.empty(1, 4, 1, 1, device="meta"),
        "double": plain.double(),
    }


@pytest.mark.parametrize("first", [name for name in layouts() if name != "rows"])
def test_what_torch_is_not_asked_is_what_it_would_say(first: str) -> None:
    """Sizes, order in memory and type; asked by itself it would load its compiler. Tensors with values keep these."""
    one = layouts()[first]
    calls: list[tuple[str, Callable[[], Tensor]]] = [
        ("mean", lambda: one.mean((2, 3))),
        ("kept mean", lambda: one.mean(1, keepdim=True)),
        (
            "linear",
            lambda: nn.functional.linear(one[0, 0], one.new_empty(7, one.shape[3]), one.new_empty(7)),
        ),
        ("resize", lambda: nn.functional.interpolate(one, (9, 5), mode="bilinear")),
        ("corners", lambda: nn.functional.interpolate(one, (9, 5), mode="bilinear", align_corners=True)),
        ("more", lambda: one + 1),
    ]
    for second, other in layouts().items():
        calls += [
            (f"{second} added", partial(torch.add, one, other)),
            (f"times {second}", partial(torch.mul, one, other)),
        ]
        if one.shape == other.shape:
            calls += [(f"{second} at {dim}", partial(torch.cat, [one, other], dim=dim)) for dim in (0, 1, -1)]
    for name, call in calls:
        said = call()
        with _Counter():
            found = call()
        assert (found.shape, found.stride(), found.dtype) == (said.shape, said.stride(), said.dtype), name


def test_values_are_torchs() -> None:
    """A module may compute its sizes, of tensors that are not on the meta device."""
    one, other = torch.tensor([2.0, 4.0]), torch.tensor([3.0, 5.0])
    calls: list[Callable[[], Tensor]] = [
        lambda: one + other,
        lambda: one * other,
        lambda: one.mean(0),
        lambda: torch.cat([one, other]),
        lambda: nn.functional.gelu(one),
        lambda: torch.addmm(one, torch.eye(2), torch.ones(2, 2)),
        lambda: nn.functional.layer_norm(one, (2,)),
    ]
    for call in calls:
        said = call()
        with torch.no_grad(), _Counter():
            assert torch.equal(call(), said)


class Raw(nn.Module):
    """Multiplies by what no submodule holds, and as often as a list says."""

    def __init__(self, width: int, times: list[int]) -> None:
        super().__init__()
        self.weight, self.times = nn.Parameter(torch.randn(width, 8)), times

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x @ self.weight.t() for _ in self.times]


def test_tensors_and_lists_of_a_module_tell_it_from_others() -> None:
    counted = [
        _piece(Piece("", Raw(width, times), ((2, 8),)))[1]
        for width, times in ((4, [1]), (16, [1]), (16, [1, 2, 3]), (4, [1]))
    ]
    assert counted == [2 * 8 * 4, 2 * 8 * 16, 3 * 2 * 8 * 16, 2 * 8 * 4]


def test_what_torch_refuses_is_refused() -> None:
    one, other = torch.empty(2, 3, device="meta"), torch.empty(2, 2, device="meta")
    wrong: list[Callable[[], Tensor]] = [
        lambda: one + other,
        lambda: torch.cat([one, other]),
        lambda: nn.functional.linear(one, other),
        lambda: torch.addmm(torch.empty(5, device="meta"), other, one),
        lambda: torch.cat([one, one], dim=2),
        lambda: torch.cat([one, torch.ones(2, 3)]),
        lambda: one.long().mean(1),
        lambda: nn.functional.layer_norm(one, (3,), weight=other[0]),
    ]
    for call in wrong:
        with pytest.raises((RuntimeError, IndexError)), _Counter():
            call()


def test_counting_does_not_load_the_compiler() -> None:
    """Which would take longer than to count, in every command that tells FLOPs."""
    names = ["hrvit_b1", "hrvit_b1_uper", "hrformer_t", "hrformer_b_pose", "hirivit_s", "hrnet_w48_ocr"]
    script = (
        "import sys; from hrsearch.cost import cost; from hrsearch.space import load_arch\n"
        f"for name in {names}: assert cost(load_arch(name), (64, 64)).flops\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_costs_are_the_same_in_inference_mode() -> None:
    """Where torch takes convolutions, linear layers and attention to pieces no more."""
    attention = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        attention.to("meta").train()(torch.empty(1, 5, 16, device="meta"))
    with torch.inference_mode():
        counted = [count_module(each, [(1, 5, 16)]) for each in (attention, nn.Linear(16, 3))]
        counted.append(count_module(nn.Conv2d(1, 4, 3), [(1, 1, 5, 16)]))
    assert counted == [counter.get_total_flops() // 2, 5 * 16 * 3, 3 * 14 * 4 * 9]


@pytest.mark.long
def test_another_counter_says_the_same() -> None:
    """fvcore, which traces; taught attention and to leave out what is not counted. A second or two each."""
    for name in ("hrvit", "hrformer", "hirivit"):
        arch = load_space(name).sample(2)[1]
        analysis = FlopCountAnalysis(build(arch, classes=7).eval(), torch.zeros(1, 3, 64, 64))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        analysis.set_op_handle("aten::scaled_dot_product_attention", attention_flops)
        counted = analysis.by_operator()
        products = ("conv", "linear", "matmul", "bmm", "scaled_dot_product_attention")
        assert sum(counted[operator] for operator in products) == cost(arch, (64, 64), 7).flops, name


def attention_flops(inputs: Any, outputs: Any) -> int:
    """Both products of attention: query (..., L, D), key (..., S, D) and value (..., S, E)."""
    query, key, value = (each.type().sizes() for each in inputs[:3])
    *batch, length, width = query
    products: int = torch.Size(batch).numel() * length * key[-2] * (width + value[-1])
    return products


def test_counting_shares_no_module_with_networks() -> None:
    """Paths that links share while they are counted belong to no network that is built afterwards."""
    arch = load_space("hrnet").sample(0)[1]
    cost(arch, (64, 64), 7)
    first, second = build(arch, classes=7), build(arch, classes=7)
    assert not {id(each) for each in first.modules()} & {id(each) for each in second.modules()}
    assert not any(tensor.is_meta for tensor in first.state_dict().values())


@pytest.mark.parametrize("name", ["hrnet", "hrformer", "hirivit", "mixed"])
def test_params_are_those_of_the_built_network(name: str) -> None:
    arch = load_space(name).sample(5)[1]
    with torch.device("meta"):
        network = build(arch, classes=7)
    counted = cost(arch, (64, 64), 7)
    assert counted.params == sum(parameter.numel() for parameter in network.parameters())
    for place, params in counted.params_by_part.items():
        assert params == sum(p.numel() for p in network.get_submodule(place).parameters()), place


def test_attention_is_counted_and_norms_are_not() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert count_module(Attention(), [(2, 3, 10, 8)]) == 2 * 3 * 2 * 10 * 10 * 8
    assert count_module(nn.Sequential(nn.BatchNorm2d(4), nn.Upsample(scale_factor=2)), [(1, 4, 8, 8)]) == 0
    assert count_module(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 6)), [(5, 4)]) == 5 * 4 * 6


def test_a_warm_count_takes_milliseconds() -> None:
    arch = load_arch("hrvit_b1")
    cost(arch, (224, 224), 1000)
    start = time.perf_counter()
    cost(arch, (224, 224), 1000)
    assert time.perf_counter() - start < 1.0  # milliseconds here; a second only fails if the memory is lost


def test_a_size_may_be_a_list() -> None:
    """As YAML and JSON have it."""
    arch = load_arch("hrvit_b1")
    assert cost(arch, [64, 96]) == cost(arch, (64, 96))


def test_sizes_round_up() -> None:
    assert size_at((126, 93), 4) == (32, 24)


def test_an_impossible_network_is_an_input_error() -> None:
    text = load_space("hrvit").text.replace("head_dim: $head_dim", "head_dim: 24").replace("  head_dim: [16, 32]", "")
    arch = next(
        arch
        for setting, arch in map(Space.parse(text).sample, range(100))
        if setting["width3"] == 128  # five heads of 24 do not divide it
    )
    with pytest.raises(InputError, match="channels=128, head_dim=24"):
        cost(arch, (64, 64), 3)


def test_a_measurement_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    latency = measure(network, (64, 96), batch=2, seconds=0.3)
    assert latency.image == (64, 96)
    assert 0 < latency.low_ms <= latency.median_ms <= latency.high_ms
    assert latency.runs >= 5
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_an_unknown_engine_is_an_input_error() -> None:
    with pytest.raises(InputError, match="did you mean 'eager'"):
        measure(nn.Identity(), engine="eagr")
    assert set(ENGINES) >= {"eager", "cuda"}


def test_the_interval_holds_the_median_of_the_source() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2000, 15, generator=generator)
    inside = sum(low <= 0 <= high for low, high in (interval(row.tolist()) for row in samples))
    assert inside / 2000 > 0.95


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("flops=5G", "flops<=5G"),
        ("latency<=30ms", "latency<=30ms"),
        ("score=0.3", "score>=0.3"),
        ("params=1e7", "params<=10M"),
        ("flops=0.2504G", "flops<=250.4M"),
        ("flops=1.1G", "flops<=1.1G"),
        ("params<=999600", "params<=999.6k"),
        ("latency<=1234.5", "latency<=1234.5ms"),
        ("memory=1.5GB", "memory<=1.5GB"),
    ],
)
def test_a_limit_reads_and_shows(text: str, shown: str) -> None:
    assert str(parse_limit(text)) == shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("speed=3", "objective 'speed' does not exist; choose from"),
        ("flop=3G", "did you mean 'flops'"),
        ("flops", "cannot be read"),
        ("flops=3X", "'X' is no unit of flops; its units are k, K, M, G"),
        ("flops=30ms", "'ms' is no unit of flops"),
        ("latency<=80GB", "'GB' is no unit of latency; its units are ms, s"),
        ("params=2s", "'s' is no unit of params"),
        ("score>=1k", "'k' is no unit of score; write a number from 0 to 1"),
        ("score>=40", "a score is a number from 0 to 1, so none keeps that"),
        ("flops=0", "must be positive"),
        ("flops=1.2.3", "is no number"),
    ],
)
def test_a_wrong_limit_says_what_would_work(text: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        parse_limit(text)
    assert words in str(error.value)


def test_an_option_that_no_submodule_shows_is_counted() -> None:
    """As a plug-in may have one: a module's text leaves it out."""

    class Squared(nn.Module):
        def __init__(self, window: int) -> None:
            super().__init__()
            self.window = window

        def forward(self, x: Tensor) -> Tensor:
            part = x[..., : self.window, : self.window].flatten(2)
            return part @ part.transpose(1, 2)

    counted = [_piece(Piece("", Squared(window), ((1, 8, 16, 16),)))[1] for window in (2, 4)]
    assert counted == [8 * 8 * 4, 8 * 8 * 16]


def test_readable() -> None:
    assert [readable(value) for value in (5.01e9, 12.34e6, 999, 0.123)] == ["5.01G", "12.3M", "999", "0.123"]
    assert [readable(value) for value in (999_896_768, 999_600, 999.4e6)] == ["1G", "1M", "999M"]
    assert [readable(value, "ms") for value in (41.23, 1234.5)] == ["41.2ms", "1234ms"]
    assert str(parse_limit("latency<=2s")) == "latency<=2e+03ms"  # as studies have it
