"""Export formats: each computes what the network does, and model.py stands alone. What is not installed is skipped."""

import dataclasses
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from example_study import store
from safetensors.torch import save_file
from test_export import keep_weights, small_arch, study

import hrsearch
from hrsearch.arch import Arch
from hrsearch.build import Network
from hrsearch.cli import main
from hrsearch.errors import InputError
from hrsearch.export import ExportFailed, export
from hrsearch.export.check import images_of, outputs_of
from hrsearch.export.standalone import source_of
from hrsearch.export.target import Target
from hrsearch.export.winner import Winner
from hrsearch.plugins import load_plugins
from hrsearch.registry import EXPORTS
from hrsearch.space import load_arch, load_space
from hrsearch.verify import published_names

FORMATS = list(EXPORTS)
FAMILIES = ("hrvit_b1", "hrformer_t", "hrnet_w18_small", "hirivit_s", "mixed")
MIXED = """
task: segment
net:
  image: [64, 96]
  blocks:
    windows: {kind: transformer, attention: window, window: 3, head_dim: 8, feed: mixcfn, ratio: 2}
    strips: {kind: cross, window: 3, head_dim: 8, ratio: 2}
    everywhere: {kind: transformer, reduction: 2, head_dim: 8, ratio: 2}
  stages:
    - {link: conv_stem, channels: 16, stride: 4}
    - {link: hrnet, channels: [16, 32], depth: 1, block: [basic, strips], norm: layer}
    - {link: hrformer, channels: [16, 32, 32], depth: [1, 1, 3], block: [hr, windows, everywhere], norm: batch}
  head: {kind: segformer, width: 16}
"""


def drawn(network: Network) -> Network:
    """The network with weights, norms and biases that all matter, as after training."""
    torch.manual_seed(1)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(0.5 + torch.rand(len(tensor)))
    return network.eval().requires_grad_(False)


def winner_of(folder: Path, arch: Arch) -> Winner:
    """A trial of this architecture, with weights in its study."""
    record = study(folder, arch)
    network = drawn(hrsearch.build(arch, classes=11))
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    (folder / "study/weights").mkdir(parents=True)
    save_file(state, folder / "study/weights/1.safetensors")
    return Winner(record, record.trial(1))


@pytest.fixture(scope="module")
def winner(tmp_path_factory: pytest.TempPathFactory) -> Winner:
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "mixed.yaml").write_text(MIXED, encoding="utf-8")
    return winner_of(folder, load_arch(folder / "mixed.yaml"))


@pytest.fixture(scope="module")
def exported(winner: Winner) -> Path:
    """Every format in one folder; they find their modules there."""
    return export(winner.record, "trial:1", winner.record.folder.parent / "winner", FORMATS)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", FORMATS)
def test_exported_network_computes_what_the_built_one_does(
    name: str, batch: int, winner: Winner, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(exported))
    image = images_of((batch, 3, *winner.image))
    try:
        outputs = EXPORTS[name].outputs(exported, image)  # type: ignore[attr-defined]
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed")
    own = outputs_of(winner, image)
    assert outputs
    for part, output in outputs.items():
        assert output.shape == own[part].shape
        assert numpy.abs(output - own[part]).max() <= 1e-5 * max(1, numpy.abs(own[part]).max())


def test_onnx_takes_images_one_at_a_time_or_several(winner: Winner, exported: Path) -> None:
    """In one call, each: its batch is a name, no number."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    for described in (session.get_inputs()[0], session.get_outputs()[0]):
        assert isinstance(described.shape[0], str)
    for batch in (1, 3):
        image = images_of((batch, 3, *winner.image))
        own = outputs_of(winner, image)["prediction"]
        (prediction,) = session.run(None, {"image": image})
        assert prediction.shape == own.shape
        assert numpy.abs(prediction - own).max() <= 1e-5 * max(1, numpy.abs(own).max())


def test_export_says_how_to_use_every_format_and_that_it_was_checked(exported: Path) -> None:
    readme = (exported / "README.md").read_text(encoding="utf-8")
    for name in FORMATS:
        assert f"## {name}\n" in readme
        assert re.search(rf"^{name}: (ok, largest difference|not checked, as )", readme, re.MULTILINE)
    assert re.search(r"^standalone: ok, largest difference \S+, 1e-06 allowed$", readme, re.MULTILINE)
    assert "batches may be of any size" in readme
    mark = json.loads((exported / "numbers.json").read_text(encoding="utf-8"))
    assert {path.name for path in exported.iterdir()} - {"__pycache__"} == set(mark["files"])


def test_check_finds_other_weights(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("check.py", "check.npz", "model.py", "weights.pt"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path))
    check = runpy.run_path(str(tmp_path / "check.py"))
    assert check["told"]("standalone")[0] is True
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    state["head.classifier.bias"] += 1
    torch.save(state, tmp_path / "weights.pt")
    right, line = check["told"]("standalone")
    assert not right
    assert line.startswith("standalone: FAILED, largest difference")


def test_exported_code_is_clean(exported: Path) -> None:
    ruff_is_content(exported)


def ruff_is_content(folder: Path) -> None:
    root = Path(__file__).parent.parent
    for command in (["check"], ["format", "--check"]):
        full = [sys.executable, "-m", "ruff", *command, "--config", str(root / "pyproject.toml"), "--no-cache", "."]
        done = subprocess.run(full, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def arch_of(name: str) -> Arch:
    return load_space("mixed").sample(3)[1] if name == "mixed" else load_arch(name)


ALONE = """
import sys
from pathlib import Path
sys.modules["hrsearch"] = None
import torch
for folder in sorted(Path(sys.argv[1]).iterdir()):
    names = {"__name__": "model", "__file__": str(folder / "model.py")}
    exec(compile((folder / "model.py").read_text(), "model.py", "exec"), names)
    kept = torch.load(folder / "kept.pt", weights_only=True)
    with torch.inference_mode():
        off = (names["load"]()(kept["image"]) - kept["prediction"]).abs().max()
    print(folder.name, float(off) <= 1e-6 * max(1.0, float(kept["prediction"].abs().max())))
    (folder / "weights.pt").unlink()
