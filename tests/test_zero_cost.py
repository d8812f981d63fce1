"""Zero-cost proxies against values worked out by hand, and on networks of all families."""

import math
from pathlib import Path

import pytest
import torch
from archs import part
from test_readme import SPACE
from torch import Tensor, nn

from hrsearch.api import search
from hrsearch.arch import Arch, Branch, Stage
from hrsearch.build import build
from hrsearch.candidate import seed_of
from hrsearch.errors import InputError
from hrsearch.evaluate import untrained
from hrsearch.proxy import proxy_data
from hrsearch.proxy.zero import Probe, naswot, probe_of, synflow, zico
from hrsearch.registry import BLOCKS, HEADS, LINKS, ZERO_COST
from hrsearch.runner import Proxy, Runner, load_runner

HEAD = part(HEADS, "segformer", width=16)


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer


def probe(*batches: list[list[float]]) -> Probe:
    return Probe(tuple(torch.tensor(batch) for batch in batches), lambda prediction, place: prediction.sum())


def test_synflow_by_hand() -> None:
    """Ones give 3 and 1 through |weights|, then 2 * 3 + 5 * 1 + 0.5 = 11.5.

    Each layer's weights carry all of what passes through it, 11 and the last bias its own 0.5: 11 + 11 + 0.5.
    """
    network = nn.Sequential(linear([[1.0, -2.0], [-1.0, 0.0]]), nn.ReLU(), linear([[-2.0, 5.0]], [-0.5]))
    assert synflow(network, probe([[7.0, 9.0]])) == pytest.approx(22.5)
    assert next(network.parameters())[0, 1].item() == -2.0  # the network is as it was


def test_naswot_by_hand() -> None:
    """Codes 110, 100 and 011 share 3 bits with themselves and 2, 1, 0 with each other."""
    network = nn.Sequential(nn.ReLU())
    images = [[1.0, 2.0, -1.0], [3.0, -1.0, -2.0], [-1.0, 1.0, 4.0]]
    kernel = torch.tensor([[3.0, 2.0, 1.0], [2.0, 3.0, 0.0], [1.0, 0.0, 3.0]])
    assert naswot(network, probe(images)) == pytest.approx(math.log(kernel.det()))
    assert naswot(nn.Sequential(nn.GELU()), probe(images)) == pytest.approx(math.log(kernel.det()))
    assert naswot(network, probe([images[0], images[0]])) == -math.inf


