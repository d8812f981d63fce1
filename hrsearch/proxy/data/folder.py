"""A person's own images, in any of the layouts: read once, cut square and kept in the cache."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrsearch.errors import InputError
from hrsearch.proxy.data.dataset import IGNORE, Dataset, Split, dataset_of, reserve, stored
from hrsearch.proxy.data.layout import FORMATS, Item, Part, Person, Wrong, found_in, require_none_wrong
from hrsearch.proxy.data.layouts import LAYOUTS
from hrsearch.proxy.data.reading import NEEDED, each, mask_of, read, square_of
from hrsearch.proxy.data.split import SplitName, digest_of, parts_of, some
from hrsearch.registry import DATASETS

READ_AS = 3  # grows when the same files are read as other images or labels: none of before is taken for one of now


@DATASETS.add("folder")
def folder(
    path: Path,
    *,
    image: int,
    train_images: int,
    val_images: int,
    seed: int = 0,
    task: str = "segment",
    split: SplitName = "proxy",
    decoded: int | None = None,
) -> Dataset:
    """The data in a person's folder, whose layout is found by what it holds (see `layouts`).

    "proxy" takes training and validation images from the training split, "official" the validation images from the
    official one (see `split`). At most `train_images` and `val_images` are taken, at random. The middle square of each
    image, or the square around the person, is resized to `image` pixels. `decoded` is how many training images are
    kept so at most, by default all; `Dataset.files` and `val_files` name all that are taken. A folder of no
    layout, and wrong items among those taken, are InputErrors.
    """
    layout, root = found_in(path, task, LAYOUTS)
    parts = parts_of(layout, root, split, seed)
    require_none_wrong(path, [one for part in parts for one in part.wrong])
    train, val = (
        some(part.items, root, count, seed) for part, count in zip(parts, (train_images, val_images), strict=True)
    )
    if not train or not val:
        raise InputError(
            f"{path}: {len(train)} images to train on and {len(val)} to validate on ({layout.name}); "
            "at least one of each is needed"
        )
    named, trained = layout.classes(root), parts[: 1 if split == "official" else 2]
    telling = [] if named else [item for part in trained for item in part.items]  # what the classes are
    what = [READ_AS, layout.name, split, named, digest_of(None, root, telling, [], times=True)]
    state = digest_of(what, root, train, val, times=True)
    kept = train[:decoded]

    def make(draft: Path) -> Dataset:
        classes = named or classes_in_masks(path, trained)
        identity = _identity(layout.name, split, classes, root, (train, val))
        sides = [_made(draft, side, items, len(classes), image) for side, items in (("train", kept), ("val", val))]
        require_none_wrong(path, [one for _, wrong in sides for one in wrong])
        require_none_wrong(path, [one for one in each(train[len(kept) :], partial(_checked, len(classes))) if one])
        (ours, _), (kept_out, _) = sides
        data = dataset_of(ours, kept_out, classes, mirrors=True, task=task, split=identity)
        return replace(data, swap=layout.swap)

    # By what the split is and when its files were last changed: what is mended without a change of size is read again.
    found = stored(f"folder-{state}-{image}px-{len(kept)}", make)
    return replace(found, files=train, val_files=val)


def identity_of(name: str, split: SplitName, classes: Sequence[str], root: Path, parts: Sequence[Part]) -> str:
    """The hash of a layout's split of which every image is taken."""
    train, val = (some(part.items, root, len(part.items), 0) for part in parts)
    return _identity(name, split, classes, root, (train, val))


def _identity(
    name: str, split: SplitName, classes: Sequence[str], root: Path, sides: tuple[tuple[Item, ...], tuple[Item, ...]]
) -> str:
    return digest_of([READ_AS, name, split, list(classes)], root, *sides)


def _checked(classes: int, item: Item) -> None:
    """Wrong if the item cannot be used: better told now than in the middle of an epoch."""
    read(item, classes, NEEDED)


def _made(draft: Path, name: str, items: Sequence[Item], classes: int, image: int) -> tuple[Split, list[Wrong]]:
    """The squares of the items, of which ImageNet has more than memory: in a file. And what is wrong with them."""
    images = reserve(draft, name, (len(items), 3, image, image))

    def label_of(place: int) -> Tensor:
        item = items[place]
        # Of a person, a small part of an image, more pixels are wanted than of the whole: as in `feed`.
        sample = read(item, classes, None if isinstance(item.label, Person) else image)
        images[place], label = square_of(sample, image)
        return label

    found = each(range(len(items)), label_of)
    wrong = [one for one in found if isinstance(one, Wrong)]
    labels = [one for one in found if not isinstance(one, Wrong)]
    return Split(images, torch.stack(labels) if not wrong else torch.zeros(0)), wrong


def classes_in_masks(path: Path, parts: Sequence[Part], *, forgiving: bool = False) -> tuple[str, ...]:
    """Names "0", "1", ... up to the first index that no mask of these parts holds, whichever images are taken.

    The parts are all of the training split: the official validation images have no say in what the classes are. What
    is beyond a gap may be stray, as smoothed edges are, or real and only its neighbour rare: who knows says so in
    classes.txt. Masks that hold it, and those that cannot be read, are told unless it is `forgiving`.
    """
    items = [item for part in parts for item in part.items]
    wrong = [one for part in parts for one in part.wrong]
    if not items and not wrong:
        said = f"hold no image ({FORMATS}) of their own; what lies in sub-folders is not read"
        raise InputError(f"{path}: images/ and masks/ {said}")
    found = each(items, partial(held, None))
    values = np.any([np.zeros(256, dtype=bool), *(one for one in found if not isinstance(one, Wrong))], axis=0)
    count = int(np.argmin(np.append(values[:IGNORE], False)))
    if not forgiving:
        pairs = zip(items, found, strict=True)
        doubtful = [item for item, one in pairs if isinstance(one, Wrong) or one[count:IGNORE].any()]
        again = each(doubtful, partial(held, count if count > 1 else None))
        require_none_wrong(path, [one for one in again if isinstance(one, Wrong)])
    if count < 2:
        listed = ", ".join(map(str, np.flatnonzero(values[:IGNORE])[:5])) or "nothing"
        raise InputError(
            f"{path}: counted from 0 without a gap the masks hold fewer than two classes (they hold {listed}; 255 is "
            "none); number them so, or name the classes, one a line, in classes.txt beside masks/"
        )
    return tuple(str(index) for index in range(count))


def held(classes: int | None, item: Item) -> NDArray[np.bool_]:
    """(256,) which indices a mask holds; Wrong if it cannot be read, or holds more than so many classes."""
    assert isinstance(item.label, Path)
    return np.bincount(mask_of(item.label, item.table, classes).ravel(), minlength=256) > 0
