"""Images and masks of equal names in two folders. A mask's value is its class, 255 is ignored."""

from collections import Counter
from pathlib import Path

from hrsearch.errors import InputError
from hrsearch.proxy.data.layout import (
    FORMATS,
    Layout,
    Part,
    paired,
    pictures_in,
    root_with,
    table_of,
    text_of,
    unread_below,
)

NAMES = "classes.txt"  # optional: the classes by name, one a line


def _root(path: Path) -> Path | None:
    return root_with(path, (), ("images", "masks"))


def _part(root: Path, part: str) -> Part:
    classes = _classes(root)
    table = table_of({value: value for value in range(len(classes))}) if classes else ()
    images = [(file.stem, file) for file in pictures_in(root / "images")]
    masks = {file.stem: (file, table) for file in pictures_in(root / "masks", (".png",))}
    found = paired(images, masks)
    return Part(found.items, (*found.wrong, *(unread_below(root / "images") if images else ())))


def _classes(root: Path) -> tuple[str, ...] | None:
    path = root / NAMES
    if not path.is_file():
        return None
    names = tuple(line.strip() for line in text_of(path).splitlines() if line.strip())
    if not 2 <= len(names) <= 255:
        raise InputError(f"{path}: 2 to 255 classes, one a line, but got {len(names)}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{path}: each class once, but {twice[0]!r} stands there twice")
    return names


MASKS = Layout(
    "image and mask folders",
    "segment",
    f"images/ ({FORMATS}) and masks/ (png, a pixel's value is its class, 255 is ignored) of equal names",
    _root,
    _part,
    lambda root: False,
    _classes,
)
