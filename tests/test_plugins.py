"""Code outside the repository: a file that a space names, from drawing to an exported winner, and entry points."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import toy_search
from inside import inside
from toy_search import judgement, runner_of, search

from hrsearch import planning
from hrsearch.build import build
from hrsearch.candidate import Candidate, Judgement
from hrsearch.errors import InputError
from hrsearch.grammar import yaml_of
from hrsearch.plugins import load_plugins
from hrsearch.registry import BLOCKS, WORKERS
from hrsearch.search.driver import Judging, drive
from hrsearch.space import Space, load_arch, load_space

PLUGIN = Path(__file__).parent / "plugin_block.py"
SPACE = """
task: segment
plugins: [plugin_block.py]
knobs:
  window: [3, 5]
  width: [8, 12, 16]
net:
  stages:
    - {link: conv_stem, channels: $width, stride: 4}
    - {link: hrvit, channels: $width, depth: 1, block: {kind: contrast, window: $window}}
  head: {kind: segformer, width: 16}
"""
RUNNER = """
device: cpu
proxy: {image: 32, batch: 8, steps: 2, warmup: 1, train_images: 64, val_images: 16}
measure: {image: [64, 64], seconds: 0.2}
engine: {kind: processes, workers: 1}
"""
ENGINE = """
from concurrent.futures import ThreadPoolExecutor
from hrsearch.registry import BLOCKS, WORKERS

