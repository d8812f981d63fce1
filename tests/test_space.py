# ruff: noqa: E501  (each case of the tables is one line)
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from hrsearch.api import default_runner
from hrsearch.arch import Arch
from hrsearch.document import shipped, shipped_file
from hrsearch.errors import InputError
from hrsearch.space import Knob, Space, load_arch, load_space

SMALL = """
task: segment
knobs:
  stages: [4, 5]
  width1: [16, 32]
  width2: [32, 64]
  depth2: [0, 1]
  window2: [2, 4]
require:
  - $width1 < $width2
net:
  blocks:
    fine: {kind: cross, window: 1, head_dim: 16, ratio: 2}
    coarse: {kind: cross, window: $window2, head_dim: 16, ratio: 2}
    two: {kind: hr}
  stages:
    - {when: $stages == 4, link: conv_stem, channels: 16, stride: 4}
    - {when: $stages == 5, link: hr_stem, channels: 16, stride: 4, depth: 1, block: two}
    - {when: $stages == 5, link: {kind: irds, variant: a}, channels: $width1, stride: 8}
    - {link: hrvit, channels: [$width1], depth: 1, block: fine, norm: layer}
    - {link: hrvit, channels: [$width1, $width2], depth: [1, $depth2], block: [fine, coarse], norm: layer, repeat: 2}
  head: {kind: segformer, width: 32}
"""


def changed(old: str, new: str) -> str:
    assert SMALL.count(old) == 1, old
    return SMALL.replace(old, new)


def first(knob: Knob) -> object:
    return knob.values[0]


def test_a_row_resolves_to_branches() -> None:
    arch = Space.parse(SMALL).arch({"stages": 4, "width1": 16, "width2": 64, "depth2": 1, "window2": 4})
    assert [len(stage.branches) for stage in arch.stages] == [1, 1, 2, 2]
    fine, coarse = arch.stages[-1].branches
    assert (fine.channels, fine.stride, fine.depth) == (16, 4, 1)
    assert (coarse.channels, coarse.stride, coarse.depth) == (64, 8, 1)
    assert coarse.block is not None
    assert coarse.block.keywords() == {"window": 4, "head_dim": 16, "ratio": 2.0}


def test_five_stages_shift_the_rest_an_octave() -> None:
    arch = Space.parse(SMALL).arch({"stages": 5, "width1": 16, "width2": 64, "depth2": 0})
    assert [stage.branches[0].stride for stage in arch.stages] == [4, 8, 8, 8, 8]


def test_a_knob_that_the_network_does_not_read_is_not_drawn() -> None:
    read = []

    def choose(knob: Knob) -> object:
        read.append(knob.name)
        return knob.values[1] if knob.name == "width2" else knob.values[0]

    draw = Space.parse(SMALL).draw(choose)  # type: ignore[arg-type]
    assert draw.arch is not None
    assert read == ["stages", "width1", "width2", "depth2"]  # depth2 is 0: no block, so no window
    assert list(draw.setting) == read


def test_a_requirement_refuses_before_anything_is_built() -> None:
    choices = {"stages": 4, "width1": 32, "width2": 32, "depth2": 0}
    draw = Space.parse(SMALL).draw(lambda knob: choices[knob.name])
    assert draw.arch is None
    assert draw.refused == "$width1 < $width2"


def test_a_requirement_refuses_what_no_network_can_be_resolved_of() -> None:
    """It may be there for that; without it, who wrote the space is told."""
    text = changed("depth: [1, $depth2]", "depth: [1, $width2 - $width1 - $depth2]")
    loose = text.replace("$width1 < $width2", "$width1 <= $width2")
    choices = {"stages": 4, "width1": 32, "width2": 32, "depth2": 1, "window2": 2}
    draw = Space.parse(text).draw(lambda knob: choices[knob.name])
    assert (draw.arch, draw.refused) == (None, "$width1 < $width2")
    with pytest.raises(InputError, match="expected a whole number of at least 0, but got -1"):
        Space.parse(loose).draw(lambda knob: choices[knob.name])


def test_the_head_of_another_task_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("net: {stages: [{link: conv_stem, channels: 16, stride: 4}], head: {kind: segformer, width: 32}}\n")
    assert load_arch(path).head.kind == "segformer"
    with pytest.raises(InputError, match="this one is for task 'segment', but 'classify' was asked for"):
        load_arch(path, "classify")


def test_identity_is_of_the_resolved_network() -> None:
    spelled = changed("two: {kind: hr}", "two: {kind: hr, ratio: 4}").replace("ratio: 2}", "ratio: 2.0}")
    setting = {"stages": 5, "width1": 16, "width2": 32, "depth2": 1, "window2": 2}
    assert Space.parse(SMALL).arch(setting).digest() == Space.parse(spelled).arch(setting).digest()
    other = Space.parse(SMALL).arch(setting | {"window2": 4})
    assert Space.parse(SMALL).arch(setting).digest() != other.digest()