def test_naswot_adds_up_activations_that_functions_call() -> None:
    class Twice(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.gelu(images.relu_() - 1.5)

    kernel = torch.tensor([[4.0, 1.0], [1.0, 4.0]])  # codes 10 and 11, then 10 and 01
    assert naswot(Twice(), probe([[2.0, -1.0], [1.0, 2.0]])) == pytest.approx(math.log(kernel.det()))


def test_naswot_does_not_see_hardswish() -> None:
    images = probe([[2.0, -1.0], [1.0, 2.0]])
    assert naswot(nn.Sequential(nn.ReLU(), nn.Hardswish()), images) == naswot(nn.ReLU(), images)


def test_zico_by_hand() -> None:
    """Gradients over the two mini-batches: 1 and 3, -2 and 4 of the first layer's weights; 0 and 10 of the second's.

    The deviation of -2 and 4 is that of their sizes, 1, not their own, 3.
    """
    network = nn.Sequential(linear([[2.0, 1.0]]), linear([[1.0]]))
    expected = math.log(2 / 1 + 3 / 1) + math.log(5 / 5)
    assert zico(network, probe([[1.0, -2.0]], [[3.0, 4.0]])) == pytest.approx(expected)


def small(link: str, block: str) -> Arch:
    """A stem and two branches of one block each."""
    stem = Stage(part(LINKS, "conv_stem"), (Branch(16, 4, 0),))
    blocks = part(BLOCKS, block)
    return Arch((stem, Stage(part(LINKS, link), (Branch(16, 4, 1, blocks), Branch(16, 8, 1, blocks)))), HEAD)


@pytest.mark.parametrize(
    ("link", "block"), [("hrvit", "cross"), ("hrformer", "window"), ("hrnet", "basic"), ("hrvit", "hr")]
)
def test_every_family_has_a_value(link: str, block: str) -> None:
    proxy = Proxy(image=32, batch=4, steps=2, warmup=1, train_images=32, val_images=8)
    data = proxy_data(proxy, "segment")
    torch.manual_seed(0)
    network = build(small(link, block), classes=len(data.classes))
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    given = probe_of(data, proxy, seed=0)
    for kind in ZERO_COST:
        assert math.isfinite(ZERO_COST[kind](network, given)), kind
    assert all(torch.equal(before[name], tensor) for name, tensor in network.named_parameters())


def test_the_registry_names_what_there_is() -> None:
    assert list(ZERO_COST) == ["naswot", "synflow", "zico"]
    with pytest.raises(InputError, match="did you mean 'synflow'"):
        ZERO_COST["sinflow"]


SCREENED = """
proxy: {image: 32, batch: 8, steps: 9, rungs: [3], screen: synflow, warmup: 1, train_images: 64, val_images: 16}
measure: {image: [64, 64], seconds: 0.1}
search: {control: 0, eta: 3}
engine: {kind: inline}
"""


ASKED = """
proxy: {{image: 32, batch: 8, steps: 3, warmup: 1, train_images: 64, val_images: 16}}
measure: {{image: [64, 64], seconds: 0.1}}
search: {{draws: 3, zero_cost: {kind}}}
engine: {{kind: inline}}
"""


@pytest.mark.long
def test_a_screen_lets_few_of_the_untrained_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole road: the search, its report, and the trust card over all three rungs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runner.yaml").write_text(SCREENED)
    (tmp_path / "space.yaml").write_text(SPACE)
    study = search("space.yaml", "runner.yaml", 9, name="study")
    judged = [trial for trial in study.record.trials if trial.attributes.get("rungs")]
    assert [len(judged), sum(len(one.attributes["rungs"]) > 1 for one in judged), len(study.record.trained)] == [
        9,
        3,
        1,
    ]
    first = [trial.attributes["rungs"][0] for trial in judged]
    assert {(one["metric"], one["steps"], one["value"] + one["loss"]) for one in first} == {("synflow", 0, 0.0)}
    assert len({one["value"] for one in first}) > 1
    assert bool((study.trials["score"].dropna() <= 1).all())  # what synflow says is no score
    assert "0 (synflow)" in study.report().read_text(encoding="utf-8")
    card = study.calibrate(5, times=2)
    assert card.proxy[0].name == "synflow, untrained (rung 0)"


@pytest.mark.parametrize("kind", ["synflow", "naswot"])
def test_a_search_asks_it_of_every_draw(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is what the proxy says of the network with the weights that a seed of its own gives it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runner.yaml").write_text(ASKED.format(kind=kind))
    (tmp_path / "space.yaml").write_text(SPACE)
    study = search("space.yaml", "runner.yaml", 3, name="study")
    runner = load_runner("runner.yaml")
    data = proxy_data(runner.proxy, "segment")
    for trial in study.record.trained:
        arch = Arch.from_dict(trial.attributes["arch"])
        torch.manual_seed(seed_of(0, arch.digest()))
        value = ZERO_COST[kind](build(arch, classes=len(data.classes)), probe_of(data, runner.proxy, seed=0))
        assert trial.attributes["zero_cost"] == {kind: pytest.approx(value, rel=1e-6)}
    asked = untrained(runner, data)
    before = torch.get_rng_state()
    assert asked is not None
    assert asked(arch) == trial.attributes["zero_cost"][kind]
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_not_finite_or_cannot_be_asked_is_nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner.model_validate({"search": {"zero_cost": "synflow"}, "proxy": {"image": 32}})
    data = proxy_data(runner.proxy, "segment")
    assert untrained(Runner(), data) is None
    of_costs = runner.search.model_copy(update={"objectives": ("flops", "latency")})  # it would favour what is large
    assert untrained(runner.model_copy(update={"search": of_costs}), data) is None
    monkeypatch.setitem(ZERO_COST._entries, "synflow", lambda network, probe: -math.inf)
    infinite = untrained(runner, data)
    assert infinite is not None
    assert infinite(small("hrvit", "hr")) is None

    def fails(network: nn.Module, probe: Probe) -> float:
        raise RuntimeError("it is out of order")

    monkeypatch.setitem(ZERO_COST._entries, "synflow", fails)
    failing = untrained(runner, data)
    assert failing is not None
    with pytest.warns(RuntimeWarning, match="synflow cannot be asked: RuntimeError: it is out of order"):
        assert failing(small("hrvit", "hr")) is None


@pytest.mark.parametrize("where", ["proxy: {screen: synflo}", "search: {zero_cost: synflo}"])
def test_one_that_does_not_exist_is_told_at_once(where: str, tmp_path: Path) -> None:
    (tmp_path / "runner.yaml").write_text(where)
    with pytest.raises(InputError, match="zero-cost proxy 'synflo' does not exist; did you mean 'synflow'"):
        load_runner(tmp_path / "runner.yaml")
