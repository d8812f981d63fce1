"""hrsearch measure: a study's networks measured elsewhere, side by side in one study and one report."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import onnxruntime
import pytest
import torch
import yaml
from inside import Done, inside
from torch import nn

import hrsearch
from hrsearch.errors import CandidateFailed, InputError
from hrsearch.registry import ENGINES
from hrsearch.runner import Measure
from hrsearch.search.ledger import noting
from hrsearch.study import Record, read_study
from hrsearch.targets import key_of, on_target, targets_of

SPACE = """
task: segment
knobs:
  width: [8, 16, 24]
net:
  stages:
    - {link: conv_stem, channels: $width, stride: 4}
    - {link: hrnet, channels: $width, depth: 1, block: basic}
  head: {kind: segformer, width: 16}
"""
RUNNER = """
proxy: {image: 32, batch: 8, steps: 2, warmup: 1, train_images: 64, val_images: 16}
measure: {image: [64, 64], seconds: 0.2}
search: {limits: [latency<=10s, params<=10M]}
engine: {kind: inline}
"""
# The wider the model, the faster it is on this board; and it notes each call.
BOARD = """
import sys
from pathlib import Path
size = Path(sys.argv[1]).stat().st_size
with open("calls.txt", "a") as calls:
    calls.write(f"{size}\\n")
