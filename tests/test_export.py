"""Exported folders: what they hold, that the network in them is the trial's, and what they never overwrite."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from example_study import example_record
from safetensors.torch import load_file, save_file
from trees import masks_tree

import hrsearch
from hrsearch.arch import Arch
from hrsearch.build import Network
from hrsearch.document import shipped_folder
from hrsearch.errors import InputError
from hrsearch.export import export, export_trained
from hrsearch.export.winner import Winner
from hrsearch.grammar import yaml_of
from hrsearch.proxy.checkpoint import write_weights
from hrsearch.proxy.data import load_dataset
from hrsearch.runner import Proxy
from hrsearch.space import load_arch, load_space
from hrsearch.study import Record
from hrsearch.train import train
from hrsearch.train.recipe import default_recipe, load_recipe

FILES = {"arch.yaml", "train.yaml", "numbers.json", "README.md"}
SMALL = """
task: segment
net:
  blocks:
    fine: {kind: cross, window: 2, head_dim: 8, ratio: 2}
    coarse: {kind: cross, window: 3, head_dim: 8, ratio: 3}
  stages:
    - {link: conv_stem, channels: 16, stride: 4}
    - {link: hrvit, channels: [16], depth: 1, block: fine, norm: layer}
    - {link: hrvit, channels: [16, 32], depth: [0, 2], block: [fine, coarse], norm: layer, repeat: 2}
  head: {kind: segformer, width: 16}
