"""A step of long training: in parts, over processes, computed again, averaged, taught by the average."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from winners import ARCH, exported, require_same, table

from hrsearch.build import Network, build
from hrsearch.errors import InputError
from hrsearch.proxy.data import Dataset, Split, load_dataset
from hrsearch.proxy.learning import learner_of, predictions_of, seen
from hrsearch.proxy.muon import Muon
from hrsearch.space import load_arch
from hrsearch.train import Recipe, train
from hrsearch.train.averaging import Average
from hrsearch.train.checkpointing import checkpointed
from hrsearch.train.distill import share_at, taught
from hrsearch.train.distributed import Team, shared
from hrsearch.train.steps import Trainer, learn

PLAIN = ARCH.replace("width: 8}", "width: 8, dropout: 0.0}")  # nothing is drawn at random in training
SMALL = Recipe(optimizer="adamw", batch=8, image=32, warmup=0, steps=10, drop_path=0.0)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)


def network_of(tmp_path: Path, arch: str = PLAIN) -> Network:
    (tmp_path / "arch.yaml").write_text(arch)
    torch.manual_seed(1)
    return build(load_arch(tmp_path / "arch.yaml"), classes=11)


def scenes() -> Dataset:
    return load_dataset("digits", image=32, train_images=16, val_images=2)


def uneven(data: Dataset) -> Split:
    """A batch of which the first half has few labelled pixels, so that a mean of means is another."""
    labels = data.train.labels[:8].clone()
    labels[:4, 4:] = 255
    return Split(data.train.images[:8], labels)


def trainer_of(network: Network, data: Dataset, recipe: Recipe) -> Trainer:
    average = Average(network, recipe.ema) if recipe.ema else None
    learner = learner_of(network, data, recipe, CPU)
    return Trainer(learner, shared(network, Team(), CPU, compiled=False), average, Team())


def gradients(network: Network) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_has_the_loss_and_the_gradients_of_the_whole(tmp_path: Path, parts: int) -> None:
    data, found = scenes(), []
    for recipe in (SMALL, SMALL.model_copy(update={"accumulate": parts})):
        network = network_of(tmp_path)
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum, module.eps = 0.0, 1e9  # so large that what they see does not matter
        loss = learn(trainer_of(network, data, recipe), data, recipe, step=0, given=uneven(data))
        found.append((loss, gradients(network)))
    (whole, ours), (divided, theirs) = found
    assert divided == pytest.approx(whole, rel=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-6)


def doubled(network: Network) -> Network:
    """Of 64 bits, without norms over the images of a part."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.modules.batchnorm._BatchNorm):
                setattr(module, name, torch.nn.Identity())
    return network.double()


def predicted_in_double(network: Network, images: Tensor) -> list[Tensor]:
    return predictions_of(network, images.double())


def test_hard_pixels_in_parts_have_the_loss_and_the_gradients_of_the_whole(tmp_path: Path) -> None:
    """Though one part has more of them than the other."""
    data, found = scenes(), []
    hard = SMALL.model_copy(update={"ohem": 0.09, "ohem_keep": 1})
    for recipe in (hard, hard.model_copy(update={"accumulate": 2})):
        network = doubled(network_of(tmp_path))
        learner = learner_of(network, data, recipe, CPU)
        learner = replace(learner, weights=learner.weights.double())
        trainer = Trainer(learner, partial(predicted_in_double, network), None, Team())
        found.append((learn(trainer, data, recipe, step=0, given=uneven(data)), gradients(network)))
    (whole, ours), (divided, theirs) = found
    assert divided == pytest.approx(whole, rel=1e-9)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)


def test_looking_ahead_for_hard_pixels_leaves_nothing(tmp_path: Path) -> None:
    """Batch norms have seen each part once, and the same is drawn, as without."""
    data, states = scenes(), []
    for recipe in (SMALL, SMALL.model_copy(update={"ohem": 0.9})):
        recipe = recipe.model_copy(update={"accumulate": 2})
        torch.manual_seed(1)
        (tmp_path / "arch.yaml").write_text(ARCH)
        network = build(load_arch(tmp_path / "arch.yaml"), classes=11, drop_path=0.5)
        learn(trainer_of(network, data, recipe), data, recipe, step=0, given=uneven(data))
        states.append((dict(network.named_buffers()), torch.random.get_rng_state()))
    assert all(torch.equal(states[0][0][name], buffer) for name, buffer in states[1][0].items())
    assert torch.equal(states[0][1], states[1][1])


