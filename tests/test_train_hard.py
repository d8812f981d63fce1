"""The loss over hard pixels alone: against the papers' formula, in a step of training, and where it is no use."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from winners import ARCH, exported

from hrsearch.build import build
from hrsearch.errors import InputError
from hrsearch.proxy.data import Split, load_dataset
from hrsearch.proxy.learning import AUXILIARY, learner_of, seen
from hrsearch.proxy.tasks import segment_loss
from hrsearch.space import load_arch
from hrsearch.train import Recipe, train
from hrsearch.train.distributed import Team, shared
from hrsearch.train.hard import hard_loss
from hrsearch.train.steps import Trainer, learn

CPU = torch.device("cpu")
OCR = ARCH.replace("{kind: segformer, width: 8}", "{kind: ocr, width: 8, dropout: 0.0}")


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    """Logits (2, 4, 6, 5) and labels (2, 6, 5), some of no class."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 4, 6, 5, generator=generator)
    labels = torch.randint(5, (2, 6, 5), generator=generator).to(torch.uint8)
    return logits, labels.masked_fill(labels == 4, 255)


def of(logits: Tensor, labels: Tensor, ohem: float, keep: int, weights: Tensor | None = None) -> float:
    images = torch.zeros(len(labels), 3, *labels.shape[1:], dtype=torch.uint8)
    weights = torch.ones(logits.shape[1]) if weights is None else weights
    return float(hard_loss(logits, Split(images, labels), weights, Recipe(ohem=ohem, ohem_keep=keep)))


@pytest.mark.parametrize(("ohem", "keep"), [(0.9, 1), (0.2, 1), (0.2, 12), (0.01, 5), (0.5, 1000)])
@pytest.mark.parametrize("seed", range(3))
def test_hard_pixels_are_those_of_the_formula(ohem: float, keep: int, seed: int) -> None:
    """Those below the larger of the threshold and the probability of the pixel after so many an image."""
    logits, labels = drawn(seed)
    known = labels != 255
    errors = F.cross_entropy(logits, labels.long(), ignore_index=255, reduction="none")[known]
    probabilities = (-errors).exp()
    ordered = [*sorted(probabilities.tolist()), 1.0]
    threshold = max(ordered[min(2 * keep, len(ordered) - 1)], ohem)
    wanted = errors[probabilities < threshold].mean()
    assert of(logits, labels, ohem, keep) == pytest.approx(float(wanted), rel=1e-5)


def test_pixels_are_counted_though_cells_are_larger() -> None:
    logits, labels = drawn(5)
    large = labels.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    for keep in (1, 7, 12):
        assert of(logits, large, 0.05, 4 * keep) == pytest.approx(of(logits, labels, 0.05, keep), rel=1e-5)


def test_classes_weigh_and_nothing_to_learn_is_no_loss() -> None:
    logits, labels = drawn(6)
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    everything = F.cross_entropy(logits, labels.long(), weights, ignore_index=255)
    assert of(logits, labels, 0.5, 1000, weights) == pytest.approx(float(everything), rel=1e-5)
    assert of(logits, torch.full_like(labels, 255), 0.5, 1000) == 0


def test_a_step_learns_from_hard_pixels_but_its_auxiliary_prediction_from_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    (tmp_path / "arch.yaml").write_text(OCR)
    data = load_dataset("digits", image=32, train_images=8, val_images=2)
    recipe = Recipe(optimizer="adamw", batch=8, image=32, warmup=0, steps=2, drop_path=0.0, ohem=0.01, ohem_keep=99)
    torch.manual_seed(1)
    network = build(load_arch(tmp_path / "arch.yaml"), classes=11)
    learner = learner_of(network, data, recipe, CPU)
    network.train()
    with torch.no_grad():
        first, auxiliary = network.predictions(seen(data.train.images, data, (1.0, 1.0)))
    wanted = hard_loss(first, data.train, learner.weights, recipe)
    plain = segment_loss(first, data.train, learner.weights)
    assert float(wanted) > 1.05 * float(plain)
    wanted = wanted + AUXILIARY * segment_loss(auxiliary, data.train, learner.weights)
    trainer = Trainer(learner, shared(network, Team(), CPU, compiled=False), None, Team())
    assert learn(trainer, data, recipe, step=0, given=data.train) == pytest.approx(float(wanted), rel=1e-4)


def test_hard_pixels_of_another_task_are_told(tmp_path: Path) -> None:
    pose = ARCH.replace("segment", "pose").replace("  head: {kind: segformer, width: 8}\n", "")
    with pytest.raises(InputError, match="ohem: is for task 'segment', not 'pose'; leave it at 0"):
        train(exported(tmp_path / "winner", pose), settings={"ohem": 0.9}, device="cpu")
