"""What a training begins with: another head's weights, released ones, another size of windows and of images."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from trees import masks_tree
from winners import ARCH, exported

from hrsearch.build import Network, build
from hrsearch.errors import InputError
from hrsearch.proxy.checkpoint import write_weights
from hrsearch.released import released_names
from hrsearch.space import load_arch
from hrsearch.train import train
from hrsearch.train.start import begin_with, file_of

WINDOWED = """
task: segment
net:
  blocks: {fine: {kind: window, window: 5, head_dim: 4, ratio: 2}}
  stages:
    - {link: conv_stem, channels: 8, stride: 4}
    - {link: hrformer, channels: [8], depth: 1, block: fine}
  head: {kind: segformer, width: 8}
"""


def network_of(tmp_path: Path, arch: str, seed: int = 1, classes: int = 11) -> Network:
    (tmp_path / "arch.yaml").write_text(arch)
    torch.manual_seed(seed)
    return build(load_arch(tmp_path / "arch.yaml"), classes=classes)


def test_where_a_start_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    winner = exported(tmp_path / "winner")
    assert file_of("scratch", winner) is file_of("weights", winner) is None
    for path in ("winner/weights.safetensors", "winner/mine.safetensors", "here.safetensors"):
        (tmp_path / path).touch()
    assert file_of("weights", winner) == winner / "weights.safetensors"
    assert file_of("mine.safetensors", winner) == winner / "mine.safetensors"
    assert file_of("here.safetensors", winner) == Path("here.safetensors")
    for path in ("run", "winner/run"):
        (tmp_path / path).mkdir()
        (tmp_path / path / "best.safetensors").touch()
    assert file_of("run/best.safetensors", winner) == winner / "run/best.safetensors"
    (winner / "run/checkpoint.pt").touch()
    with pytest.raises(
        InputError, match=r"'run/checkpoint\.pt' is what .* goes on from.*; give run/best\.safetensors$"
    ):
        file_of("run/checkpoint.pt", winner)
    with pytest.raises(InputError, match=r"start: 'absent' is no file, here or in .*; give one, or weights"):
        file_of("absent", winner)


def test_another_head_keeps_its_own_weights(tmp_path: Path) -> None:
    """As from a network that has learnt to classify."""
    kind = ARCH.replace("{kind: segformer, width: 8}", "classify").replace("segment", "classify")
    earlier = network_of(tmp_path, kind, seed=2)
    write_weights(tmp_path / "file.safetensors", earlier)
    network = network_of(tmp_path, ARCH)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    begin_with(network, tmp_path / "file.safetensors")
    for name, tensor in network.state_dict().items():
        wanted = before[name] if name.startswith("head.") else earlier.state_dict()[name]
        assert torch.equal(tensor, wanted), name


def test_tables_of_positions_cope_with_other_windows(tmp_path: Path) -> None:
    earlier = network_of(tmp_path, WINDOWED, seed=2)
    write_weights(tmp_path / "file.safetensors", earlier)
    network = network_of(tmp_path, WINDOWED.replace("window: 5", "window: 7"))
    begin_with(network, tmp_path / "file.safetensors")
    table = next(name for name in network.state_dict() if name.endswith("position.table"))
    theirs, ours = earlier.state_dict()[table], network.state_dict()[table]
    assert (len(theirs), len(ours)) == (81, 169)
    torch.testing.assert_close(ours[84], theirs[40])  # no distance: the middle stays the middle
    other = network_of(tmp_path, WINDOWED.replace("channels: [8]", "channels: [12]"))
    with pytest.raises(InputError, match="weights of another network"):
        begin_with(other, tmp_path / "file.safetensors")


def test_released_weights_are_known_by_their_names(tmp_path: Path) -> None:
    """With another number of classes all but the layers that deliver them are taken."""
    text = (Path(str(load_path("hrvit_b1")))).read_text()
    earlier = network_of(tmp_path, text, seed=2, classes=3)
    names = released_names(earlier, "hrvit")
    save_file(
        {names[key]: tensor.contiguous() for key, tensor in earlier.state_dict().items() if key in names},
        tmp_path / "theirs.safetensors",
    )
    network = network_of(tmp_path, text, classes=5)
    begin_with(network, tmp_path / "theirs.safetensors")
    found, wanted = network.state_dict(), earlier.state_dict()
    differing = {name for name in found if name in names and not torch.equal(found[name], wanted[name])}
    assert differing
    assert all(re.match(r"head\.", name) for name in differing)


def load_path(name: str) -> Path:
    from hrsearch.document import shipped

    return shipped("spaces/nets", name)


def test_a_fine_tuning_goes_on_at_another_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the first training, from its best; and it is taken up like any other."""
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    winner = exported(tmp_path / "winner", WINDOWED)
    first = train(winner, device="cpu")
    second = train(winner, start="run/best.safetensors", image=48, steps=2, settings={"warmup": 0}, device="cpu")
    assert second.folder == winner / "run-48"
    assert yaml.safe_load((second.folder / "recipe.yaml").read_text())["image"] == 48
    anew = train(exported(tmp_path / "anew", WINDOWED), image=48, steps=2, settings={"warmup": 0}, device="cpu")
    loss = [float((each.folder / "metrics.csv").read_text().splitlines()[1].split(",")[1]) for each in (second, anew)]
    assert loss[0] < loss[1]
    assert train(winner, device="cpu") == first


def test_a_fine_tuning_goes_on_with_the_data_of_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with train.yaml's, of which the weights have seen nothing."""
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    winner, data = exported(tmp_path / "winner"), masks_tree(tmp_path / "own")
    few = {"warmup": 0, "every": 2}
    train(winner, data=str(data), steps=2, settings=few, device="cpu")
    second = train(winner, start="run/best.safetensors", image=48, steps=2, settings=few, device="cpu")
    assert yaml.safe_load((second.folder / "recipe.yaml").read_text())["data"] == str(data)
    assert json.loads((second.folder / "trained.json").read_text())["classes"] == ["0", "1", "2"]
    other = train(
        winner, start="run/best.safetensors", data="six_digits", image=40, steps=2, settings=few, device="cpu"
    )
    assert yaml.safe_load((other.folder / "recipe.yaml").read_text())["data"] == "six_digits"