def test_an_architecture_survives_json() -> None:
    arch = Space.parse(SMALL).sample(3)[1]
    assert Arch.from_dict(arch.to_dict()) == arch


def test_sampling_follows_the_seed() -> None:
    space = Space.parse(SMALL)
    assert space.sample(1) == space.sample(1)
    assert len({space.sample(seed)[1].digest() for seed in range(30)}) > 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("depth: 1, block: two", "depht: 1, block: two", "space.yaml:18: net.stages[1].depht: key 'depht' does not exist; did you mean 'depth'?"),
        ("knobs:", "knob:", "space.yaml:3: knob: key 'knob' does not exist; did you mean 'knobs'?"),
        ("task: segment", "task: segmnt", "space.yaml:2: task: task 'segmnt' does not exist; did you mean 'segment'?"),
        ("block: two}", "block: tow}", "space.yaml:18: net.stages[1].block: block 'tow' does not exist; did you mean 'two'?"),
        ("link: hr_stem", "link: hr_stm", "space.yaml:18: net.stages[1].link: link 'hr_stm' does not exist; did you mean 'hr_stem'?"),
        ("{kind: hr}", "{kind: hr, ration: 2}", "space.yaml:15: net.blocks.two.ration: key 'ration' does not exist; did you mean 'ratio'?"),
        ("window: $window2", "window: $windw2", "space.yaml:14: net.blocks.coarse.window: knob $windw2 does not exist; did you mean 'window2'?"),
        ("depth: [1, $depth2]", "depth: [1, 1]", "space.yaml:7: knobs.depth2: no network uses this knob; use it under net or remove it"),
        ("$width1 < $width2", "$width1 > $width2*2", "space.yaml:10: require[0]: '$width1 > $width2*2' holds for no values of its knobs (width1: [16, 32]; width2: [32, 64])"),
        ("$width1 < $width2", "$width1 < widht2", "space.yaml:10: require[0]: 'widht2' is no knob; a knob is written $widht2, a text in quotes"),
        ("$width1 < $width2", "1 % ($depth2 - 1) < 1", "space.yaml:10: require[0]: '1 % ($depth2 - 1) < 1' cannot be computed (integer modulo by zero)"),
        ("depth2: [0, 1]", "depth2: {from: 1, to: 0}", "space.yaml:7: knobs.depth2: from <= to and step > 0 must hold, but got from=1, to=0, step=1"),
        ("depth2: [0, 1]", "depth2: {from: 0, to: .inf}", "space.yaml:7: knobs.depth2: from, to and step must be finite, but got {'from': 0, 'to': inf}"),
        ("depth2: [0, 1]", "\u00b5: [0, 1]", "space.yaml:7: knobs.\u00b5: write this name as '\u03bc'"),
        ("task: segment", "task: 2024-99-99", "space.yaml: no valid YAML (month must be in 1..12)"),
        ("task: segment", f"task: {'[' * 3000}", "space.yaml: no valid YAML (maximum recursion depth exceeded"),
        ("$width1 < $width2", "$width1 < knob_width2", "space.yaml:10: require[0]: 'knob_width2' is no knob; a knob is written $knob_width2, a text in quotes"),
        ("depth2: [0, 1]", "depth2: [0, 0]", "space.yaml:7: knobs.depth2: each value once, but got [0, 0]"),
        ("task: segment", "task: segment\nknown: [hrvit_b9]", "space.yaml:3: known[0]: hrvit_b9: no such file, and no shipped spaces/nets entry of that name; did you mean 'hrvit_b3'?"),
        ("task: segment", "task: [", "no valid YAML"),
        ("head: {kind: segformer, width: 32}", "head: fcn\n  heads: {segment: fcn}", "space.yaml:11: net: expected either head (one for all tasks) or heads (one per task), not both"),
        ("head: {kind: segformer, width: 32}", "heads: {segmnt: fcn}", "net.heads.segmnt: key 'segmnt' does not exist; did you mean 'segment'?"),
        ("head: {kind: segformer, width: 32}", "heads: {pose: fcn}", "net.heads: no head for task 'segment'; choose from pose"),
    ],
)  # fmt: skip
def test_an_error_says_where_and_what_would_work(old: str, new: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        Space.parse(changed(old, new))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("depth: [1, $depth2]", "depth: [1, $depth2, 1]", "net.stages[4].depth: 3 values for 2 branches (channels: [$width1, $width2])"),
        ("window: $window2", "window: $window2 * 1.5", "net.blocks.coarse.window: expected a whole number, but got 3.0"),
        ("channels: 16, stride: 4, depth: 1", "channels: 0, stride: 4, depth: 1", "net.stages[1].channels: expected a whole number of at least 1, but got 0"),
        ("kind: segformer, width: 32", "kind: segformer, dropout: .nan", "net.head.dropout: expected a finite number, but got nan"),
        ("when: $stages == 4", "when: $stages", "net.stages[0].when: expected true or false, but got 5"),
        ("block: two", "block: $width1", "net.stages[1].block: block 16 does not exist; choose from"),
    ],
)  # fmt: skip
def test_an_error_of_a_drawn_value_says_where(old: str, new: str, message: str) -> None:
    choices = {"stages": 5, "width1": 16, "width2": 32, "depth2": 1, "window2": 2}
    with pytest.raises(InputError) as error:
        Space.parse(changed(old, new)).arch(choices)
    assert message in str(error.value)


