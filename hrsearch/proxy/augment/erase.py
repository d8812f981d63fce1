"""Random erasing (Zhong et al., 2017): a part of the image becomes noise.

Shapes: H = W the side of an image.
"""

import math

import numpy as np
import torch
from torch import Tensor

AREA, RATIO = (0.02, 1 / 3), 0.3  # of the part, of the image's area; its height over its width, at least and inverted
TRIES = 10
MEAN, DEVIATION = 0.45, 0.225  # of the noise, in 0..1: as images are


def erased(image: Tensor, random: np.random.Generator) -> Tensor:
    """(3, H, W) uint8 with noise in a random part; as it was where no part of a possible ratio was drawn."""
    side = image.shape[-1]
    for _ in range(TRIES):
        area = side**2 * random.uniform(*AREA)
        ratio = math.exp(random.uniform(math.log(RATIO), -math.log(RATIO)))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < height < side and 0 < width < side:
            top, left = random.integers(side - height + 1), random.integers(side - width + 1)
            noise = (random.normal(MEAN, DEVIATION, (3, height, width)) * 255).clip(0, 255).astype(np.uint8)
            image = image.clone()
            image[:, top : top + height, left : left + width] = torch.from_numpy(noise)
            break
    return image