@WORKERS.add("threads")
class Threads(ThreadPoolExecutor):
    def __init__(self, setup, workers, timeout_s, *, options):
        super().__init__(workers, thread_name_prefix=options["name"])
        self.workers = workers
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that holds a space, a runner and the plug-in."""
    shutil.copyfile(PLUGIN, tmp_path / PLUGIN.name)
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "runner.yaml").write_text(RUNNER)
    return tmp_path


def hrsearch(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hrsearch", *arguments]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.long
def test_a_space_brings_its_block_to_the_winner_and_its_training(home: Path) -> None:
    """In processes that know nothing of the plug-in but what the space, then the export, tells them."""
    ran = hrsearch(home, "run", "space.yaml", "--runner", "runner.yaml", "--budget", "2")
    assert (ran.returncode, "2 trained, 0 failed" in ran.stdout + ran.stderr) == (0, True), ran.stderr
    moved = home / "elsewhere"
    assert inside(home, "export", "space", "--pick", "best", "--to", str(moved)).returncode == 0
    assert (moved / PLUGIN.name).read_text() == PLUGIN.read_text()
    (home / PLUGIN.name).unlink()
    trained = hrsearch(home, "train", str(moved), "--data", "digits", "--steps", "2")
    assert trained.returncode == 0, trained.stderr
    gone = inside(home, "run", "space.yaml", "--runner", "runner.yaml", "--budget", "3")
    assert (gone.returncode, len(gone.stderr.splitlines())) == (2, 1)
    assert "space.yaml:3: plugins[0]: no such file" in gone.stderr


@pytest.mark.long
def test_plan_times_its_networks_in_workers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn ones and a published one, in processes that know nothing of the plug-in."""
    monkeypatch.setattr(planning, "DRAWS", 5)
    (home / "net.yaml").write_text(yaml_of(load_space(home / "space.yaml").sample(0)[1], "segment", "", [PLUGIN.name]))
    (home / "space.yaml").write_text(SPACE.replace("knobs:", "known: [net.yaml]\nknobs:"))
    done = inside(home, "plan", "space.yaml", "--runner", "runner.yaml", "--budget", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert [timed["name"] for timed in json.loads(done.stdout)["timed"]] == ["small", "median", "large", "net"]


def test_a_network_is_built_of_it(home: Path) -> None:
    space = Space.parse(SPACE, home / "space.yaml")
    assert space.plugins == (home / PLUGIN.name,)
    network = build(space.arch({"width": 8, "window": 5}), classes=3).eval()
    assert network(torch.zeros(1, 3, 45, 77)).shape == (1, 3, 12, 20)


def test_an_engine_of_a_plugin_judges_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what reads its study later, in another process, knows the engine. Other tests do not."""
    monkeypatch.setattr(WORKERS, "_entries", {kind: WORKERS[kind] for kind in WORKERS})
    (tmp_path / "engine.py").write_text(ENGINE)
    load_plugins([tmp_path / "engine.py"])
    seen: list[str] = []

    def evaluate(candidate: Candidate) -> Judgement:
        seen.append(threading.current_thread().name)
        return judgement(candidate)

    space = toy_search.SPACE.replace("knobs:", f"plugins: [{tmp_path / 'engine.py'}]\nknobs:", 1)
    engine = {"kind": "threads", "workers": 2, "options": {"name": "mine"}}
    search(tmp_path / "study", 3, evaluate, space, engine=engine)
    assert len(seen) == 3
    assert all(name.startswith("mine_") for name in seen)
    code = (
        "from pathlib import Path; from hrsearch.retrain.work import runner_of; from hrsearch.study import read_study"
    )
    code += "; print(runner_of(read_study(Path('study'))).engine.kind)"
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.stdout == "threads\n", told.stderr


def test_a_study_goes_on_with_the_code_that_it_began_with(home: Path) -> None:
    """And is taken over by studies with that code alone; one of an older program says nothing of it."""

    def begun(name: str, budget: int, earlier: Sequence[str] = ()) -> str:
        space, runner = load_space(home / "space.yaml"), runner_of(sampler="random")
        judging = Judging(toy_search.cost_of, toy_search.Toy(), earlier=[home / each for each in earlier])
        return drive(space, runner, judging, budget=budget, folder=home / name, attributes={})

    begun("one", 2)
    (home / PLUGIN.name).write_text(PLUGIN.read_text() + "# changed\n")
    changed = r"the code of its plug-in plugin_block\.py is not what it was;"
    with pytest.raises(InputError, match=rf"^.*one: {changed} put it back, or start another study with --name$"):
        begun("one", 3)
    with pytest.raises(InputError, match=rf"^--warm-start .*one: {changed} leave it out$"):
        begun("two", 2, ["one"])
    (home / PLUGIN.name).write_text(PLUGIN.read_text())
    assert begun("one", 3).startswith("3 of 3")
    journal = home / "one" / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if b'"user_attr":{"code":' not in line))
    (home / PLUGIN.name).write_text(PLUGIN.read_text() + "# changed\n")
    assert begun("one", 4).startswith("4 of 4")
    assert begun("two", 4, ["one"]).startswith("4 of 4")


def test_what_a_plugin_breaks_is_told(home: Path) -> None:
    broken = home / "broken.py"
    broken.write_text("1 / 0")
    with pytest.raises(InputError, match=r"plug-in .*broken.py: ZeroDivisionError: division by zero"):
        load_plugins([broken])
    twice = home / "twice.py"
    twice.write_text("from hrsearch.registry import BLOCKS\n@BLOCKS.add('cross')\nclass Mine: ...\n")
    with pytest.raises(InputError, match=r"plug-in .*twice.py: block 'cross' is registered twice"):
        load_plugins([twice])
    copied = home / "copied.py"  # of the shipped block, the name of its class, too
    copied.write_text("from hrsearch.registry import BLOCKS\n@BLOCKS.add('cross')\nclass CrossBlock: ...\n")
    assert BLOCKS["cross"].__qualname__ == "CrossBlock"
    with pytest.raises(InputError, match=r"plug-in .*copied.py: block 'cross' is registered twice"):
        load_plugins([copied])
    with pytest.raises(InputError, match="no such file"):
        load_plugins([home / "absent.py"])
    with pytest.raises(InputError, match=r"space.yaml:3: plugins: expected a list of Python files, but got 'a.py'"):
        Space.parse(SPACE.replace("[plugin_block.py]", "a.py"), home / "space.yaml")
    (home / "net.yaml").write_text("plugins: [absent.py]\nnet: {stages: [], head: segformer}\n")
    with pytest.raises(InputError, match=r"net.yaml:1: plugins\[0\]: no such file"):
        load_arch(home / "net.yaml")


def test_an_installed_package_brings_blocks(home: Path) -> None:
    """Its entry point is loaded before the registry is asked; a broken one is one line."""
    facts = home / "extra-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[hrsearch.plugins]\nextra = plugin_block\n")
    space = SPACE.replace("plugins: [plugin_block.py]\n", "")
    (home / "space.yaml").write_text(space)
    assert hrsearch(home, "check", "space.yaml", "-n", "5", "--image", "64").returncode == 0
    (home / PLUGIN.name).write_text("import nothing_of_this_name")
    wrong = hrsearch(home, "check", "space.yaml", "-n", "5", "--image", "64")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1), wrong.stderr
    assert "plug-in plugin_block: ModuleNotFoundError" in wrong.stderr


def test_plug_ins_of_one_name_are_exported_side_by_side(home: Path) -> None:
    """Also one that is called as a file of the export is; and weights that are damaged are one line."""
    text = PLUGIN.read_text()
    for path, kind in (("a/model.py", "first"), ("b/model.py", "second")):
        (home / path).parent.mkdir()
        (home / path).write_text(text.replace('"contrast"', f'"{kind}"'))
    (home / "both.yaml").write_text(
        SPACE.replace("[plugin_block.py]", "[a/model.py, b/model.py]").replace("contrast", "second")
    )
    assert inside(home, "run", "both.yaml", "--runner", "runner.yaml", "--budget", "1").returncode == 0
    done = inside(home, "export", "both", "--to", "winner", "--format", "standalone")
    assert done.returncode == 0, done.stderr
    assert {"model.py", "model_2.py", "model_3.py"} <= {path.name for path in (home / "winner").iterdir()}
    for weights in (home / "studies/both/weights").iterdir():
        weights.write_bytes(weights.read_bytes()[:100])
    torn = inside(home, "export", "both", "--to", "torn")
    assert (torn.returncode, torn.stderr.count("\n")) == (2, 1)
    assert "cannot be read" in torn.stderr