def test_a_setting_must_fit() -> None:
    space = Space.parse(SMALL)
    with pytest.raises(InputError, match="knob 'widht1' does not exist; did you mean 'width1'"):
        space.arch({"widht1": 16})
    with pytest.raises(InputError, match="knob 'width1' has no value 17"):
        space.arch({"width1": 17})
    with pytest.raises(InputError, match="is read by this network but not set"):
        space.arch({"stages": 4})


def test_a_missing_file_names_what_exists(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file.*did you mean 'hrvit'"):
        load_space("hrvi")
    with pytest.raises(InputError, match="no such file"):
        load_space(tmp_path / "absent.yaml")


def test_a_network_has_no_knobs(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(SMALL)
    with pytest.raises(InputError, match="a network has no knobs"):
        load_arch(path)


def test_known_networks_have_names_of_their_own(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "net.yaml" for folder in ("a", "b")]
    for path, name in zip(paths, ("hrvit_b1", "hrvit_b2"), strict=True):
        path.parent.mkdir()
        shutil.copy(shipped("spaces/nets", name), path)
    text = changed("task: segment", f"task: segment\nknown:\n  - hrvit_b3\n  - {paths[0]}\n  - {paths[1]}")
    with pytest.raises(InputError, match=r"^space.yaml:6: known\[2\]: 'net' is the name of known\[1\], too: "):
        Space.parse(text)


def test_known_networks_are_different_ones(tmp_path: Path) -> None:
    shutil.copy(shipped("spaces/nets", "hrvit_b1"), tmp_path / "mine.yaml")
    text = changed("task: segment", f"task: segment\nknown: [hrvit_b2, hrvit_b1, {tmp_path / 'mine.yaml'}]")
    with pytest.raises(InputError, match=r"^space.yaml:3: known\[2\]: 'mine' is the same network as 'hrvit_b1'; leave"):
        Space.parse(text)


def test_known_networks_are_found_beside_the_space(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    shutil.copy(shipped("spaces/nets", "hrvit_b1"), tmp_path / "there/mine.yaml")
    (tmp_path / "there/space.yaml").write_text(changed("task: segment", "task: segment\nknown: [mine.yaml]"))
    assert [name for name, _ in load_space(tmp_path / "there/space.yaml").known] == ["mine"]


def test_a_space_may_say_how_it_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a shipped runner or by one beside it, for each kind of device; --runner has the last word."""
    costs = import_module("hrsearch.cost")
    monkeypatch.setattr(costs, "has_cuda", lambda: False)
    assert default_runner(Space.parse(SMALL)) == "laptop"
    (tmp_path / "mine.yaml").write_text("device: cpu\n")
    space = Space.parse("runners: {cpu: mine.yaml, cuda: smoke}\n" + SMALL, tmp_path / "space.yaml")
    assert default_runner(space) == tmp_path / "mine.yaml"
    monkeypatch.setattr(costs, "has_cuda", lambda: True)
    assert default_runner(space) == shipped("runners", "smoke")
    assert default_runner(Space.parse("runners: {cpu: smoke}\n" + SMALL)) == "gpu"
    (tmp_path / "laptop").write_text("no runner")
    monkeypatch.chdir(tmp_path)  # what lies where the command is typed is not what a space speaks of
    elsewhere = Space.parse("runners: {cuda: laptop}\n" + SMALL, Path("spaces/space.yaml"))
    assert default_runner(elsewhere) == shipped_file("runners", "laptop")
    assert default_runner(Space.parse("runners:\n" + SMALL)) == "gpu"
    for wrong, words in (
        ("{cpu: smok}", "did you mean 'smoke'?"),
        ("{gpu: smoke}", "did you mean 'cpu'?"),
        ("[]", "expected a mapping, but got []"),
        ("0", "expected a mapping, but got 0"),
    ):
        with pytest.raises(InputError, match=rf"^space\.yaml:1: runners.*{re.escape(words)}$"):
            Space.parse(f"runners: {wrong}\n{SMALL}")


def test_shipped_spaces_load_and_know_their_networks() -> None:
    space = load_space("hrvit")
    assert [name for name, _ in space.known] == ["hrvit_b1"]
    assert space.known[0][1].head.kind == "segformer"
    assert load_arch("hrvit_b1").head.kind == "classify_hr"
