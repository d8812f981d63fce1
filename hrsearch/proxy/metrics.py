"""Mean intersection over union, from a confusion matrix; the share of what is right, from two counts.

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


def share_of(counts: Tensor) -> float:
    """What share of the second of two counts the first is; 0 of none. Top-1 of images, PCK of keypoints."""
    some, all_of_them = counts.tolist()
    return float(some / all_of_them) if all_of_them else 0.0
