"""The test of a segmentation network: whole images or windows that slide over them, at several scales, flipped, too.

Shapes: an image is (1, 3, H, W), C classes; what is said of it is (1, C, H, W).
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from hrsearch.errors import InputError
from hrsearch.proxy.data import Dataset
from hrsearch.proxy.data.reading import read, tensor_of
from hrsearch.proxy.learning import autocast, seen
from hrsearch.proxy.metrics import confusion_of, mean_iou
from hrsearch.train.distributed import Team
from hrsearch.train.recipe import Recipe

STRIDE = 3 / 4  # of a window, to the next: 768 of 1024 as on Cityscapes

Predict = Callable[[Tensor], Tensor]


def require_segments(recipe: Recipe, task: str) -> None:
    """An InputError if a test of whole images is asked for where none is known."""
    if recipe.test != "none" and task != "segment":
        raise InputError(f"test: {recipe.test!r} is for task 'segment', not {task!r}; leave it at none")


@torch.inference_mode()
def tested(network: nn.Module, data: Dataset, recipe: Recipe, device: torch.device, team: Team) -> float:
    """Mean IoU over the validation images, whole, as the recipe's test says; each of a team tests its share."""
    network.eval()

    def predict(images: Tensor) -> Tensor:
        with autocast(device, recipe.precision):
            prediction: Tensor = network(seen(images, data, recipe.zoom))
        return F.interpolate(prediction.float(), images.shape[2:], mode="bilinear", align_corners=False)

    classes = len(data.classes)
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    for image, labels in _whole(data, recipe.image, team):
        shares = blended(predict, image.to(device), recipe, labels.shape[1:])
        confusion += confusion_of(shares.argmax(dim=1), labels.to(device), classes)
    return mean_iou(team.summed(confusion))


def blended(predict: Predict, image: Tensor, recipe: Recipe, size: tuple[int, ...]) -> Tensor:
    """(1, C, *size) the mean of the classes' shares over the recipe's scales and, if asked for, both directions."""
    total = torch.zeros(())
    for scale in recipe.test_scales:
        scaled = _scaled(image, scale)
        for flip in (False, True) if recipe.test_flip else (False,):
            given = scaled.flip(-1) if flip else scaled
            found = slid(predict, given, recipe.image) if recipe.test == "slide" else predict(given)
            found = found.flip(-1) if flip else found
            found = F.interpolate(found, (size[0], size[1]), mode="bilinear", align_corners=False)
            total = total.to(found.device) + found.softmax(dim=1)
    return total / (len(recipe.test_scales) * (1 + recipe.test_flip))


def slid(predict: Predict, image: Tensor, window: int) -> Tensor:
    """(1, C, H, W) the mean of what is said of each pixel in all square windows that hold it."""
    height, width = image.shape[2:]
    total, count = torch.zeros(()), torch.zeros(1, 1, height, width, device=image.device)
    for top in _places(height, window):
        for left in _places(width, window):
            place = (..., slice(top, top + window), slice(left, left + window))
            found = predict(image[place])
            if not total.ndim:
                total = found.new_zeros(1, found.shape[1], height, width)
            total[place] += found
            count[place] += 1
    return total / count


def _places(side: int, window: int) -> list[int]:
    """Where windows begin: a stride apart, the last one at the end."""
    stride = max(int(window * STRIDE), 1)
    return sorted({min(place, max(side - window, 0)) for place in range(0, max(side - window, 0) + stride, stride)})


def _whole(data: Dataset, side: int, team: Team) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (1, 3, H, W), the shorter side as in training, and labels (1, h, w) as they lie, of this one's share."""
    if not data.val_files:
        for number in range(team.rank, len(data.val), team.size):
            yield data.val.images[number : number + 1], data.val.labels[number : number + 1]
    for item in data.val_files[team.rank :: team.size]:
        sample = read(item, len(data.classes))
        scale = side / min(sample.picture.size)
        size = tuple(max(round(edge * scale), side) for edge in sample.picture.size)
        picture = sample.picture.resize((size[0], size[1]), Image.Resampling.BILINEAR)
        yield tensor_of(picture)[None], torch.from_numpy(np.array(sample.label, dtype=np.uint8))[None]


def _scaled(image: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return image
    size = [max(round(side * scale), 1) for side in image.shape[2:]]
    found = F.interpolate(image.float(), size, mode="bilinear", align_corners=False, antialias=True)
    return found.round().clamp(0, 255).to(torch.uint8)