print(1e6 / size)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of three networks, and a board to measure on."""
    home = tmp_path_factory.mktemp("home")
    (home / "space.yaml").write_text(SPACE)
    (home / "runner.yaml").write_text(RUNNER)
    (home / "board.py").write_text(BOARD)
    ran = inside(home, "run", "space.yaml", "--runner", "runner.yaml", "--budget", "3")
    assert ran.returncode == 0, ran.stderr
    return home


def on_board(home: Path, *arguments: str) -> Done:
    engine = f"command: {sys.executable} board.py {{model}}"
    return inside(home, "measure", "space", "--engine", engine, "--name", "board", *arguments)


def record_in(home: Path) -> Record:
    return read_study(home / "studies" / "space")


def test_a_study_is_measured_on_a_board(home: Path) -> None:
    before = record_in(home)
    done = on_board(home)
    assert done.returncode == 0, done.stderr
    assert "3 networks measured on board" in done.stdout
    calls = len((home / "calls.txt").read_text().splitlines())
    assert calls == 9  # three of each network
    assert on_board(home).returncode == 0
    assert len((home / "calls.txt").read_text().splitlines()) == calls  # nothing is measured twice
    after = record_in(home)
    assert [trial.values for trial in after.trials] == [trial.values for trial in before.trials]
    there = on_target(after, "board")
    fastest = min(there.trained, key=lambda trial: float(trial.values[2] or 0))
    assert fastest.knobs["width"] == 24
    assert list(targets_of(after)) == ["board"]


def test_the_winner_there_is_exported(home: Path) -> None:
    on_board(home)
    done = inside(home, "export", "space", "--on", "board", "--pick", "fastest", "--to", "there")
    assert done.returncode == 0, done.stderr
    assert json.loads((home / "there" / "numbers.json").read_text())["knobs"]["width"] == 24
    wrong = inside(home, "export", "space", "--on", "bord")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "has no target 'bord'; did you mean 'board'?" in wrong.stderr


def test_the_front_there_is_the_one_that_an_export_picks_from(home: Path, tmp_path: Path) -> None:
    """Where scores are confirmed, of those that are."""
    shutil.copytree(home, tmp_path / "home")
    record = record_in(tmp_path / "home")
    slowest = next(trial for trial in record.trials if trial.knobs.get("width") == 8)
    score = {"value": 0.5, "metric": "mIoU", "steps": 2, "seed": 0}
    how = {"times": 1, "seeds": 1, "split": "proxy", "noise": 0.1}
    noting(record.folder)({"confirmation": how, f"confirmation:1:{slowest.number}:0": score})
    told = on_board(tmp_path / "home").stdout.splitlines()
    (front,) = (line for line in told if line.startswith("  trial "))
    assert front.startswith(f"  trial {slowest.number}:")


def test_devices_stand_side_by_side_in_the_report(home: Path) -> None:
    on_board(home)
    done = inside(home, "measure", "space", "--engine", "onnx", "--image", "64x96", "--batch", "2")
    assert done.returncode == 0, done.stderr
    record = record_in(home)
    assert list(targets_of(record)) == ["board", "onnx-64x96"]
    there = on_target(record, "onnx-64x96")
    assert {tuple(trial.attributes["latency"]["image"]) for trial in there.trained} == {(64, 96)}
    wide = {trial.number: trial.attributes["flops"] for trial in there.trained}
    assert wide == {trial.number: 1.5 * trial.attributes["flops"] for trial in record.trained}
    page = (home / "studies" / "space" / "report.html").read_text()
    assert "On other devices" in page
    assert 'data-figure="score_on_board"' in page
    assert 'data-figure="score_on_onnx-64x96"' in page
    assert "Kendall tau" in page


def test_a_name_stands_for_one_way_to_measure(home: Path) -> None:
    on_board(home)
    wrong = on_board(home, "--batch", "4")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "target 'board' was measured with batch 1, now it is 4; give another --name" in wrong.stderr
    slash = inside(home, "measure", "space", "--name", "a/b")
    assert (slash.returncode, len(slash.stderr.splitlines())) == (2, 1)
    engine = inside(home, "measure", "space", "--engine", "onx")
    assert (engine.returncode, len(engine.stderr.splitlines())) == (2, 1)
    assert "latency engine 'onx' does not exist; did you mean 'onnx'?" in engine.stderr
    assert "onx-64x64" not in targets_of(record_in(home))
    device = inside(home, "measure", "space", "--engine", "onnx", "--device", "cuda")
    assert (device.returncode, len(device.stderr.splitlines())) == (2, 1)
    assert "engine 'onnx' does not run on cuda" in device.stderr


def test_a_board_that_fails_is_told_and_asked_again_later(home: Path) -> None:
    done = inside(home, "measure", "space", "--engine", f"command: {sys.executable} -c 1/0", "--name", "broken")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("ZeroDivisionError") == 4
    assert re.search(r"space: no network could be measured on broken; the last one: .*\n$", done.stderr)
    assert not on_target(record_in(home), "broken").trained


def test_a_network_that_does_not_fit_costs_no_other_its_latency(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = count(1)

    def tight(network: nn.Module, example: torch.Tensor) -> Callable[[], object]:
        if next(turns) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        run: Callable[[], object] = ENGINES["eager"](network, example)
        return run

    monkeypatch.setitem(ENGINES._entries, "tight", tight)
    study = hrsearch.Study(home / "studies" / "space", "")
    study.measure(Measure(engine="tight", image=(32, 32), seconds=0.1))
    record = record_in(home)
    first, _, last = (trial.number for trial in record.trained)
    assert [trial.number for trial in on_target(record, "tight-32x32").trained] == [first, last]
    reasons = [value.get("reason", "") for key, value in record.attributes.items() if "tight-32x32:" in key]
    assert [reason for reason in reasons if reason] == [
        "out of memory (CUDA out of memory. Tried to allocate 20.00 GiB.)"
    ]


def test_what_onnxruntime_refuses_is_a_failed_network() -> None:
    """Its exceptions have no base of their own; it has no convolution in double precision."""
    with pytest.raises(CandidateFailed, match=r"onnxruntime cannot run it: .*NOT_IMPLEMENTED"):
        ENGINES["onnx"](nn.Conv2d(3, 8, 3).double(), torch.zeros(1, 3, 8, 8, dtype=torch.float64))


@pytest.mark.long
def test_a_network_of_its_own_size_is_exported_as_it_was_timed_there(tmp_path: Path) -> None:
    """It is trained at the ratio of the search, and deployed at the size that was timed on the target."""
    (tmp_path / "space.yaml").write_text(SPACE.replace("net:\n", "net:\n  image: 32\n"))
    (tmp_path / "runner.yaml").write_text(RUNNER)
    for words in (
        ("run", "space.yaml", "--runner", "runner.yaml", "--budget", "1"),
        ("measure", "space", "--image", "128x64", "--name", "tall"),
        ("export", "space", "--on", "tall", "--to", "there", "--format", "onnx"),
    ):
        done = inside(tmp_path, *words)
        assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "there/train.yaml").read_text())["zoom"] == [0.5, 0.5]
    model = onnxruntime.InferenceSession(tmp_path / "there/model.onnx", providers=["CPUExecutionProvider"])
    timed = json.loads((tmp_path / "there/numbers.json").read_text())["latency"]["image"]
    assert (model.get_inputs()[0].shape[2:], timed) == ([64, 32], [64, 32])


def test_targets_are_read_from_python(home: Path) -> None:
    on_board(home)
    study = hrsearch.Study(home / "studies" / "space", "")
    assert study.on("board").trials["latency_ms"].notna().sum() == 3
    assert study.measure(Measure(image=(32, 32), seconds=0.1), name="small") == "small"
    assert len(on_target(study.record, "small").trained) == 3
    with pytest.raises(InputError, match="a name is letters, digits"):
        key_of("no name")
