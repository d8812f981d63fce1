"""Mean IoU against its definition."""

import pytest
import torch
from torch import Tensor

from hrsearch.proxy.metrics import confusion_of, mean_iou


def brute_force(prediction: Tensor, labels: Tensor, classes: int) -> float:
    """Pixel by pixel, as the definition reads."""
    kept = [(p, t) for p, t in zip(prediction.flatten().tolist(), labels.flatten().tolist(), strict=True) if t != 255]
    values = []
    for each in range(classes):
        both = sum(p == each and t == each for p, t in kept)
        either = sum(p == each or t == each for p, t in kept)
        values += [both / either] if either else []
    return sum(values) / len(values) if values else 0.0


@pytest.mark.parametrize("seed", range(8))
def test_mean_iou_is_its_definition(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes = 2 + seed
    labels = torch.randint(classes, (3, 6, 5), generator=generator).to(torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    prediction = torch.randint(max(classes - 2, 1), labels.shape, generator=generator)
    got = mean_iou(confusion_of(prediction, labels, classes))
    assert got == pytest.approx(brute_force(prediction, labels, classes), abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "labels", "value"),
    [
        ([0, 1, 2], [0, 1, 2], 1.0),
        ([0, 0, 0], [0, 0, 1], (2 / 3 + 0) / 2),  # class 2 is nowhere: left out
        ([2, 0, 0], [0, 0, 0], (2 / 3 + 0) / 2),  # predicted, but never there
        ([1, 1], [255, 1], 1.0),
        ([1, 1], [255, 255], 0.0),
    ],
)
def test_truth_table(prediction: list[int], labels: list[int], value: float) -> None:
    confusion = confusion_of(torch.tensor(prediction), torch.tensor(labels), 3)
    assert mean_iou(confusion) == pytest.approx(value, abs=1e-12)


def test_confusion_adds_up() -> None:
    labels, prediction = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    assert confusion_of(prediction, labels, 2).tolist() == [[1, 1], [0, 1]]  # rows are labels