@pytest.mark.parametrize("how", [{"batch": 1}, {"batch": 4, "accumulate": 4}])
def test_a_norm_behind_pooling_needs_two_images_at_a_time(tmp_path: Path, how: dict[str, int]) -> None:
    winner = exported(tmp_path / "winner", ARCH.replace("segformer, width: 8", "uper, width: 8, auxiliary: false"))
    with pytest.raises(InputError, match=r"need at least 2 images at a time to train, but got 1; give a larger batch"):
        train(winner, settings=how, device="cpu")


def noted(kept: list[Tensor], tensor: Tensor) -> Tensor:
    kept.append(tensor)
    return tensor


def test_checkpointed_blocks_train_as_others(tmp_path: Path) -> None:
    """To the bit, with dropped paths and with the batch norms' statistics, which must move once."""
    data, states, saved = scenes(), [], []
    for is_checkpointed in (False, True):
        torch.manual_seed(1)
        (tmp_path / "arch.yaml").write_text(PLAIN)
        network = build(load_arch(tmp_path / "arch.yaml"), classes=11, drop_path=0.5)
        if is_checkpointed:
            checkpointed(network)
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(partial(noted, kept), lambda tensor: tensor):
            learn(trainer_of(network, data, SMALL), data, SMALL, step=3, given=uneven(data))
        saved.append(sum(each.nbytes for each in kept))
        states.append(network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert saved[1] < saved[0]


# The average and what it teaches.


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    network = network_of(tmp_path)
    average = Average(network, 0.9)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for tensor in network.state_dict().values():
        tensor.add_(1)
    for steps, decay in ((1, 2 / 11), (1000, 0.9)):  # short at first, then the recipe's
        average.network.load_state_dict(before)
        average.update(network, steps)
        for name, tensor in average.network.state_dict().items():
            wanted = before[name] + (1 - decay if tensor.is_floating_point() else 1)
            torch.testing.assert_close(tensor, wanted)


def test_the_loss_of_distillation_is_as_written() -> None:
    student = torch.tensor([[1.0, 0.0, -1.0], [0.2, 0.4, 0.0]])
    teacher = torch.tensor([[0.0, 2.0, 0.0], [0.2, 0.4, 0.0]])
    loss = torch.tensor(0.7)
    recipe = SMALL.model_copy(update={"ema": 0.9, "distill": 0.5, "temperature": 2.0})
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    apart = float((p * (p / q).log()).sum(1).mean())
    assert float(taught(loss, student, teacher, recipe, 0.25)) == pytest.approx(0.75 * 0.7 + 0.25 * 4 * apart, rel=1e-5)
    added = recipe.model_copy(update={"distill_as": "sum"})
    assert float(taught(loss, student, teacher, added, 0.25)) == pytest.approx(0.7 + 0.25 * 4 * apart, rel=1e-5)
    assert float(taught(loss, student, student, recipe, 0.25)) == pytest.approx(0.75 * 0.7)
    maps = [logits.T[None, :, :, None] for logits in (student, teacher)]  # two cells of one image
    assert float(taught(loss, maps[0], maps[1], recipe, 0.25)) == pytest.approx(0.75 * 0.7 + apart, rel=1e-5)


def test_the_teacher_grows_with_the_warm_up() -> None:
    recipe = SMALL.model_copy(update={"ema": 0.9, "distill": 0.5, "warmup": 4})
    assert [share_at(recipe, step) for step in (0, 2, 4, 9)] == [0, 0.25, 0.5, 0.5]


def test_the_teacher_is_the_average(tmp_path: Path) -> None:
    """The loss of a step is that of the average's prediction; without a share it is the plain one."""
    data = scenes()
    recipe = SMALL.model_copy(update={"ema": 0.5, "distill": 1.0})
    network = network_of(tmp_path)
    trainer = trainer_of(network, data, recipe)
    assert trainer.average is not None
    torch.manual_seed(5)
    for parameter in trainer.average.network.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    given = uneven(data)
    images = seen(given.images, data, (1.0, 1.0))
    network.train()
    with torch.no_grad():
        wanted = taught(torch.tensor(0.0), network(images), trainer.average.network(images), recipe, 1.0)
    network.load_state_dict(before)
    assert learn(trainer, data, recipe, step=0, given=given) == pytest.approx(float(wanted), rel=1e-5)
    losses = []
    for each in (SMALL, SMALL.model_copy(update={"ema": 0.5})):
        again = network_of(tmp_path)
        losses.append(learn(trainer_of(again, data, each), data, each, step=0, given=given))
    assert losses[0] == losses[1]


def test_distillation_without_an_average_or_classes_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="distill needs the average that teaches: give ema, such as"):
        train(exported(tmp_path / "winner"), settings={"distill": 0.5}, device="cpu")
    pose = ARCH.replace("segment", "pose").replace("  head: {kind: segformer, width: 8}\n", "")
    with pytest.raises(InputError, match="distill: heatmaps have no classes to compare"):
        train(exported(tmp_path / "pose", pose), settings={"distill": 0.5, "ema": 0.9}, device="cpu")


