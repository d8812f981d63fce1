"""Every command of the README runs: in its order, in one folder, on a tiny space and with tiny budgets."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import trees
from recipe import recipe_weights
from safetensors.torch import load_file

from hrsearch.build import build
from hrsearch.cli import main
from hrsearch.proxy.checkpoint import normalisation_of
from hrsearch.space import load_arch
from hrsearch.train.recipe import load_recipe

README = Path(__file__).parents[1] / "README.md"
SPACE = """
task: segment
knobs:
  width1: [8, 16]
  width2: [16, 32]
  ratio: [1, 2, 3]
net:
  blocks:
    fine: {kind: cross, window: 1, head_dim: 8, ratio: $ratio}
  stages:
    - {link: conv_stem, channels: 8, stride: 4}
    - {link: hrvit, channels: [$width1], depth: 1, block: fine, norm: layer}
    - {link: hrvit, channels: [$width1, $width2], depth: 1, block: fine, norm: layer}
  heads: {segment: {kind: segformer, width: 16}, classify: classify}
"""
RUNNER = """
proxy: {image: 32, batch: 8, steps: 4, warmup: 1, train_images: 64, val_images: 16}
measure: {image: [64, 64], seconds: 0.1}
engine: {kind: inline}
"""
# What costs a person minutes or hours is made small, in the words of the command line.
SMALLER = {
    r"--budget 200": "--budget 4",
    r"--budget 400": "--budget 5",
    r"(run .*)--hours 8": r"\1--hours 0.0001",
    r"(run (?!.*--(budget|hours)).*)": r"\1 --budget 3",
    r"(run|plan) (.*)": r"\1 \2 --runner quick.yaml",
    r"-k 12": "-k 4 --times 2",
    r"(finalize .*) --seeds 3": r"\1 --seeds 2 --times 1",
    r"--image 512 --ms": "--image 64 --ms",
    r"--image 768": "--image 64",
    r"--image 1024x512": "--image 64x32",
    r"onnx-1024x512": "onnx-64x32",
    r"run-768": "run-64",
    r"watch hrvit": "watch hrvit --once",
    r"^verify": "verify hrvit_b1",
    r"(check .*)": r"\1 -n 100",
    r"(train .*--recipe .*)": r"\1 --image 32 --steps 2 --set batch=2 --set accumulate=1",
    r"(train winner/ --(set|from|data digits).*)": r"\1 --steps 2",
}
ELSEWHERE = {  # commands that do not end, or need what is not here, where the tests run them, and with which words
    "hrsearch report hrvit --serve": ("test_report_serve.py", '"report", "toy", "--serve"'),
    "hrsearch measure hrvit --device cuda": ("test_cost_engines.py", "engine_on(engine, device)"),
    "torchrun --nproc-per-node 8 -m hrsearch train winner/": ("test_train_steps.py", '"torch.distributed.run"'),
    "optuna-dashboard studies/hrvit/study.journal": ("test_dashboard.py", 'folder / "study.journal"'),
    "hrsearch --install-completion": ("test_cli.py", "command('--show-completion')"),
    'hrsearch measure hrvit --engine "command: python bench.py {model} {height} {width}" --name board': (
        "test_cost_engines.py",
        "bench.py {{model}} {{height}} {{width}}",
    ),
}


def commands() -> Iterator[str]:
    """The lines of the README's blocks of commands, without comments; installing is what CI does."""
    for block in re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            plain = line.split(" #")[0].split(" (")[0].strip()
            if plain.startswith(("hrsearch ", "torchrun ")):
                yield plain


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the README speaks of: spaces, images, released weights, and a second study."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "spaces").mkdir()
    (folder / "spaces/hrvit.yaml").write_text(SPACE)
    (folder / "spaces/hrformer.yaml").write_text(SPACE)
    (folder / "quick.yaml").write_text(RUNNER)
    trees.masks_tree(folder / "my_images", values=(0, 1, 2))
    trees.ade20k_tree(folder)
    torch.save({"state_dict": recipe_weights(build(load_arch("hrvit_b1")), "hrvit")}, folder / "hrvit_b1.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("run spaces/hrformer.yaml --runner quick.yaml --budget 3") == 0
        yield folder


def run(command: str) -> int:
    """The exit code of a command, in this process."""
    with pytest.raises(SystemExit) as end:
        main(shlex.split(command))
    return int(end.value.code or 0)


@pytest.mark.parametrize("command", [each for each in commands() if each not in ELSEWHERE])
def test_command(home: Path, command: str, capfd: pytest.CaptureFixture[str]) -> None:
    small = command.removeprefix("hrsearch ")
    for pattern, instead in SMALLER.items():
        small = re.sub(pattern, instead, small)
    if small.startswith(("train winner/ --recipe", "train winner/ --set")):
        shutil.rmtree("winner/run")  # as the refusal of another training says
    assert run(small) == 0, capfd.readouterr().err
    assert capfd.readouterr().out


def test_the_others_are_run_elsewhere() -> None:
    """And stand in the README still."""
    text = README.read_text(encoding="utf-8")
    for command, (file, words) in ELSEWHERE.items():
        assert command in text
        assert words in (Path(__file__).parent / file).read_text(encoding="utf-8")


def test_the_product_is_what_training_made_of_the_winner(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """After the commands above."""
    trained, product = home / "winner" / "run", home / "product"
    ours, theirs = load_file(product / "weights.safetensors"), load_file(trained / "best.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    told = json.loads((trained / "trained.json").read_text(encoding="utf-8"))
    numbers = json.loads((product / "numbers.json").read_text(encoding="utf-8"))
    assert (numbers["classes"], numbers["score"]["value"]) == (told["classes"], told["value"])
    assert numbers["normalisation"] == told["normalisation"] == normalisation_of(trained / "best.safetensors")
    assert "steps of `hrsearch train`" in (product / "README.md").read_text(encoding="utf-8")
    assert load_recipe(product / "train.yaml", arch=load_arch(product / "arch.yaml"), task="segment").steps == 2
    assert run("export winner/ --to winner/") == 2
    assert "holds the training itself; choose another folder" in capfd.readouterr().err
    tuned = load_file(home / "winner" / "run-64" / "best.safetensors")
    fine = load_file(home / "fine" / "weights.safetensors")
    assert all(torch.equal(tuned[name], fine[name]) for name in tuned)
    assert any(not torch.equal(tuned[name], ours[name]) for name in tuned)
    shutil.rmtree(trained)
    assert run("export winner/ --to other/") == 2
    assert "holds no training; first: hrsearch train winner" in capfd.readouterr().err
