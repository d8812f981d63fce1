"""A person's own images: with masks to segment, in a folder per class to classify."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hrsearch.errors import InputError
from hrsearch.proxy.data.classes import class_folder
from hrsearch.proxy.data.dataset import IGNORE, Dataset, Split, dataset_of, stored
from hrsearch.proxy.data.pictures import opened, pictures_in, pixels_of, squared, state_of
from hrsearch.registry import DATASETS

Pair = tuple[Path, Path]  # an image and its mask


@DATASETS.add("folder")
def folder(
    path: Path, *, image: int, train_images: int, val_images: int, seed: int = 0, task: str = "segment"
) -> Dataset:
    """The data in a person's folder. An InputError for a task whose labels cannot be read from one, and see there."""
    if task == "segment":
        return mask_folder(path, image, train_images, val_images, seed)
    if task == "classify":
        return class_folder(path, image, train_images, val_images, seed)
    raise InputError(
        f"{path}: labels for task {task!r} cannot be read from a folder yet; give 'digits' or 'six_digits'"
    )


def mask_folder(path: Path, image: int, train_images: int, val_images: int, seed: int) -> Dataset:
    """The data in `path/images` (png, jpg, bmp) and `path/masks` (png of class indices, 255 ignored), paired by name.

    A seeded fifth of the pairs is for validation, at most `val_images`; of the others at most `train_images` are for
    training. Each is resized until its shorter side is `image` pixels, and the middle square is kept. The classes are
    0 to the largest index in any mask. Missing folders, no pairs, unreadable files and sizes that differ within a pair
    are InputErrors.
    """
    pairs = _pairs(path)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)).tolist()
    for_val = max(len(pairs) // 5, 1)
    val = [pairs[index] for index in order[:for_val][:val_images]]
    train = [pairs[index] for index in order[for_val:][:train_images]]

    def make() -> Dataset:
        return dataset_of(_split(train, image), _split(val, image), _classes(pairs), mirrors=True)

    # The counts that were taken, not those asked for: more than there is makes no other data set.
    state = state_of(path, (file for pair in pairs for file in pair))
    return stored(f"folder-{state}-{image}px-{len(train)}-{len(val)}-seed{seed}", make)


def _pairs(path: Path) -> list[Pair]:
    for name in ("images", "masks"):
        if not (path / name).is_dir():
            raise InputError(f"{path / name}: no such folder; data is a folder that holds images/ and masks/")
    masks = {mask.stem: mask for mask in (path / "masks").glob("*.png")}
    images = pictures_in(path / "images")
    pairs = [(file, masks[file.stem]) for file in images if file.stem in masks]
    if len(pairs) < 2:
        raise InputError(
            f"{path}: {len(pairs)} pairs of an image and a mask of the same name among {len(images)} images and "
            f"{len(masks)} masks (png); at least 2 are needed, one to train on and one to validate on"
        )
    return pairs


def _split(pairs: list[Pair], image: int) -> Split:
    both = [_square(pair, image) for pair in pairs]
    return Split(torch.stack([picture for picture, _ in both]), torch.stack([mask for _, mask in both]))


def _square(pair: Pair, image: int) -> tuple[Tensor, Tensor]:
    """(3, H, W) and (H, W), uint8."""
    picture, mask = opened(pair[0]), _mask(pair[1])
    if picture.size != mask.size:
        raise InputError(f"{pair[1]}: {_size(mask)} pixels, but its image {pair[0].name} has {_size(picture)}")
    indices = np.asarray(squared(mask, image, Image.Resampling.NEAREST), dtype=np.uint8)
    return pixels_of(picture, image), torch.from_numpy(indices.copy())


def _mask(path: Path) -> Image.Image:
    mask = opened(path)
    if mask.mode not in ("L", "P", "1"):
        raise InputError(f"{path}: a mask has one channel of class indices 0 to 255, but this one is {mask.mode}")
    # The indices themselves: a palette's colours are only for the eye, and bilevel masks hold 0 and 1.
    return Image.fromarray(np.asarray(mask).astype(np.uint8))


def _size(picture: Image.Image) -> str:
    return f"{picture.width} x {picture.height}"


def _classes(pairs: list[Pair]) -> tuple[str, ...]:
    """Names "0", "1", ... up to the largest index in any mask of the folder, whichever images are taken."""
    largest = 0
    for _, path in pairs:
        indices = np.asarray(_mask(path))
        largest = max(largest, int(indices[indices != IGNORE].max(initial=0)))
    if largest < 1:
        raise InputError(f"{pairs[0][1].parent}: the masks hold fewer than two classes; nothing can be learnt")
    return tuple(str(index) for index in range(largest + 1))
