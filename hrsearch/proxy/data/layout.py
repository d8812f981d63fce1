"""How data lies in a person's folder: what an item of it is, and which layout a folder has.

A layout is one file in `layouts/` with one `Layout`; it is found by what the folder holds.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrsearch.errors import InputError

IGNORE = 255  # the label of pixels that count neither in the loss nor in the metric
OUTSIDE = -1  # in a table of labels: no mask of this layout may hold it
# Of images, by whose names they are known. One that Pillow cannot read here is told, not passed over.
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic")
FORMATS = "png, jpg, webp, tif, bmp, gif"
TOLD = 3  # of the wrong items that one line names

Table = tuple[int, ...]  # 256: the class of each value of a mask, IGNORE or OUTSIDE


class Wrong(InputError):
    """An item of a person's data that cannot be used; all of its `kind` are counted together."""

    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Person:
    """A person in an image: where, and its keypoints."""

    number: int  # of its annotation
    box: tuple[float, float, float, float]  # left, top, width, height in pixels
    points: NDArray[np.float32]  # (K, 3): x and y in pixels, and 0 absent, 1 occluded or 2 visible
    size: tuple[int, int]  # width and height of the image as the annotations have it


@dataclass(frozen=True)
class Item:
    """An image and its label: the file of its mask, its class, or one person in it."""

    image: Path
    label: Path | int | Person
    table: Table = ()  # of its mask's values; none where the values are the classes


@dataclass(frozen=True)
class Part:
    """One part of the data: its items by name, and what lies about and is no item."""

    items: tuple[Item, ...]
    wrong: tuple[Wrong, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One way for data to lie in a folder."""

    name: str
    task: str
    form: str  # what such a folder holds, for the person whose folder does not
    root: Callable[[Path], Path | None]  # where it begins in this folder, if it does
    part: Callable[[Path, str], Part]  # the root and "train" or "val"; all of it is "train" where there is no "val"
    has_val: Callable[[Path], bool]  # whether it comes with an official validation split
    classes: Callable[[Path], tuple[str, ...] | None]  # or the keypoints; None where only the masks tell
    swap: tuple[int, ...] = ()  # the keypoint that each one is once the image is mirrored


def found_in(path: Path, task: str | None, layouts: Iterable[Layout]) -> tuple[Layout, Path]:
    """The layout of the folder among those for the task, or for any, and its root; an InputError where none fits."""
    fitting = [layout for layout in layouts if task in (None, layout.task)]
    for layout in fitting:
        root = layout.root(path)
        if root is not None:
            return layout, root
    raise InputError(
        f"{path}: no layout{f' for task {task!r}' if task else ''} fits; it holds {_contents(path)}; "
        f"what would fit: {'; or '.join(f'{layout.name}: {layout.form}' for layout in fitting)}"
    )


def root_with(path: Path, places: Iterable[str], inside: Iterable[str]) -> Path | None:
    """The first of the path itself and these places in it that holds all of these folders."""
    wanted = tuple(inside)
    candidates = (path / place for place in ("", *places))
    return next((one for one in candidates if all((one / name).is_dir() for name in wanted)), None)


def require_none_wrong(path: Path, wrong: Iterable[Wrong]) -> None:
    """One line for all of the wrong items, by kind and the first by name, if there are any."""
    found = list({str(one): one for one in wrong}.values())  # once, however many persons are in an image
    if not found:
        return
    kinds = [one.kind for one in found]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    rest = f"; and {len(found) - TOLD} more" if len(found) > TOLD else ""
    items = "items" if len(found) > 1 else "item"
    named = "; ".join(str(one) for one in found[:TOLD])
    raise InputError(
        f"{path}: {len(found)} wrong {items} ({counts}): {named}{rest}; "
        f"hrsearch data {path} lists them, mend or remove them"
    )


def pictures_in(path: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """The image files of a folder, by name, none where there is none; their suffixes may be in capitals."""
    files = path.iterdir() if path.is_dir() else ()
    return sorted(file for file in files if file.suffix.lower() in suffixes and not file.name.startswith("."))


def unread_below(path: Path) -> list[Wrong]:
    """The sub-folders of a folder of images that hold images, too: they are not read, and that is told."""
    folders = (
        [file for file in path.iterdir() if file.is_dir() and not file.name.startswith(".")] if path.is_dir() else []
    )
    held = [folder for folder in sorted(folders) if any(file.suffix.lower() in SUFFIXES for file in folder.rglob("*"))]
    said = "its images are not read; move them up into"
    return [Wrong(f"{folder}: a sub-folder, {said} {path.name}/", "sub-folder not read") for folder in held]


def text_of(path: Path) -> str:
    """What a text file says, with or without a mark of its order of bytes; an InputError if it is not in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not in UTF-8 ({error.reason} at byte {error.start}); save it so") from None


def paired(images: Iterable[tuple[str, Path]], masks: dict[str, tuple[Path, Table]]) -> Part:
    """Images and masks, each under the name that they share; what is left over is wrong."""
    left = dict(masks)
    items, wrong = [], []
    owners: dict[str, Path] = {}
    for name, image in images:
        if name in left:
            owners[name] = image
            items.append(Item(image, *left.pop(name)))
        elif name in owners:
            said = f"{image}: shares its mask with {owners[name].name}; rename or remove one of the two"
            wrong.append(Wrong(said, "two images of one mask"))
        else:
            wrong.append(Wrong(f"{image}: has no mask", "image without mask"))
    wrong += [Wrong(f"{mask}: has no image", "mask without image") for mask, _ in left.values()]
    return Part(tuple(items), tuple(wrong))


def table_of(classes: dict[int, int], ignored: Iterable[int] = ()) -> Table:
    """The table of these values and classes; 255 and `ignored` are no class, all else is outside."""
    none = {IGNORE, *ignored}
    return tuple(classes.get(value, IGNORE if value in none else OUTSIDE) for value in range(256))


def _contents(path: Path) -> str:
    names = sorted(f"{file.name}/" if file.is_dir() else file.name for file in path.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{', '.join(names[:8])}{more}" if names else "nothing"