others = {each.partition(".")[0] for each in sys.modules} & {"safetensors", "yaml", "pydantic", "optuna", "pandas"}
print("others", sorted(others))
"""


def test_model_runs_where_there_is_no_hrsearch(tmp_path: Path) -> None:
    for name in FAMILIES:
        network = drawn(hrsearch.build(arch_of(name), classes=5))
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.py").write_text(source_of(network, 5, name), encoding="utf-8")
        torch.save(dict(network.state_dict()), folder / "weights.pt")
        image = torch.rand(1, 3, 72, 104)
        torch.save({"image": image, "prediction": network(image)}, folder / "kept.pt")
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", ALONE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [*(f"{name} True" for name in sorted(FAMILIES)), "others []"], done.stderr


@pytest.mark.long
def test_every_published_network_can_stand_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written, clean, and of the same parameters under the same names; without memory and first values: it is quick."""
    for layer in (torch.nn.Conv2d, torch.nn.Linear):
        monkeypatch.setattr(layer, "reset_parameters", lambda self: None)
    for name in published_names():
        with torch.device("meta"):
            network = hrsearch.build(load_arch(name), classes=3)
            text = source_of(network, 3, name)
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
            names: dict[str, Any] = {"__name__": name, "__file__": "model.py"}
            exec(text, names)
            alone = names["Network"]()
        shapes, own = ({key: each.shape for key, each in one.state_dict().items()} for one in (alone, network))
        assert shapes == own
        assert (alone.channels, alone.strides) == (network.channels, network.strides)
        assert not re.search("hrsearch[. ](?!.Apache)|InputError|Registry|Piece", text.partition('"""\n\n')[2])
    ruff_is_content(tmp_path)


def test_network_with_a_block_of_a_plugin_stands_alone(tmp_path: Path) -> None:
    load_plugins([Path(__file__).with_name("plugin_block.py")])
    path = tmp_path / "own.yaml"
    text = MIXED.replace("[basic, strips]", "[{kind: contrast, window: 5}, basic]").replace(
        "strips: {kind: cross", "unused: {kind: cross"
    )
    path.write_text(text, encoding="utf-8")
    network = drawn(hrsearch.build(load_arch(path), classes=2))
    names: dict[str, Any] = {"__name__": "model", "__file__": "model.py"}
    source = source_of(network, 2, "own")
    exec(source, names)
    alone = names["Network"]().eval()
    alone.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 40, 56)
    with torch.inference_mode():
        assert torch.equal(alone(image), network(image))
    assert "class Contrast(nn.Module)" in source
    assert "class CrossBlock" not in source


def other_outputs(folder: Path, image: Any) -> dict[str, Any]:
    """What no network computes."""
    return {"prediction": numpy.full((len(image), 11, 24, 32), numpy.nan)}


class Other(Target):
    """A format that gets it wrong."""

    outputs = staticmethod(other_outputs)

    def write(self, winner: Winner, folder: Path) -> str:
        (folder / "other.bin").touch()
        return ""


class Absent(Other):
    """A format that this machine cannot write."""

    needs = ("torch", "no_such_package_is_installed")


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPORTS._entries, "other", Other)
    monkeypatch.setitem(EXPORTS._entries, "absent", Absent)


@pytest.mark.usefixtures("others")
def test_file_that_computes_something_else_is_not_exported(winner: Winner, tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="does not pass its check; other: FAILED, largest difference nan"):
        export(winner.record, "trial:1", tmp_path / "winner", ["other"])
    assert list((tmp_path / "winner").iterdir()) == []


@pytest.mark.usefixtures("others")
def test_missing_package_and_missing_weights_are_told_before_anything_is_written(
    winner: Winner, tmp_path: Path
) -> None:
    law = "'absent' needs no_such_package_is_installed; pip install torch no_such_package_is_installed"
    for choice, name, words in (
        ("trial:1", "absent", law),
        ("trial:1", "onxx", "export format 'onxx' does not exist; did you mean 'onnx'?"),
        ("trial:2", "standalone", "trial 2: format 'standalone' needs weights, but none lie in"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            export(winner.record, choice, tmp_path / "winner", [name])
    assert not (tmp_path / "winner").exists()


@pytest.mark.usefixtures("others")
def test_formats_from_python_and_from_the_command_line_where_a_failed_check_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = dataclasses.replace(study(tmp_path, small_arch(tmp_path)), folder=tmp_path / "studies/small")
    store(record)
    keep_weights(record, 1)
    monkeypatch.chdir(tmp_path)
    to = hrsearch.Study(record.folder).export("trial:1", "winner", formats=("onnx",))
    assert {"model.onnx", "arch.yaml"} <= {path.name for path in to.iterdir()}
    with pytest.raises(SystemExit) as ended:
        main(["export", "small", "--pick", "trial:1", "--to", "other", "--format", "other"])
    assert ended.value.code == 1
    assert re.fullmatch("hrsearch: the export does not pass its check; .*\n", capsys.readouterr().err)
