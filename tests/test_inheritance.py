"""Candidates that begin with a relative's weights: what is copied, whose, and that it is the same when run again."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from archs import part
from safetensors.torch import load_file, save_file
from torch import nn
from toy_search import judgement, rows_of, search

from hrsearch.api import _keep_front_weights
from hrsearch.arch import Arch, Branch, Map, Stage
from hrsearch.candidate import Candidate, Judgement, weights_path
from hrsearch.evaluate import Evaluate
from hrsearch.nets.heads import Classify, Concatenation, SegFormer
from hrsearch.nets.hrformer import WindowAttention
from hrsearch.nets.hrvit import CrossAttention, KroneckerShortcut, MixedFeedForward
from hrsearch.nets.ocr import ObjectContext
from hrsearch.nets.transformer import GlobalAttention
from hrsearch.nets.uper import UnifiedPerception
from hrsearch.proxy.checkpoint import write_weights
from hrsearch.proxy.inheritance import inherit, overlap
from hrsearch.registry import BLOCKS, HEADS, LINKS
from hrsearch.runner import Runner
from hrsearch.search.ledger import open_ledger
from hrsearch.search.relatives import relative_of
from hrsearch.space import load_arch
from hrsearch.study import Record, Trial, read_study


def donated(network: nn.Module, donor: nn.Module, path: Path) -> dict[str, torch.Tensor]:
    """What the network had before; now it has inherited."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    write_weights(path, donor)
    inherit(network, path)
    return before


def test_the_same_network_is_copied(tmp_path: Path) -> None:
    donor, network = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)) for _ in range(2))
    donor.get_buffer("1.running_mean").add_(1)
    donated(network, donor, tmp_path / "donor")
    assert overlap(network, tmp_path / "donor") == 1
    assert all(torch.equal(tensor, donor.state_dict()[name]) for name, tensor in network.state_dict().items())


def test_the_first_channels_of_the_wider_are_taken(tmp_path: Path) -> None:
    wide, narrow = nn.Conv2d(4, 8, 3), nn.Conv2d(2, 6, 3)
    given = donated(wide, narrow, tmp_path / "narrow")["weight"]
    assert torch.equal(wide.weight[:6, :2], narrow.weight)
    assert torch.equal(wide.weight[6:], given[6:])
    assert torch.equal(wide.weight[:, 2:], given[:, 2:])
    assert overlap(wide, tmp_path / "narrow") == pytest.approx((6 * 2 * 9 + 6) / (8 * 4 * 9 + 8))
    donor = nn.Conv2d(4, 8, 3)
    donated(narrow, donor, tmp_path / "wide")
    assert torch.equal(narrow.weight, donor.weight[:6, :2])
    assert torch.equal(narrow.bias, donor.bias[:6])  # type: ignore[arg-type, index]


def test_the_first_blocks_of_the_deeper_are_taken_and_no_part_of_a_kernel(tmp_path: Path) -> None:
    deep = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 5), nn.Conv2d(3, 3, 1))
    donor = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3))
    before = donated(deep, donor, tmp_path / "donor")
    same = {name for name, tensor in deep.state_dict().items() if torch.equal(tensor, before[name])}
    assert same == {"1.weight", "2.weight", "2.bias"}


MAPS = {width: [Map(width, 4), Map(2 * width, 8)] for width in (8, 16)}


@pytest.mark.parametrize(
    "made",
    [
        lambda wide: WindowAttention(32 if wide else 16, window=3, head_dim=8, position=True),
        lambda wide: GlobalAttention(32 if wide else 16, head_dim=8, reduction=1),
        lambda wide: CrossAttention(64 if wide else 32, window=2, head_dim=16),
        lambda wide: MixedFeedForward(32 if wide else 16, ratio=2),
        lambda wide: Classify(MAPS[16 if wide else 8], 5),
        lambda wide: SegFormer(MAPS[16 if wide else 8], 5, width=32 if wide else 16),
        lambda wide: Concatenation(MAPS[16 if wide else 8], 5),
        lambda wide: UnifiedPerception(MAPS[16 if wide else 8], 5, width=32 if wide else 16),
        lambda wide: ObjectContext(MAPS[16 if wide else 8], 5, width=16),
    ],
    ids=["windows", "global", "cross", "mixed", "classify", "segformer", "fcn", "uper", "ocr"],
)
def test_a_wider_one_computes_what_the_narrow_one_does(made: Callable[[bool], nn.Module], tmp_path: Path) -> None:
    """With zeros in all that it did not take over, and in the channels that the narrow one has not."""
    narrow, wide = (made(is_wide).double().eval() for is_wide in (False, True))
    for parameter in narrow.parameters():
        nn.init.normal_(parameter, std=0.3)
    for parameter in wide.parameters():
        nn.init.zeros_(parameter)
    donated(wide, narrow, tmp_path / "narrow")
    channels = getattr(narrow, "channels", 16)
    if hasattr(narrow, "inputs"):
        given = [torch.randn(2, each.channels, side, side).double() for each, side in zip(MAPS[8], (8, 4), strict=True)]
        padded = [F.pad(each, (0, 0, 0, 0, 0, each.shape[1])) for each in given]
        torch.testing.assert_close(wide(padded), narrow(given), rtol=1e-9, atol=1e-12)
    else:
        tokens = torch.randn(2, 6, 6, channels).double()
        found = wide(F.pad(tokens, (0, channels)))[..., :channels]
        torch.testing.assert_close(found, narrow(tokens), rtol=1e-9, atol=1e-12)


