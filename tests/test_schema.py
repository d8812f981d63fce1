"""The schemas that editors read say what the loaders say, and are those of the registries."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from inside import inside
from jsonschema import Draft202012Validator

from hrsearch import doctor
from hrsearch.errors import InputError
from hrsearch.grammar import yaml_of
from hrsearch.runner import Proxy, load_runner
from hrsearch.schema import schema_of
from hrsearch.space import load_arch, load_space
from hrsearch.train.recipe import default_recipe, load_recipe

ROOT = Path(__file__).parent.parent
FOLDERS = ("benchmarks", "recipes", "reports", "runners", "spaces")  # that hold YAML files
SPACES = sorted((ROOT / "spaces").glob("*.yaml"))
NETS = sorted((ROOT / "spaces" / "nets").glob("*.yaml"))
SHIPPED = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.yaml"))
KINDS = {"recipes": "recipe", "runners": "runner", "runner.yaml": "runner"}  # by the folder or the file; else spaces
VALIDATORS = {what: Draft202012Validator(schema_of(what)) for what in ("space", "runner", "recipe")}


def of(path: Path) -> str:
    return KINDS.get(path.parent.name) or KINDS.get(path.name, "space")


@pytest.mark.parametrize("what", VALIDATORS)
def test_committed_schema_is_that_of_the_registries(what: str) -> None:
    """In a process of its own: other tests register blocks of theirs."""
    Draft202012Validator.check_schema(schema_of(what))
    command = [sys.executable, "-m", "hrsearch", "schema", what]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    committed = (ROOT / "schemas" / f"{what}.json").read_text(encoding="utf-8")
    assert json.loads(committed) == json.loads(printed), f"hrsearch schema {what} > schemas/{what}.json"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_files_keep_the_schema_and_name_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [error.message for error in VALIDATORS[of(path)].iter_errors(yaml.safe_load(text))] == []
    (line,) = [line for line in text.splitlines() if line.startswith("# yaml-language-server: $schema=")]
    assert (path.parent / line.partition("=")[2]).resolve() == ROOT / "schemas" / f"{of(path)}.json"


def test_what_hrsearch_writes_keeps_the_schema() -> None:
    for path in SPACES:
        space = load_space(path.stem)
        for seed in range(3):
            written = yaml.safe_load(yaml_of(space.sample(seed)[1], space.task))
            assert VALIDATORS["space"].is_valid(written)


def changed(path: Path, change: Callable[[Any], None]) -> Any:
    data = deepcopy(yaml.safe_load(path.read_text(encoding="utf-8")))
    change(data)
    return data


WRONG: dict[str, tuple[str, Callable[[Any], None]]] = {
    "unknown key": ("hrvit", lambda data: data.update(knob={})),
    "unknown task": ("hrvit", lambda data: data.update(task="sing")),
    "no net": ("hrvit", lambda data: data.pop("net")),
    "unknown row key": ("hrvit", lambda data: data["net"]["stages"][0].update(chanels=3)),
    "unknown link": ("hrvit", lambda data: data["net"]["stages"][0].update(link="chain")),
    "row without a link": ("hrvit", lambda data: data["net"]["stages"][0].pop("link")),
    "channels below 1": ("hrnet_w18", lambda data: data["net"]["stages"][0].update(channels=0)),
    "unknown norm": ("hrnet_w18", lambda data: data["net"]["stages"][0].update(norm="group")),
    "unknown option": ("hrvit_b1", lambda data: data["net"]["blocks"].update(fine={"kind": "cross", "windw": 1})),
    "option of another type": (
        "hrvit_b1",
        lambda data: data["net"]["blocks"].update(fine={"kind": "hr", "ratio": "x"}),
    ),
    "no values": ("hrvit", lambda data: data["knobs"].update(stages=[])),
    "a range without its end": ("hrvit", lambda data: data["knobs"].update(stages={"from": 4})),
    "a rule without a knob": ("hrvit", lambda data: data.update(require=["1 < 2"])),
}
WRONG_RUNNERS: dict[str, Callable[[Any], None]] = {
    "unknown section": lambda data: data.update(proxi={}),
    "unknown setting": lambda data: data["proxy"].update(imge=64),
    "no such precision": lambda data: data["proxy"].update(precision="fp8"),
    "steps below 1": lambda data: data["proxy"].update(steps=0),
}
WRONG_RECIPES: dict[str, Callable[[Any], None]] = {
    "unknown key": lambda data: data.update(batsch=16),
    "no such schedule": lambda data: data.update(schedule="linear"),
    "unknown task": lambda data: data.update(task="sing"),
    "unknown family": lambda data: data.update(families={"resnet": {}}),
    "unknown key of a family": lambda data: data.update(families={"hrvit": {"rat": 1}}),
    "families without a task": lambda data: data.update(families={}) or data.pop("task"),
}


@pytest.mark.parametrize("case", WRONG)
def test_schema_and_loader_refuse_the_same_spaces(case: str, tmp_path: Path) -> None:
    name, change = WRONG[case]
    path = next(path for path in [*SPACES, *NETS] if path.stem == name)
    data = changed(path, change)
    assert not VALIDATORS["space"].is_valid(data)
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(InputError):
        (load_space if path in SPACES else load_arch)(tmp_path / "wrong.yaml")


@pytest.mark.parametrize("case", WRONG_RUNNERS)
def test_schema_and_loader_refuse_the_same_runners(case: str, tmp_path: Path) -> None:
    data = changed(ROOT / "runners" / "laptop.yaml", WRONG_RUNNERS[case])
    assert not VALIDATORS["runner"].is_valid(data)
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(InputError):
        load_runner(tmp_path / "wrong.yaml")


@pytest.mark.parametrize("case", WRONG_RECIPES)
def test_schema_and_loader_refuse_the_same_recipes(case: str, tmp_path: Path) -> None:
    data = changed(ROOT / "recipes" / "imagenet.yaml", WRONG_RECIPES[case])
    assert not VALIDATORS["recipe"].is_valid(data)
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(InputError):
        load_recipe(tmp_path / "train.yaml", named=str(tmp_path / "wrong.yaml"), arch=load_arch("hrvit_b1"))


def test_a_recipe_beside_an_export_keeps_the_schema() -> None:
    written = yaml.safe_load(yaml.safe_dump(default_recipe(Proxy(), "digits").model_dump(mode="json")))
    assert VALIDATORS["recipe"].is_valid(written)


def test_schema_is_printed(tmp_path: Path) -> None:
    assert json.loads(inside(tmp_path, "schema", "runner").stdout)["title"] == "A way to judge candidates"
    refused = inside(tmp_path, "schema", "sing")
    assert (refused.returncode, "choose from space, runner, recipe" in refused.stderr) == (2, True)


def test_doctor_says_what_works_and_what_is_missing(tmp_path: Path) -> None:
    done = inside(tmp_path, "doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0
    assert findings["latency engine eager"]["state"] == "ok"
    assert findings["a network"]["state"] == "ok"
    assert all(findings[package]["state"] == "ok" for package in doctor.NEEDED)
    assert sum("latency engine" in what and "cuda" in what for what in findings) in (1, 6)  # without a GPU and with
    assert "plotly" not in findings


def test_doctor_looks_for_what_hrsearch_depends_on() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert list(doctor.NEEDED) == [re.split(r"[<>=\[ ]", each)[0] for each in asked]


def test_doctor_finds_what_is_broken_without_falling_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.NEEDED, "no-such-package", "no_such_package")
    done = inside(tmp_path, "doctor")
    assert "broken   no-such-package: not installed; pip install no-such-package\n" in done.stdout
    assert done.returncode == 1
    code = "import sys; sys.modules['torch'] = None; from hrsearch.cli import main; main(['doctor'])"
    halted = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (halted.returncode, halted.stderr) == (1, "")
    assert "broken   torch: import of torch halted" in halted.stdout
