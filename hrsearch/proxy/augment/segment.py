"""Segmentation: random scale, a crop in which no class has it all, a flip, photometric distortion.

As HRFormer, HRViT and HIRI-ViT train, by mmsegmentation's pipeline; the distortion is SSD's (Liu et al., 2016).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hrsearch.proxy.data.layout import IGNORE
from hrsearch.proxy.data.reading import Sample, tensor_of

SCALE = (0.5, 2.0)  # of the size at which the shorter side is that of the crop
CAP = 0.75  # share of a crop's labelled pixels that one class may have at most
TRIES = 10  # crops, until the last one is taken as it is
LOOKED_AT = 128  # pixels of a crop's side that are counted for that: more tell nothing new
FILL = (124, 116, 104)  # what lies beyond an image: the mean colour of ImageNet
BRIGHTER, CONTRAST, SATURATION, HUE = 32.0, (0.5, 1.5), (0.5, 1.5), 18 / 180  # of 255; factors; of the circle

Box = tuple[float, float, float, float]  # left, top, right, lower


def segment(sample: Sample, side: int, random: np.random.Generator, *, mirrors: bool) -> tuple[Tensor, Tensor]:
    """(3, H, W) and (H, W); beyond the image the label is 255."""
    assert isinstance(sample.label, np.ndarray)
    picture, mask = sample.picture, sample.label
    scale = side / min(picture.size) * random.uniform(*SCALE)
    box = capped_crop(mask, picture.size, side / scale, random)
    size = tuple(max(min(round((box[axis + 2] - box[axis]) * scale), side), 1) for axis in (0, 1))
    theirs = mask.shape[1] / picture.width, mask.shape[0] / picture.height
    part = distorted(picture.resize((size[0], size[1]), Image.Resampling.BILINEAR, box=box), random)
    labels = Image.fromarray(mask).resize(
        (size[0], size[1]), Image.Resampling.NEAREST, box=tuple(edge * theirs[i % 2] for i, edge in enumerate(box))
    )
    image, target = Image.new("RGB", (side, side), FILL), Image.new("L", (side, side), IGNORE)
    image.paste(part, (0, 0))
    target.paste(labels, (0, 0))
    found = tensor_of(image), torch.from_numpy(np.array(target, dtype=np.uint8))
    return (found[0].flip(-1), found[1].flip(-1)) if mirrors and random.random() < 0.5 else found


def capped_crop(mask: NDArray[np.uint8], size: tuple[int, int], window: float, random: np.random.Generator) -> Box:
    """A random window of that side, or of the image's where that is less, in an image of `size` (width, height).

    Drawn anew while one class has more than its cap, or everything.
    """
    width, height = min(window, size[0]), min(window, size[1])
    box = (0.0, 0.0, width, height)
    for _ in range(TRIES):
        left, top = random.uniform(0, size[0] - width), random.uniform(0, size[1] - height)
        box = (left, top, left + width, top + height)
        if _is_mixed(mask, size, box):
            break
    return box


def _is_mixed(mask: NDArray[np.uint8], size: tuple[int, int], box: Box) -> bool:
    across, down = mask.shape[1] / size[0], mask.shape[0] / size[1]
    part = mask[int(box[1] * down) : int(box[3] * down) + 1, int(box[0] * across) : int(box[2] * across) + 1]
    every = max(max(part.shape) // LOOKED_AT, 1)
    counts = np.bincount(part[::every, ::every].ravel(), minlength=256)[:IGNORE]
    return bool(counts.max() < CAP * counts.sum())


def distorted(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Another brightness, contrast, saturation and hue, each half of the time; the contrast first or last."""
    values = np.arange(256.0)
    chosen = random.random(4) < 0.5
    contrast = values * (random.uniform(*CONTRAST) if chosen[1] else 1)
    is_first = random.random() < 0.5
    first = values + (random.uniform(-BRIGHTER, BRIGHTER) if chosen[0] else 0)
    if is_first:
        first = np.interp(first, values, contrast)
    picture = _mapped(picture, [first] * 3)
    if chosen[2] or chosen[3]:
        saturation = values * (random.uniform(*SATURATION) if chosen[2] else 1)
        hue = (values + (round(256 * random.uniform(-HUE, HUE)) if chosen[3] else 0)) % 256
        picture = _mapped(picture.convert("HSV"), [hue, saturation, values]).convert("RGB")
    return picture if is_first else _mapped(picture, [contrast] * 3)


def _mapped(picture: Image.Image, tables: list[NDArray[np.float64]]) -> Image.Image:
    return picture.point(np.concatenate(tables).clip(0, 255).round().astype(int).tolist())