def test_what_lies_elsewhere_in_a_network_of_another_size_is_not_taken(tmp_path: Path) -> None:
    """Distances in a window, and the channels that a Kronecker shortcut sees as a matrix."""
    small, large = (WindowAttention(16, window=window, head_dim=8, position=True) for window in (3, 5))
    table = donated(large, small, tmp_path / "small")["position.table"]
    assert torch.equal(large.get_parameter("position.table"), table)
    torch.testing.assert_close(large.query_key_value.weight, small.query_key_value.weight)
    narrow, wide = KroneckerShortcut(64), KroneckerShortcut(128)  # 8 x 8 and 8 x 16
    before = donated(wide, narrow, tmp_path / "narrow")
    assert all(torch.equal(each, before[name]) for name, each in wide.state_dict().items() if "right" in name)
    assert torch.equal(wide.left.weight, narrow.left.weight)


def test_a_file_that_does_not_say_what_its_tensors_hold_gives_only_the_others(tmp_path: Path) -> None:
    donor, network = (WindowAttention(16, window=3, head_dim=8, position=False) for _ in range(2))
    save_file(donor.state_dict(), tmp_path / "old")
    before = network.query_key_value.weight.clone()
    inherit(network, tmp_path / "old")
    assert torch.equal(network.query_key_value.weight, before)
    assert torch.equal(network.output.weight, donor.output.weight)


# Whose.


def trial(number: int, knobs: Mapping[str, Any], arch: Arch, score: float, flops: float) -> Trial:
    attributes = {"arch": arch.to_dict(), "score": {"value": score}, "flops": flops}
    return Trial(number, "trained", knobs, attributes, (score, flops), None, None)


def test_the_nearest_of_the_front_that_has_weights_and_is_of_the_family(tmp_path: Path) -> None:
    hrvit, other = load_arch("hrvit_b1", task="segment"), load_arch("hrformer_t", task="segment")
    trials = (
        trial(0, {"a": 1, "b": 1}, hrvit, 0.1, 1),
        trial(1, {"a": 1, "b": 2, "c": 3}, hrvit, 0.2, 2),
        trial(2, {"a": 1, "b": 2}, other, 0.3, 3),
        trial(3, {"a": 1, "b": 2}, hrvit, 0.4, 4),  # without weights
        trial(4, {"a": 1, "b": 2}, hrvit, 0.1, 5),  # not on the front
    )
    record = Record("toy", tmp_path, {"objectives": ["score", "flops"], "limits": []}, trials)
    assert relative_of({"a": 1, "b": 2}, hrvit, record) is None
    (tmp_path / "weights").mkdir()
    for number in (0, 1, 2, 4):
        weights_path(tmp_path, number).touch()
    assert relative_of({"a": 1, "b": 2}, hrvit, record) == 0  # as far as 1, which reads another knob
    assert relative_of({"a": 1, "b": 2, "c": 3}, hrvit, record) == 1
    assert relative_of({"a": 1, "b": 1}, other, record) == 2
    assert relative_of({"a": 1, "b": 1}, load_arch("hrnet_w18_small"), record) is None


def kept(candidate: Candidate) -> Judgement:
    """The toy's candidate, which leaves weights and notes with whose it began."""
    with (candidate.folder / "relatives").open("a") as notes:
        notes.write(f"{candidate.number} {candidate.relative}\n")
    path = weights_path(candidate.folder, candidate.number)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return judgement(candidate)


