"""Classification: a random part resized (Szegedy et al., 2015), a flip, RandAugment (Cubuk et al., 2020).

RandAugment as the papers use it (rand-m9-mstd0.5-inc1 of timm, Wightman, 2019): two operations, each half of the time,
of magnitude 9 of 10 with a deviation of .5.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from hrsearch.proxy.augment.segment import FILL, Box
from hrsearch.proxy.data.reading import Sample, tensor_of

AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of the part that is cut out, of the image's area; its width over its height
TRIES = 10
OPERATIONS, CHANCE, MAGNITUDE, DEVIATION = 2, 0.5, 0.9, 0.05  # of RandAugment; the last two in 0..1

Operation = Callable[[Image.Image, float, float], Image.Image]  # the image, a magnitude in 0..1, a sign


def classify(sample: Sample, side: int, random: np.random.Generator, *, mirrors: bool) -> tuple[Tensor, Tensor]:
    """(3, H, W), and () the class as it was."""
    assert isinstance(sample.label, int)
    picture = sample.picture.resize(
        (side, side), Image.Resampling.BICUBIC, box=random_part(sample.picture.size, random)
    )
    if mirrors and random.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return tensor_of(randaugmented(picture, random)), torch.tensor(sample.label)


def random_part(size: tuple[int, int], random: np.random.Generator) -> Box:
    """A part of random area and ratio of an image of `size` (width, height), or all that has a possible ratio."""
    for _ in range(TRIES):
        area = size[0] * size[1] * random.uniform(*AREA)
        ratio = math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if width <= size[0] and height <= size[1]:
            left, top = random.uniform(0, size[0] - width), random.uniform(0, size[1] - height)
            return left, top, left + width, top + height
    width, height = min(size[0], size[1] * RATIO[1]), min(size[1], size[0] / RATIO[0])
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def randaugmented(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """The image after so many operations drawn at random, one twice perhaps; each is left out half of the time."""
    for index in random.integers(len(KINDS), size=OPERATIONS)[random.random(OPERATIONS) < CHANCE]:
        magnitude = float(np.clip(random.normal(MAGNITUDE, DEVIATION), 0, 1))
        picture = KINDS[index](picture, magnitude, float(random.choice((-1, 1))))
    return picture


def _moved(picture: Image.Image, *coefficients: float) -> Image.Image:
    return picture.transform(
        picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=FILL
    )


def _brighter_dark(picture: Image.Image, magnitude: float, sign: float) -> Image.Image:
    """Adds to what is darker than half."""
    added = int(110 * magnitude)
    return picture.point([min(value + added, 255) if value < 128 else value for value in range(256)] * 3)


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda picture, magnitude, sign: kind(picture).enhance(1 + sign * 0.9 * magnitude)


KINDS: tuple[Operation, ...] = (
    lambda picture, magnitude, sign: ImageOps.autocontrast(picture),
    lambda picture, magnitude, sign: ImageOps.equalize(picture),
    lambda picture, magnitude, sign: ImageOps.invert(picture),
    lambda picture, magnitude, sign: picture.rotate(sign * 30 * magnitude, Image.Resampling.BILINEAR, fillcolor=FILL),
    lambda picture, magnitude, sign: ImageOps.posterize(picture, max(4 - int(4 * magnitude), 1)),
    lambda picture, magnitude, sign: ImageOps.solarize(picture, 256 - int(256 * magnitude)),
    _brighter_dark,
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Sharpness),
    lambda picture, magnitude, sign: _moved(picture, 1, sign * 0.3 * magnitude, 0, 0, 1, 0),
    lambda picture, magnitude, sign: _moved(picture, 1, 0, 0, sign * 0.3 * magnitude, 1, 0),
    lambda picture, magnitude, sign: _moved(picture, 1, 0, sign * 0.45 * magnitude * picture.width, 0, 1, 0),
    lambda picture, magnitude, sign: _moved(picture, 1, 0, 0, 0, 1, sign * 0.45 * magnitude * picture.height),
)
