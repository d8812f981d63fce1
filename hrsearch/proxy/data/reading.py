"""Reads a person's items: their images and labels, cut square. Whatever cannot be used is `Wrong`, and says why.

Shapes: H = W the side in pixels, K keypoints.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from hrsearch.proxy.data.layout import IGNORE, Item, Person, Table, Wrong

ROOM = 1.25  # the side of the square around a person, of its box's longer side (Sun et al., HRNet, 2019)
NEEDED = 64  # pixels: to see that a file is whole, a JPEG need not be decoded larger
FINER = 2  # a JPEG is decoded at no less than so many times the side that is wanted of it
SIDEWAYS = range(5, 9)  # EXIF's orientations that are of height for width
SPREAD = {"L;2": 85, "L;4": 17}  # by what Pillow multiplies a grey PNG's values of so few bits, so that they reach 255
BACK = {  # what brings each of EXIF's orientations upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow raises of a file that is none, or is cut short: each of its plug-ins has its own way.
UNREADABLE = (OSError, UnidentifiedImageError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError)

Label = NDArray[np.uint8] | int | Person  # a class per pixel, a class, or the keypoints
Thing = TypeVar("Thing")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sample:
    """An image and its label, as large as they lie or a little smaller."""

    picture: Image.Image  # RGB
    label: Label
    size: tuple[int, int]  # width and height of the image as it lies


def read(item: Item, classes: int | None, side: int | None = None) -> Sample:
    """The item. `classes` is how many a mask may hold, None for any; with `side` a JPEG may come smaller, for speed."""
    label = item.label
    if isinstance(label, Path):
        mask = mask_of(label, item.table, classes)
        picture, size = opened(item.image, side, (mask.shape[1], mask.shape[0]))
        if mask.shape[::-1] != size:
            theirs = f"{mask.shape[1]} x {mask.shape[0]}"
            said = f"{label}: {theirs} pixels, but its image {item.image.name} has {size[0]} x {size[1]}"
            raise Wrong(said, "sizes of image and mask differ")
        return Sample(picture, mask, size)
    picture, size = opened(item.image, side, label.size if isinstance(label, Person) else None)
    if isinstance(label, Person) and label.size != size:
        theirs = f"{label.size[0]} x {label.size[1]}"
        raise Wrong(f"{item.image}: {size[0]} x {size[1]} pixels, but its annotations say {theirs}", "sizes differ")
    return Sample(picture, label, size)


def opened(
    path: Path, side: int | None = None, labelled: tuple[int, int] | None = None
) -> tuple[Image.Image, tuple[int, int]]:
    """The RGB image in a file as viewers show it, and its width and height; Wrong if it is none.

    A camera may store it turned, and say so (EXIF). It is turned back, but for one whose label is of the size
    `labelled` that it is stored in: that was drawn on the pixels as they lie.
    """
    with _file(path) as picture:
        if picture.format == "TIFF":
            picture.load()  # Pillow turns these upright itself, and then says so
        size, turned = picture.size, _orientation(picture)
        upright = size[::-1] if turned in SIDEWAYS else size
        as_stored = turned not in BACK or (labelled == size and labelled != upright)
        if picture.mode[0] in "IF":  # Pillow would cut off all that is above 255
            said = f"{path}: 8 bits a channel are needed, but this image has more ({picture.mode}); convert it"
            raise Wrong(said, "more than 8 bits")
        if side is not None:
            picture.draft("RGB", (FINER * side, FINER * side))
        if as_stored:
            return picture.convert("RGB"), size
        return picture.convert("RGB").transpose(BACK[turned]), upright


def _orientation(picture: Image.Image) -> int:
    """As EXIF has it; 1, upright, where it says nothing that can be read: the pixels may be good for all that."""
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


@contextmanager
def _file(path: Path) -> Iterator[Image.Image]:
    """The image in a file, decoded or not; Wrong if opening or decoding it fails."""
    try:
        with Image.open(path) as picture:
            yield picture
    except UNREADABLE as error:
        if isinstance(error, Wrong):
            raise
        raise Wrong(f"{path}: cannot be read as an image ({error})") from None


def mask_of(path: Path, table: Table, classes: int | None) -> NDArray[np.uint8]:
    """(H, W) the class of each pixel, 255 where there is none; Wrong if it holds anything else."""
    with _file(path) as mask:
        if mask.mode not in ("L", "P", "1"):
            said = f"{path}: a mask has one channel of class indices 0 to 255, but this one is {mask.mode}"
            raise Wrong(said, "mask of colours")
        tiles = getattr(mask, "tile", None)  # how the file holds the pixels, until they are read
        spread = SPREAD.get(tiles[0][3], 1) if tiles else 1
        values = np.asarray(mask).astype(np.uint8) // spread
    # The indices themselves: a palette's colours are only for the eye, and bilevel masks hold 0 and 1.
    found = np.array(table, dtype=np.int16)[values] if table else values.astype(np.int16)
    outside = (found < 0) | ((found >= classes) & (found != IGNORE)) if classes is not None else found < 0
    if outside.any():
        held = sorted({int(value) for value in np.unique(values[outside])})
        more = " ..." if len(held) > 5 else ""
        listed = ", ".join(map(str, held[:5]))
        ends = f": no mask to train on holds {classes}, where the classes end; mend it, or name them all, one a line, "
        hint = "" if table else f"{ends}in classes.txt beside masks/"
        raise Wrong(f"{path}: holds label {listed}{more}, which is no class{hint}", "label out of range")
    return found.astype(np.uint8)


def square_of(sample: Sample, side: int) -> tuple[Tensor, Tensor]:
    """The middle square, or the one around the person: (3, H, W) uint8, and the label as `Split` holds it."""
    if isinstance(sample.label, Person):
        return posed(sample.picture, sample.label, side, centre_of(sample.label), longer_side(sample.label), 0.0)
    picture = tensor_of(squared(sample.picture, side, Image.Resampling.BILINEAR))
    if isinstance(sample.label, int):
        return picture, torch.tensor(sample.label)
    mask = squared(Image.fromarray(sample.label), side, Image.Resampling.NEAREST)
    return picture, torch.from_numpy(np.array(mask, dtype=np.uint8))


def squared(picture: Image.Image, side: int, resampling: Image.Resampling) -> Image.Image:
    """The middle square of the picture, resized until its shorter side is `side` pixels."""
    scale = side / min(picture.size)
    size = (max(round(picture.width * scale), side), max(round(picture.height * scale), side))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return picture.resize(size, resampling).crop((left, top, left + side, top + side))


def tensor_of(picture: Image.Image) -> Tensor:
    """(3, H, W), uint8."""
    return torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1).contiguous()


def centre_of(person: Person) -> tuple[float, float]:
    """The middle of its box."""
    left, top, width, height = person.box
    return left + width / 2, top + height / 2


def longer_side(person: Person) -> float:
    """The side of the square to cut around it, pixels of its image."""
    return ROOM * max(person.box[2:])


def posed(
    picture: Image.Image, person: Person, side: int, centre: tuple[float, float], reach: float, turn: float
) -> tuple[Tensor, Tensor]:
    """The square of `reach` pixels around `centre`, turned by `turn` radians, as (3, H, W), and (K, 3) keypoints in it.

    A keypoint counts if it is labelled, occluded or not, and lies in the square; the third number is 1 then, else 0.
    """
    # The picture may have been decoded smaller than it lies.
    scale = np.array([picture.width / person.size[0], picture.height / person.size[1]])
    smaller = max(int(reach * scale[0] / side), 1)
    if smaller > 1:
        picture = picture.reduce(smaller)  # whose size is rounded up: its last pixels stand for fewer
        scale /= smaller
    # From a pixel of the square to one of the image: out of the middle, turned, scaled, to the centre.
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * reach / side
    back = np.diag(scale) @ matrix
    shift = np.array(centre) * scale - back @ np.full(2, side / 2)
    coefficients = (*back[0], shift[0], *back[1], shift[1])
    pixels = picture.transform(
        (side, side), Image.Transform.AFFINE, tuple(map(float, coefficients)), Image.Resampling.BILINEAR
    )
    places = (person.points[:, :2] - np.array(centre)) @ np.linalg.inv(matrix).T + side / 2
    inside = ((places >= 0) & (places <= side)).all(axis=1) & (person.points[:, 2] > 0)
    points = np.concatenate([np.where(inside[:, None], places, 0), inside[:, None]], axis=1).astype(np.float32)
    return tensor_of(pixels), torch.from_numpy(points)


def each(items: Sequence[Thing], look: Callable[[Thing], Result]) -> list[Result | Wrong]:
    """What `look` finds in each of the items, or what is wrong with it. Pillow decodes on all cores.

    Whoever waits for longer than a few seconds is shown how far it is.
    """

    def told(item: Thing) -> Result | Wrong:
        try:
            return look(item)
        except Wrong as error:
            return error

    with ThreadPoolExecutor() as pool:
        bar = tqdm(pool.map(told, items), "reading", len(items), unit="item", leave=False, delay=3, disable=None)
        return list(bar)