# Taken up, and stopped.

EVERYTHING: dict[str, Any] = {
    "ema": 0.9, "distill": 0.5, "accumulate": 2, "schedule": "poly", "optimizer": "adamw", "head_rate": 5.0,
    "drop_path": 0.2, "checkpointing": True, "precision": "bf16",
}  # fmt: skip


def test_all_of_it_is_taken_up_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, whole = (exported(tmp_path / name, **EVERYTHING) for name in ("first", "whole"))

    def stopped(*given: Any, step: int, **rest: Any) -> float:
        if step == 6:
            raise KeyboardInterrupt
        return learn(*given, step=step, **rest)

    with monkeypatch.context() as patch:
        patch.setattr("hrsearch.train.learn", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(first, device="cpu")
    train(first, device="cpu")
    train(whole, device="cpu")
    require_same(first, whole)
    assert {"miou", "miou_unaveraged"} <= table(whole)[0].keys()


def test_training_stops_where_nothing_gets_better(tmp_path: Path) -> None:
    """With a rate at which nothing can be learnt, two validations after the best; the same call again does no more."""
    winner = exported(tmp_path / "winner", rate=1e-12, steps=40, patience=2, seed=1)
    result = train(winner, device="cpu")
    assert result.steps == result.best_step + 8 < 40
    assert train(winner, device="cpu") == result


@pytest.mark.parametrize("broken", [torch.inf, torch.nan])
def test_a_gradient_that_overflows_leaves_all_weights_as_they_are(tmp_path: Path, broken: float) -> None:
    """Those of the other optimiser, too, whose own are finite; the next step is scaled less."""
    data, recipe = scenes(), SMALL.model_copy(update={"optimizer": "muon", "precision": "fp16"})
    network = network_of(tmp_path, PLAIN.replace("8", "16"))
    trainer = trainer_of(network, data, recipe)
    muon = trainer.learner.optimizers[1]
    assert isinstance(muon, Muon)
    muon.weights[0].register_hook(lambda gradient: torch.full_like(gradient, broken))  # type: ignore[no-untyped-call]
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    scale = trainer.learner.scaler.get_scale()
    learn(trainer, data, recipe, step=0, given=uneven(data))
    assert all(torch.equal(before[name], parameter) for name, parameter in network.named_parameters())
    assert trainer.learner.scaler.get_scale() == scale / 2


def test_compiled_training_is_the_same_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a graph that runs without a compiler: what it writes has the names and the values of the other's."""
    from torch._dynamo.utils import counters  # loads the compiler, seconds that only this test needs

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    plain, compiled = (exported(tmp_path / name, PLAIN, drop_path=0.0) for name in ("plain", "compiled"))
    train(plain, device="cpu")
    counters.clear()
    train(compiled, settings={"compile": True}, device="cpu")
    assert counters["stats"]["unique_graphs"] == 1  # all in one, once for all steps
    for ours, theirs in zip(table(compiled), table(plain), strict=True):
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-4)
    networks = [torch.load(each / "run/checkpoint.pt")["network"] for each in (compiled, plain)]
    best = [load_file(each / "run/best.safetensors") for each in (compiled, plain)]
    assert networks[0].keys() == networks[1].keys() == best[0].keys() == best[1].keys()


