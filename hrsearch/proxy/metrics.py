"""Mean intersection over union, from a confusion matrix.

Shapes: C classes; rows are labels, columns are predictions.
"""

import torch
from torch import Tensor

from hrsearch.proxy.data.dataset import IGNORE


def confusion_of(prediction: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(C, C) counts of pixels by label and prediction, both of one shape; pixels labelled 255 are left out."""
    kept = labels != IGNORE
    pairs = labels[kept].long() * classes + prediction[kept].long()
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def mean_iou(confusion: Tensor) -> float:
    """Mean intersection over union of the classes that occur in labels or predictions; 0 where none does."""
    counts = confusion.double()
    both = counts.diagonal()
    either = counts.sum(dim=0) + counts.sum(dim=1) - both
    occurs = either > 0
    return float((both[occurs] / either[occurs]).mean()) if occurs.any() else 0.0
