"""Keypoints: half bodies, random scale and rotation, a flip that swaps sides, as HRNet's (Sun et al., 2019)."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hrsearch.proxy.data.layout import Person
from hrsearch.proxy.data.reading import ROOM, Sample, centre_of, longer_side, posed

SCALE = 0.35  # deviation of the square's side, and its limit; HRFormer: .5
TURN, TURNED = 45.0, 0.6  # deviation in degrees, at most twice that, and how often; HRFormer: 40 degrees
HALF, ENOUGH = 0.3, 8  # how often half a body, of those of which more keypoints than these are labelled
FEW = 3  # keypoints that a half must have
AROUND = 1.5  # the side of the square around half a body, of its keypoints' reach
UPPER = 11  # of COCO's 17 keypoints: the face, the arms


def pose(
    sample: Sample,
    side: int,
    random: np.random.Generator,
    *,
    mirrors: bool,
    swap: tuple[int, ...] = (),
    rotation: float = TURN,
    rescale: float = SCALE,
) -> tuple[Tensor, Tensor]:
    """(3, H, W) and (K, 3). `swap` is the keypoint that each one is once mirrored; none is another without it.

    `rotation` is the deviation in degrees, `rescale` that of the size and its limit.
    """
    assert isinstance(sample.label, Person)
    person = sample.label
    draws = random.random(3)
    if draws[0] < HALF:
        person = half_body(person, upper=random.random() < 0.5)
    reach = longer_side(person) * (1 + np.clip(rescale * random.standard_normal(), -rescale, rescale))
    degrees = np.clip(rotation * random.standard_normal(), -2 * rotation, 2 * rotation) if draws[1] < TURNED else 0.0
    image, points = posed(sample.picture, person, side, centre_of(person), float(reach), float(np.radians(degrees)))
    return mirrored(image, points, swap) if mirrors and draws[2] < 0.5 else (image, points)


def half_body(person: Person, *, upper: bool) -> Person:
    """The person with a box around its upper or its lower half; as it is where too few keypoints are labelled."""
    seen = person.points[:, 2] > 0
    if seen.sum() <= ENOUGH or len(seen) <= UPPER:
        return person
    half = seen & ((np.arange(len(seen)) < UPPER) == upper)
    if half.sum() < FEW:
        return person
    places = person.points[half, :2]
    low, high = places.min(axis=0), places.max(axis=0)
    middle, size = (low + high) / 2, np.maximum(high - low, 1) * AROUND / ROOM
    left, top = (middle - size / 2).tolist()
    return replace(person, box=(left, top, float(size[0]), float(size[1])))


def mirrored(image: Tensor, points: Tensor, swap: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The image (3, H, W) and its keypoints (K, 3) left to right."""
    seen = points[:, 2] > 0
    across = torch.where(seen, image.shape[-1] - points[:, 0], points[:, 0])
    turned = torch.stack([across, points[:, 1], points[:, 2]], dim=1)
    return image.flip(-1), turned[list(swap)] if swap else turned
