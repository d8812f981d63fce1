"""A folder of images per class, as ImageNet's: at the top, or in train/ and val/."""

from pathlib import Path

from hrsearch.errors import InputError
from hrsearch.proxy.data.layout import FORMATS, SUFFIXES, Item, Layout, Part, Wrong, pictures_in, unread_below


def _root(path: Path) -> Path | None:
    """The path itself, if half of its sub-folders or more hold images: any folder of folders would fit otherwise."""
    folders = _folders(path / "train" if _is_parted(path) else path)
    if len(folders) < 2 or {"images", "masks"} <= {folder.name for folder in folders}:
        return None
    filled = [any(file.suffix.lower() in SUFFIXES for file in folder.iterdir()) for folder in folders]
    return path if 2 * sum(filled) >= len(folders) else None


def _folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _is_parted(root: Path) -> bool:
    names = {folder.name for folder in _folders(root)}
    return {"train", "val"} <= names <= {"train", "val", "test"}


def _classes(root: Path) -> tuple[str, ...]:
    top = root / "train" if _is_parted(root) else root
    names = tuple(folder.name for folder in _folders(top))
    if len(names) < 2:
        held = ", ".join(names) or "none"
        raise InputError(f"{top}: one sub-folder of images per class is needed, at least two; it holds {held}")
    if odd := [name for name in names if not name.isprintable()]:
        raise InputError(f"{top}: a class's name must be printable, but one sub-folder is {odd[0]!a}; rename it")
    return names


def _part(root: Path, part: str) -> Part:
    names = _classes(root)
    top = root / part if _is_parted(root) else root
    wrong = [
        Wrong(f"{folder}: its class is not among those to train on", "folder of no class")
        for folder in _folders(top)
        if folder.name not in names
    ]
    items: list[Item] = []
    for label, name in enumerate(names):
        files = pictures_in(top / name) if (top / name).is_dir() else []
        items += [Item(file, label) for file in files]
        wrong += unread_below(top / name) if files else []
        if not files:
            wrong.append(Wrong(f"{top / name}: holds no image ({FORMATS})", "class without images"))
        if len(files) == 1 and top == root:
            said = f"{top / name}: one image is too few; one to train on and one to validate on are needed"
            wrong.append(Wrong(said, "class of one image"))
    return Part(tuple(items), tuple(wrong))


CLASSES = Layout(
    "class folders",
    "classify",
    f"one sub-folder of images ({FORMATS}) per class, at least two, or train/ and val/ with such sub-folders",
    _root,
    _part,
    _is_parted,
    _classes,
)