# Several processes.

TOGETHER = """
import os, shutil, sys
from pathlib import Path
import torch
import hrsearch.train
torch.set_num_threads(1)
folder, *copies = map(Path, sys.argv[1:])
learn = hrsearch.train.learn

def copying(*given, step, **rest):
    if step == 6 and os.environ["RANK"] == "0":
        for copy in copies:
            shutil.copytree(folder, copy)
    return learn(*given, step=step, **rest)

hrsearch.train.learn = copying
hrsearch.train.train(folder, device="cpu")
"""


def train_together(*folders: Path) -> None:
    """Train in the first folder with two processes; the others are what a kill at step 6 would have left in it."""
    script = folders[0].parent / "together.py"
    script.write_text(TOGETHER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    done = subprocess.run(
        [*command, str(script), *map(str, folders)],
        capture_output=True, text=True, check=False, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.long
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Batch norms, weighted losses, the average: the same table but for float error, for the same whole batch.

    Stopped on the way, two end with exactly what two that were not end with.
    """
    settings: dict[str, Any] = {"ema": 0.9, "distill": 0.5, "steps": 8, "drop_path": 0.0, "optimizer": "adamw"}
    one, two = (exported(tmp_path / name, PLAIN, **settings) for name in ("one", "two"))
    train(one, device="cpu")
    train_together(two, tmp_path / "stopped")
    assert len(table(one)) == len(table(two)) == 2
    for ours, theirs in zip(table(one), table(two), strict=True):
        assert float(theirs["loss"]) == pytest.approx(float(ours["loss"]), rel=1e-4)
        for column in ("miou", "miou_unaveraged"):
            assert float(theirs[column]) == pytest.approx(float(ours[column]), abs=0.002), column
    assert len(table(tmp_path / "stopped")) == 1
    train_together(tmp_path / "stopped")
    require_same(tmp_path / "stopped", two)


SEVERAL = """
task: pose
net:
  blocks: {fine: {kind: cross, window: 1, head_dim: 8, ratio: 2}}
  stages:
    - {link: conv_stem, channels: 8, stride: 4}
    - {link: hrvit, channels: [8, 16], depth: 1, block: fine, norm: layer}
"""


@pytest.mark.long
def test_maps_that_the_head_does_not_read_do_not_hold_processes_up(tmp_path: Path) -> None:
    """The pose head reads the finest alone; what is beside it stays as it began, as in one process."""
    settings: dict[str, Any] = {"steps": 4, "every": 2, "drop_path": 0.0, "optimizer": "adamw"}
    one, two = (exported(tmp_path / name, SEVERAL, **settings) for name in ("one", "two"))
    train(one, device="cpu")
    train_together(two)
    for ours, theirs in zip(table(one), table(two), strict=True):
        assert float(theirs["loss"]) == pytest.approx(float(ours["loss"]), rel=1e-4)
    unread = {name for name, _ in network_of(tmp_path, SEVERAL).stages[1].branches[1].named_parameters()}  # type: ignore
    weights = [load_file(each / "run/best.safetensors") for each in (one, two)]
    assert all(torch.equal(*(each[f"stages.1.branches.1.{name}"] for each in weights)) for name in unread)


def test_a_batch_that_processes_cannot_share_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="accumulate must divide batch 8, got 3"):
        train(exported(tmp_path / "winner"), settings={"accumulate": 3}, device="cpu")
