"""What `task:` picks: heads by default, the heads of the shipped spaces, those of published networks."""

from pathlib import Path

import pytest
import torch

from hrsearch.arch import Part
from hrsearch.build import build
from hrsearch.errors import InputError
from hrsearch.registry import HEADS
from hrsearch.space import Space, load_arch, load_space, load_task
from hrsearch.task import TASKS

BARE = """
task: segment
knobs: {width: [8, 16]}
net:
  stages:
    - {link: conv_stem, channels: $width, stride: 4}
"""
# Of the networks that seeds 0 and 1 drew, and of the published ones, before spaces had a head for each task.
DIGESTS = {
    "hrvit": ["8a6f66c4f81becdd", "fd84fb1a92c37554", "59656540a684fd73"],
    "hrnet": ["9b58b8151bec6d2c", "4a4d3ec84c57c4fc", "7f43e9d1c6ff7aa2"],
    "hrformer": ["20db7a490091a8c1", "4f1f888684e6d9f1", "1689a7367f0355d5"],
    "hirivit": ["3844cdffb1fd9494", "889e5337c1e8d324", "efce37848ff29e3e"],
    "mixed": ["3330d8fafd0c306e", "62dbc4c78eef1064", "59656540a684fd73", "7f43e9d1c6ff7aa2"],
}


def default(task: str) -> Part:
    kind = TASKS[task].head
    return Part.of(kind, HEADS.options(kind))


@pytest.mark.parametrize("name", DIGESTS)
def test_segmentation_networks_are_what_they_were(name: str) -> None:
    space = load_space(name)
    drawn = [space.sample(seed)[1] for seed in (0, 1)]
    assert [arch.digest() for arch in (*drawn, *dict(space.known).values())] == DIGESTS[name]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", DIGESTS)
def test_shipped_spaces_have_every_task(name: str, task: str) -> None:
    """Every one of their networks, the published among them, predicts what the task asks for."""
    space = load_space(name, task)
    assert (space.task, space.name) == (task, name if task == "segment" else f"{name}_{task}")
    for arch in (space.sample(0)[1], *dict(space.known).values()):
        with torch.inference_mode():
            prediction = build(arch, classes=5).eval()(torch.zeros(1, 3, 64, 64))
        assert prediction.shape[:2] == (1, 5)
        assert prediction.ndim == (2 if task == "classify" else 4)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_picks_a_head(task: str, tmp_path: Path) -> None:
    text = BARE.replace("segment", task)
    assert Space.parse(text).sample(0)[1].head == default(task)
    assert Space.parse(BARE).for_task(task).sample(0)[1].head == default(task)
    path = tmp_path / "plain.yaml"
    path.write_text(text.replace("knobs: {width: [8, 16]}\n", "").replace("$width", "8"))
    assert load_arch(path).head == default(task)
    assert load_task(path) == task


def test_a_published_network_has_its_own_head_where_it_can() -> None:
    known = dict(Space.parse(f"known: [hrvit_b1]{BARE}").for_task("classify").known)
    assert known["hrvit_b1"] == load_arch("hrvit_b1", task="classify")
    posed = dict(Space.parse(f"known: [hrvit_b1, hrnet_w32_pose]{BARE}").for_task("pose").known)
    assert posed["hrvit_b1"].head == default("pose")
    assert posed["hrvit_b1"].stages == known["hrvit_b1"].stages
    assert posed["hrnet_w32_pose"] == load_arch("hrnet_w32_pose")


def test_a_head_of_a_known_network_is_for_the_task_that_its_file_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("task: classify\nnet: {stages: [{link: conv_stem, channels: 8, stride: 4}], head: classify_norm}\n")
    space = Space.parse(f"known: [{path}]{BARE}")
    assert dict(space.known)["mine"].head == default("segment")
    assert dict(space.for_task("classify").known)["mine"].head.kind == "classify_norm"


def test_a_task_that_a_space_cannot_serve_is_told() -> None:
    one = f"{BARE}  head: fcn\n"
    assert Space.parse(one).for_task("segment").sample(0)[1].head.kind == "fcn"
    with pytest.raises(
        InputError, match=r"net\.head: this one is for task 'segment', but 'pose' was asked for; give heads"
    ):
        Space.parse(one).for_task("pose")
    with pytest.raises(InputError, match=r"net\.heads: no head for task 'pose'; choose from segment"):
        Space.parse(f"{BARE}  heads: {{segment: fcn}}\n").for_task("pose")
    for load in (load_space, load_arch):
        with pytest.raises(InputError, match="task 'poses' does not exist; did you mean 'pose'"):
            load("hrvit" if load is load_space else "hrvit_b1", "poses")
    with pytest.raises(InputError, match="task 'poses' does not exist"):
        Space.parse(BARE).for_task("poses")
