"""A person's own images in a folder per class."""

from collections.abc import Iterable
from pathlib import Path

import torch

from hrsearch.errors import InputError
from hrsearch.proxy.data.dataset import Dataset, Split, dataset_of, stored
from hrsearch.proxy.data.pictures import opened, pictures_in, pixels_of, state_of

Files = list[tuple[Path, int]]  # an image and its class


def class_folder(path: Path, image: int, train_images: int, val_images: int, seed: int) -> Dataset:
    """The images (png, jpg, bmp) in the sub-folders of `path`, which are the classes.

    A seeded fifth of each class is for validation, or what lies in `path/val` where `path` holds `train` and `val` with
    sub-folders of the same names. At most `train_images` and `val_images` are taken, at random. The middle square of
    each is resized to `image` pixels. Fewer than two classes, classes with too few images and unreadable files are
    InputErrors.
    """
    generator = torch.Generator().manual_seed(seed)
    names, train, val = _ready(path) if _is_ready(path) else _parted(path, generator)
    state = state_of(path, (file for file, _ in [*train, *val]))
    train, val = _some(train, train_images, generator), _some(val, val_images, generator)

    def make() -> Dataset:
        return dataset_of(_split(train, image), _split(val, image), names, mirrors=True, task="classify")

    return stored(f"classes-{state}-{image}px-{len(train)}-{len(val)}-seed{seed}", make)


def _is_ready(path: Path) -> bool:
    return {"train", "val"} == {folder.name for folder in path.iterdir() if folder.is_dir()}


def _ready(path: Path) -> tuple[tuple[str, ...], Files, Files]:
    """The classes, and the files of both splits as they lie."""
    train, val = _by_class(path / "train"), _by_class(path / "val")
    if train.keys() != val.keys():
        (other, *_) = sorted(train.keys() ^ val.keys())
        raise InputError(f"{path}: class {other!r} has a folder in one of train/ and val/ only; give it one in both")
    return tuple(train), _files(train.values()), _files(val.values())


def _parted(path: Path, generator: torch.Generator) -> tuple[tuple[str, ...], Files, Files]:
    """The classes, and the files: a fifth of each class, at least one, is for validation."""
    found = _by_class(path)
    train, val = [], []
    for name, files in found.items():
        if len(files) < 2:
            raise InputError(f"{path / name}: one image is too few; one to train on and one to validate on are needed")
        order = torch.randperm(len(files), generator=generator).tolist()
        for_val = max(len(files) // 5, 1)
        val.append([files[index] for index in order[:for_val]])
        train.append([files[index] for index in order[for_val:]])
    return tuple(found), _files(train), _files(val)


def _by_class(path: Path) -> dict[str, list[Path]]:
    """The image files of each class, by name."""
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    names = [folder.name for folder in folders]
    if len(names) < 2 or names == ["images", "masks"]:
        raise InputError(
            f"{path}: to classify, data is a folder with one sub-folder of images per class, at least two; "
            f"this one holds {', '.join(names) or 'no sub-folder'}"
        )
    found = {folder.name: pictures_in(folder) for folder in folders}
    for name, files in found.items():
        if not files:
            raise InputError(f"{path / name}: holds no image (png, jpg, bmp); add some or remove the folder")
    return found


def _files(by_class: Iterable[list[Path]]) -> Files:
    return [(file, label) for label, files in enumerate(by_class) for file in files]


def _some(files: Files, count: int, generator: torch.Generator) -> Files:
    """At most `count` of the files, in an order of chance."""
    order = torch.randperm(len(files), generator=generator).tolist()
    return [files[index] for index in order[:count]]


def _split(files: Files, image: int) -> Split:
    pixels = torch.stack([pixels_of(opened(file), image) for file, _ in files])
    return Split(pixels, torch.tensor([label for _, label in files]))
