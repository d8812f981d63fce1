"""The size of the images as a knob: what a network costs, is timed at and is trained on follows it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import hrsearch
from hrsearch.arch import Arch
from hrsearch.cost import cost
from hrsearch.errors import InputError
from hrsearch.export import export
from hrsearch.grammar import yaml_of
from hrsearch.proxy.data import Split
from hrsearch.proxy.data.dataset import dataset_of
from hrsearch.proxy.learning import learn, learner_of, validate
from hrsearch.runner import Measure, Proxy, Runner, proxy_of
from hrsearch.space import Space, load_arch
from hrsearch.study import read_study
from hrsearch.train.recipe import load_recipe

SPACE = """
task: segment
knobs:
  side: [32, 64]
net:
  image: [$side, 96]
  stages:
    - {link: conv_stem, channels: 8, stride: 4}
    - {link: hrnet, channels: [8, 16], depth: 1, block: basic}
  head: {kind: segformer, width: 16}
"""
RUNNER = """
proxy: {image: 32, batch: 8, steps: 2, warmup: 1, train_images: 64, val_images: 16}
measure: {image: [64, 64], seconds: 0.2}
engine: {kind: inline}
"""


def sized(side: int) -> Arch:
    return Space.parse(SPACE).arch({"side": side})


def test_the_size_belongs_to_the_network() -> None:
    plain = Space.parse(SPACE.replace("image: [$side, 96]", "blocks: {}").replace("side: [32, 64]", "")).sample(0)[1]
    assert sized(32).image == (32, 96)
    assert plain.image is None
    assert len({sized(32).digest(), sized(64).digest(), plain.digest()}) == 3
    assert Arch.from_dict(sized(32).to_dict()) == sized(32)
    assert "image" not in plain.to_dict()  # digests from before there was a size stay what they were


def test_it_is_counted_at_its_size() -> None:
    assert cost(sized(64)).flops == cost(sized(64), (64, 96)).flops == 2 * cost(sized(32)).flops
    assert cost(sized(64)).params == cost(sized(32)).params


def test_it_survives_the_yaml(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(yaml_of(sized(64), "segment"))
    assert load_arch(tmp_path / "net.yaml") == sized(64)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("[1, 2, $side]", "space.yaml:6: net.image: expected a side, or height and width, but got [1, 2, 32]"),
        ("$side - 32", "space.yaml:6: net.image: expected a whole number of at least 1, but got 0"),
        ("[$side, wide]", "space.yaml:6: net.image: expected a whole number of at least 1, but got 'wide'"),
    ],
)
def test_a_wrong_size_is_told(raw: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        Space.parse(SPACE.replace("[$side, 96]", raw)).arch({"side": 32})
    assert str(error.value) == message


class Watching(nn.Module):
    """Logits at stride 4; remembers the sizes that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 4, 4)
        self.seen: set[torch.Size] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add(x.shape[2:])
        out: Tensor = self.layer(x)
        return out


@pytest.mark.parametrize(("image", "size"), [((64, 64), (32, 32)), ((32, 128), (16, 64)), ((512, 512), (256, 256))])
def test_proxy_images_are_resized_in_proportion(image: tuple[int, int], size: tuple[int, int]) -> None:
    """The labels are not: scores at several sizes are of the same task."""
    runner = Runner(proxy=Proxy(image=32, batch=4, steps=1, warmup=0), measure=Measure(image=(64, 64)))
    proxy = proxy_of(runner, Arch(sized(32).stages, sized(32).head, image))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (8, 3, 32, 32), generator=generator, dtype=torch.uint8)
    split = Split(images, images[:, 0] % 3)
    data = dataset_of(split, split, ("a", "b", "c"), mirrors=False)
    network = Watching()
    learner = learner_of(network, data, proxy, "cpu")
    assert learn(learner, data, proxy, step=0, seed=0) > 0
    assert 0 <= validate(learner, data, proxy)[0] <= 1
    assert network.seen == {torch.Size(size)}


def test_a_network_without_a_size_sees_the_proxy_as_it_is() -> None:
    runner = Runner()
    assert proxy_of(runner, Arch((), sized(32).head)) is runner.proxy


def test_a_search_times_and_exports_each_at_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text("runners: {cpu: runner.yaml, cuda: runner.yaml}\n" + SPACE)
    Path("runner.yaml").write_text(RUNNER)
    study = hrsearch.search("space.yaml", budget=2)
    record = read_study(study.folder)
    timed = {trial.knobs["side"]: tuple(trial.attributes["latency"]["image"]) for trial in record.trained}
    assert timed == {32: (32, 96), 64: (64, 96)}
    flops = {trial.knobs["side"]: trial.attributes["flops"] for trial in record.trained}
    assert flops[64] == 2 * flops[32]
    small = next(trial for trial in record.trained if trial.knobs["side"] == 32)
    folder = export(record, f"trial:{small.number}", tmp_path / "winner")
    assert load_arch(folder / "arch.yaml").image == (32, 96)
    assert load_recipe(folder / "train.yaml").zoom == (0.5, 1.5)
    assert "torch.zeros(1, 3, 32, 96)" in (folder / "README.md").read_text()
    page = study.report(tmp_path / "report.html").read_text()
    assert "for 32 × 96" in page
    assert "timed at each network&#x27;s own image size" in page