"""


def small_arch(folder: Path) -> Arch:
    path = folder / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return load_arch(path)


def study(folder: Path, arch: Arch, **changes: Any) -> Record:
    """A study in `folder` whose trials are all of this architecture."""
    record = example_record(5, failed=1, known=("hrvit_b1",), folder=folder / "study")
    of_arch = {"arch": json.loads(json.dumps(arch.to_dict())), "digest": arch.digest(), **changes}
    trials = (dataclasses.replace(one, attributes={**one.attributes, **of_arch}) for one in record.trials)
    return dataclasses.replace(record, trials=tuple(trials))


def keep_weights(record: Record, number: int) -> Network:
    """Let the study have kept weights of the trial; the network with these weights."""
    torch.manual_seed(number)
    network = hrsearch.build(Arch.from_dict(record.trial(number).attributes["arch"]), classes=11).eval()
    (record.folder / "weights").mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, record.folder / "weights" / f"{number}.safetensors")
    return network


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return study(tmp_path, small_arch(tmp_path))


def shipped_networks() -> list[tuple[str, str]]:
    """Every network that is shipped, for every task that it has a head for."""
    files = sorted(shipped_folder("spaces/nets").glob("*.yaml"))
    read = [(file.stem, yaml.safe_load(file.read_text(encoding="utf-8"))) for file in files]
    return [(name, task) for name, data in read for task in data["net"].get("heads", [data["task"]])]


@pytest.mark.parametrize(("name", "task"), shipped_networks())
def test_published_network_survives_the_round_trip(name: str, task: str, tmp_path: Path) -> None:
    assert_round_trip(load_arch(name, task=task), task, tmp_path)


@pytest.mark.parametrize("seed", range(12))
def test_drawn_network_survives_the_round_trip(seed: int, tmp_path: Path) -> None:
    _, arch = load_space("hrvit").sample(seed)
    assert_round_trip(arch, "segment", tmp_path)


def assert_round_trip(arch: Arch, task: str, folder: Path) -> None:
    stored = Arch.from_dict(json.loads(json.dumps(arch.to_dict())))  # as a study keeps it
    path = folder / "arch.yaml"
    path.write_text(yaml_of(stored, task, "trial 3\nof: a study"), encoding="utf-8")
    assert load_arch(path).digest() == arch.digest()


def test_grammar_writes_a_row_per_stage_and_each_block_once(tmp_path: Path) -> None:
    data = yaml.safe_load(yaml_of(small_arch(tmp_path), "segment"))
    assert set(data["net"]["blocks"]) == {"cross1", "cross2"}
    assert [row.get("repeat", 1) for row in data["net"]["stages"]] == [1, 1, 2]
    assert data["net"]["stages"][2] | {"link": None} == {
        "link": None,
        "channels": [16, 32],
        "stride": 4,
        "depth": [0, 2],
        "block": [None, "cross2"],
        "norm": ["layer", "layer"],
        "repeat": 2,
    }


def test_export_holds_the_network_and_its_numbers(record: Record, tmp_path: Path) -> None:
    keep_weights(record, 2)
    to = export(record, "trial:2", tmp_path / "deep" / "winner")
    assert {path.name for path in to.iterdir()} == FILES | {"weights.safetensors", "check.py", "check.npz"}
    assert load_arch(to / "arch.yaml").digest() == record.trial(2).attributes["digest"]
    numbers = json.loads((to / "numbers.json").read_text(encoding="utf-8"))
    assert (numbers["study"], numbers["trial"], numbers["digest"]) == ("study", 2, record.trial(2).attributes["digest"])
    assert numbers["score"] == json.loads(json.dumps(record.trial(2).attributes["score"]))
    assert numbers["protocol"] == record.attributes["protocol"]
    assert numbers["versions"]["torch"] == "2.13.0"
    assert set(numbers["files"]) == {path.name for path in to.iterdir()}


def test_exported_network_computes_what_the_trial_did(record: Record, tmp_path: Path) -> None:
    network = keep_weights(record, 1)
    to = export(record, "trial:1", tmp_path / "winner")
    again = hrsearch.build(hrsearch.load_arch(to / "arch.yaml"), classes=11).eval()
    again.load_state_dict(load_file(to / "weights.safetensors"))
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(network(image), again(image))


@pytest.mark.long
def test_export_says_how_images_are_normalised(record: Record, tmp_path: Path) -> None:
    """By the mean and the deviation that the weights were trained with; where these do not say, in general."""
    data = load_dataset("digits", image=32, train_images=24, val_images=8)
    write_weights(record.folder / "weights" / "1.safetensors", keep_weights(record, 1), data)
    keep_weights(record, 2)
    to = export(record, "trial:1", tmp_path / "winner", ["mmseg"])
    assert said_of_images(to) == data.normalisation == {"mean": list(data.mean), "std": list(data.std)}
    readme = " ".join((to / "README.md").read_text(encoding="utf-8").split())
    mean, std = ([round(value, 6) for value in values] for values in (data.mean, data.std))
    assert "Images are RGB, scaled to 0..1, then each channel minus its mean, divided by its deviation, as " in readme
    assert f"trained on: mean {mean}, std {std}." in readme
    assert f'"mean": {[round(255 * value, 3) for value in data.mean]},' in (to / "mmseg_config.py").read_text()
    plain = export(record, "trial:2", tmp_path / "plain", ["mmseg"])
    assert said_of_images(plain) is None
    assert "shifted and scaled to mean 0 and deviation 1 over the training images" in (plain / "README.md").read_text()
    config = (plain / "mmseg_config.py").read_text()
    assert '"mean": [123.675, 116.28, 103.53],' in config
    assert "of ImageNet: the weights do not say theirs" in config


def said_of_images(folder: Path) -> Any:
    return json.loads((folder / "numbers.json").read_text(encoding="utf-8"))["normalisation"]


@pytest.mark.parametrize("weights", [True, False])
def test_python_of_the_readme_runs(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: bool
) -> None:
    if weights:
        keep_weights(record, 1)
    to = export(record, "trial:1", tmp_path / "winner")
    readme = (to / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    monkeypatch.chdir(to)
    names: dict[str, Any] = {}
    exec(code.replace("512, 512", "64, 64"), names)
    assert names["prediction"].shape[:2] == (1, 11)
    assert ("missing: none of this trial lay beside the study" in readme) is not weights
    assert ("300 steps on digits at 64 x 64" in readme) is weights


def test_published_network_is_exported_by_its_name(record: Record, tmp_path: Path) -> None:
    to = export(record, "hrvit_b1", tmp_path / "b1")
    assert "# hrvit_b1 of study study" in (to / "README.md").read_text(encoding="utf-8")


def test_recipe_is_what_training_reads(record: Record, tmp_path: Path) -> None:
    path = export(record, "best", tmp_path / "winner") / "train.yaml"
    proxy = Proxy.model_validate(record.attributes["runner"]["proxy"])
    assert load_recipe(path) == default_recipe(proxy, "digits")
    assert "  # peak learning rate\n" in path.read_text(encoding="utf-8")


def test_study_of_another_version_is_an_input_error(record: Record, tmp_path: Path) -> None:
    runner = {**record.attributes["runner"], "proxy": {"epochs": 3}}
    other = dataclasses.replace(record, attributes={**record.attributes, "runner": runner})
    with pytest.raises(InputError, match=r"made by another hrsearch: it does not know proxy\.epochs"):
        export(other, "best", tmp_path / "winner")


def test_earlier_export_is_replaced_and_stale_weights_go(record: Record, tmp_path: Path) -> None:
    keep_weights(record, 1)
    to = export(record, "trial:1", tmp_path / "winner")
    export(record, "trial:2", to)
    assert {path.name for path in to.iterdir()} == FILES
    assert json.loads((to / "numbers.json").read_text(encoding="utf-8"))["trial"] == 2


def test_what_training_left_stays_with_the_same_network(record: Record, tmp_path: Path) -> None:
    to = export(record, "trial:1", tmp_path / "winner")
    (to / "checkpoints").mkdir()
    export(record, "trial:2", to)  # the same architecture
    assert (to / "checkpoints").is_dir()
    other = study(tmp_path, load_arch("hrvit_b1", task="segment"))
    with pytest.raises(InputError, match=r"holds 'checkpoints' of another network \(trial 2\); choose another folder"):
        export(other, "trial:1", to)
    assert json.loads((to / "numbers.json").read_text(encoding="utf-8"))["trial"] == 2


@pytest.mark.parametrize("mark", [None, "no JSON", "[]", '{"files": 3}'])
def test_folder_that_is_no_export_of_ours_is_left_alone(record: Record, tmp_path: Path, mark: str | None) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    if mark is not None:
        (tmp_path / "numbers.json").write_text(mark)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="is no export of hrsearch"):
        export(record, "best", tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_mark_cannot_name_files_outside_of_its_folder(record: Record, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    to = tmp_path / "winner"
    to.mkdir()
    mark = {"files": ["../precious", "numbers.json"], "digest": "", "name": ""}
    (to / "numbers.json").write_text(json.dumps(mark))
    export(record, "best", to)
    assert (tmp_path / "precious").exists()


def test_empty_folder_is_used_and_a_file_is_not(record: Record, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export(record, "best", tmp_path / "empty")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        export(record, "best", tmp_path / "file")


def test_wrong_choice_makes_no_folder(record: Record, tmp_path: Path) -> None:
    failed = next(trial for trial in record.trials if trial.state == "failed")
    for choice in (f"trial:{failed.number}", "trial:99", "fastets"):
        with pytest.raises(InputError):
            export(record, choice, tmp_path / "winner")
    with pytest.raises(InputError, match="export format 'onxx' does not exist; did you mean 'onnx'"):
        export(record, "best", tmp_path / "winner", ["onxx"])
    assert not (tmp_path / "winner").exists()


def trained(record: Record, folder: Path, **changes: Any) -> Path:
    """An export of it that was trained for two steps, by a recipe with these changes."""
    export(record, "trial:1", folder)
    sizes = {"image": 32, "batch": 2, "train_images": 8, "val_images": 2, "warmup": 0, "every": 2}
    train(folder, steps=2, settings={**sizes, **changes}, device="cpu")
    return folder


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


@pytest.mark.usefixtures("quick")
def test_what_was_trained_goes_on_from_its_own_weights(record: Record, tmp_path: Path) -> None:
    product = export_trained(trained(record, tmp_path / "winner", start="scratch"), tmp_path / "product")
    recipe = load_recipe(product / "train.yaml")
    assert recipe.start == "weights"
    assert recipe == load_recipe(tmp_path / "winner/run/recipe.yaml").model_copy(update={"start": "weights"})


@pytest.mark.usefixtures("quick")
def test_commands_of_an_export_find_the_data_from_its_folder(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the search, and of what was trained that of its training; a folder of one's own from anywhere."""
    for name in ("of the search", "of mine"):
        masks_tree(tmp_path / name, values=(0, 1, 2))
    attributes = json.loads(json.dumps(dict(record.attributes)))
    attributes["runner"]["proxy"]["data"] = "of the search"
    record = dataclasses.replace(record, attributes=attributes)
    trained(record, tmp_path / "winner", data="of mine")
    monkeypatch.chdir(tmp_path / "winner")
    export_trained(Path(), tmp_path / "product")
    for folder, name in (("winner", "of the search"), ("product", "of mine")):
        assert load_recipe(tmp_path / folder / "train.yaml").data == str(tmp_path / name)
        assert f"hrsearch train . --data '{tmp_path / name}'\n" in (tmp_path / folder / "README.md").read_text()


@pytest.mark.usefixtures("quick")
def test_costs_of_what_was_trained_are_those_of_its_classes(record: Record, tmp_path: Path) -> None:
    """What was measured with another head says so, in the README, in the YAML and to programs."""
    masks_tree(tmp_path / "mine", values=(0, 1, 2))
    product = export_trained(trained(record, tmp_path / "winner", data="mine"), tmp_path / "product")
    numbers = json.loads((product / "numbers.json").read_text())
    counted = hrsearch.cost(hrsearch.load_arch(product / "arch.yaml"), Winner(record, record.trial(1)).image, 3)
    assert (numbers["params"], numbers["flops"]) == (counted.params, counted.flops)
    assert numbers["latency"]["classes"] == 11
    said = "measured with a head of 11 classes"
    assert said in next(line for line in (product / "README.md").read_text().splitlines() if "| latency |" in line)
    assert said in (product / "arch.yaml").read_text().splitlines()[0]
    assert said not in (tmp_path / "winner/README.md").read_text()
