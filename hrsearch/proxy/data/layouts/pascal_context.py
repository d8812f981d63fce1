"""PASCAL-Context (Mottaghi et al., 2014) in the folders of VOC 2010: 59 classes, 0 in a mask is none.

The masks are those that mmsegmentation's converter writes: 0 for the background, which counts for nothing, as in the
papers, and 1 to 59 for the classes.
"""

from pathlib import Path

from hrsearch.errors import InputError
from hrsearch.proxy.data.layout import Item, Layout, Part, Wrong, root_with, table_of, text_of

CLASSES = (
    "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle", "building", "bus",
    "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup", "curtain", "dog", "door", "fence",
    "floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light", "motorbike", "mountain", "mouse",
    "person", "plate", "platform", "pottedplant", "road", "rock", "sheep", "shelves", "sidewalk", "sign", "sky", "snow",
    "sofa", "table", "track", "train", "tree", "truck", "tvmonitor", "wall", "water", "window", "wood",
)  # fmt: skip
TABLE = table_of({value: value - 1 for value in range(1, len(CLASSES) + 1)}, ignored=(0,))
LISTS = "ImageSets/SegmentationContext"


def _root(path: Path) -> Path | None:
    return root_with(path, ("VOC2010", "VOCdevkit/VOC2010"), ("JPEGImages", "SegmentationClassContext", LISTS))


def _part(root: Path, part: str) -> Part:
    """What the list of the part names, and only that: the folders hold other images and masks, too."""
    path = root / LISTS / f"{part}.txt"
    if not path.is_file():
        raise InputError(f"{path}: no such file; it lists the names of the images, one a line")
    items, wrong = [], []
    for name in sorted(set(text_of(path).split())):
        image, mask = root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClassContext" / f"{name}.png"
        if Path(name).name != name:
            wrong.append(Wrong(f"{path}: lists {name!r}, which is no file's name alone", "name outside"))
        elif not image.is_file():
            wrong.append(Wrong(f"{path}: lists {name}, but there is no {image}", "image missing"))
        elif not mask.is_file():
            wrong.append(Wrong(f"{image}: has no mask", "image without mask"))
        else:
            items.append(Item(image, mask, TABLE))
    return Part(tuple(items), tuple(wrong))


PASCAL_CONTEXT = Layout(
    "PASCAL-Context",
    "segment",
    f"JPEGImages/, SegmentationClassContext/ (png) and {LISTS}/{{train,val}}.txt",
    _root,
    _part,
    lambda root: (root / LISTS / "val.txt").is_file(),
    lambda root: CLASSES,
)