def interrupted(candidate: Candidate) -> Judgement:
    if candidate.number >= 6:
        kept(candidate)
        raise KeyboardInterrupt
    return kept(candidate)


def test_a_search_chooses_once_and_proposes_as_without(tmp_path: Path) -> None:
    """Interrupted and resumed it chooses the same; without `inherit` it chooses none."""
    for name, inherits in (("whole", True), ("off", False)):
        search(tmp_path / name, 9, kept, inherit=inherits)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "resumed", 9, interrupted, inherit=True)
    search(tmp_path / "resumed", 9, kept, inherit=True)
    whole, off, resumed = (read_study(tmp_path / name) for name in ("whole", "off", "resumed"))
    assert rows_of(whole) == rows_of(off) == rows_of(resumed)
    relatives = {one.number: one.attributes.get("relative") for one in whole.trials}
    assert relatives == {one.number: one.attributes.get("relative") for one in resumed.trials}
    assert not any("relative" in one.attributes for one in off.trials)
    trained = [one.number for one in whole.trained]
    assert relatives[trained[0]] is None
    assert all(relatives[number] in trained[:place] for place, number in enumerate(trained) if place)
    noted = [line.split() for line in (tmp_path / "resumed" / "relatives").read_text().splitlines()]
    assert len(noted) == 10  # one candidate began twice
    assert all(relative == str(relatives[int(number)]) for number, relative in noted)


def test_weights_of_what_a_limit_refused_once_it_was_trained_are_removed(tmp_path: Path) -> None:
    def evaluate(candidate: Candidate) -> Judgement:
        weights_path(candidate.folder, candidate.number).parent.mkdir(exist_ok=True)
        weights_path(candidate.folder, candidate.number).touch()
        return judgement(candidate, score={"value": candidate.number % 2 / 2, "loss": 1.0})

    search(tmp_path / "toy", 6, evaluate, limits=("score>=0.4",), objectives=("score",))
    record = read_study(tmp_path / "toy")
    _keep_front_weights(record.folder)
    kept = {weights_path(record.folder, one.number).name for one in record.front()}
    assert {path.name for path in weights_path(record.folder, 0).parent.iterdir()} == kept


def test_weights_that_a_candidate_begins_with_stay_until_it_has_ended(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "toy", 9, interrupted, inherit=True, objectives=("score",))
    record = read_study(tmp_path / "toy")
    front = {one.number for one in record.front()}
    worse, another = [one.number for one in record.trained if one.number not in front][:2]
    (running,) = [one.number for one in record.trials if one.state == "running"]
    ledger = open_ledger(record.folder, record.objectives, record.attributes)
    ledger.update(running, {"relative": worse})
    _keep_front_weights(record.folder)
    assert weights_path(record.folder, worse).exists()
    assert not weights_path(record.folder, another).exists()
    ledger.finish(running, {"outcome": "failed", "reason": "as the test has it"})
    _keep_front_weights(record.folder)
    assert not weights_path(record.folder, worse).exists()


# And in the worker.


def small(width: int) -> Arch:
    block = part(BLOCKS, "hr")
    stem = Stage(part(LINKS, "conv_stem"), (Branch(8, 4, 0),))
    return Arch((stem, Stage(part(LINKS, "hrvit"), (Branch(width, 4, 1, block),))), part(HEADS, "segformer", width=8))


def test_a_worker_begins_with_the_relatives_weights(tmp_path: Path) -> None:
    """At a rate at which nothing moves, they are what it ends with."""
    proxy = {"image": 32, "batch": 4, "steps": 1, "warmup": 0, "rate": 1e-12, "train_images": 16, "val_images": 4}
    runner = Runner.model_validate({"proxy": proxy, "measure": {"image": [32, 32], "seconds": 0.05}})
    narrow, wide = small(8), small(16)
    judge = Evaluate(runner, reference_ms=1.0)
    judge(Candidate(0, narrow.digest(), narrow, 0, tmp_path))
    alone = Candidate(1, wide.digest(), wide, 1, tmp_path)
    for candidate in (alone, replace(alone, number=2, relative=0)):
        judge(candidate)
    given, without, found = (load_file(weights_path(tmp_path, number)) for number in range(3))
    name = "head.project.0.weight"
    torch.testing.assert_close(found[name][:, :8], given[name])
    torch.testing.assert_close(found[name][:, 8:], without[name][:, 8:])
    assert not torch.allclose(without[name][:, :8], given[name])
