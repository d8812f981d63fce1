"""Small folders of data in each of the layouts, written with Pillow."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hrsearch.proxy.data.layouts.coco import KEYPOINTS
from hrsearch.proxy.data.layouts.pascal_context import LISTS

SIZE = (40, 24)  # width, height


def picture(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    """An image of noise; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mask(path: Path, values: Sequence[int], size: tuple[int, int] = SIZE) -> Path:
    """A mask of upright stripes of equal width, one a value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.array(values, dtype=np.uint8)[np.arange(size[0]) * len(values) // size[0]]
    Image.fromarray(np.broadcast_to(columns, (size[1], size[0])).copy()).save(path)
    return path


def masks_tree(path: Path, count: int = 20, values: Sequence[int] = (0, 1, 2, 255)) -> Path:
    for index in range(count):
        picture(path / "images" / f"{index:03}.jpg", index)
        mask(path / "masks" / f"{index:03}.png", values)
    return path


def ade20k_tree(path: Path, train: int = 12, val: int = 4) -> Path:
    root = path / "ADEChallengeData2016"
    for folder, count in (("training", train), ("validation", val)):
        for index in range(count):
            name = f"ADE_{folder[:-3]}_{index:08}"
            picture(root / "images" / folder / f"{name}.jpg", index)
            mask(root / "annotations" / folder / f"{name}.png", (0, 1, 2, 150))
    return path


def cityscapes_tree(path: Path, train: int = 12, val: int = 4, end: str = "labelIds") -> Path:
    values = {"labelIds": (0, 7, 33, 3), "labelTrainIds": (255, 0, 18, 255)}[end]
    for part, count in (("train", train), ("val", val)):
        for index in range(count):
            city = ("aachen", "bochum")[index % 2]
            name = f"{city}_{index:06}_000019"
            picture(path / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png", index)
            mask(path / "gtFine" / part / city / f"{name}_gtFine_{end}.png", values)
    return path


def context_tree(path: Path, train: int = 12, val: int = 4) -> Path:
    """With images and masks that are in no list, as VOC has them."""
    root = path / "VOCdevkit/VOC2010"
    names = [f"2008_{index:06}" for index in range(train + val + 3)]
    for index, name in enumerate(names):
        picture(root / "JPEGImages" / f"{name}.jpg", index)
        mask(root / "SegmentationClassContext" / f"{name}.png", (0, 1, 59, 255))
    (root / LISTS).mkdir(parents=True)
    (root / LISTS / "train.txt").write_text("\n".join(names[:train]) + "\n")
    (root / LISTS / "val.txt").write_text("\n".join(names[train : train + val]) + "\n")
    return path


def classes_tree(path: Path, counts: dict[str, int]) -> Path:
    for shade, (name, count) in enumerate(counts.items()):
        (path / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", SIZE, (shade * 50, index, 0)).save(path / name / f"{index:03}.png")
    return path


def annotation(number: int, image: int, **changes: Any) -> dict[str, Any]:
    """A person whose keypoints stand in a row; the nose is occluded, the left eye absent."""
    points = [[10.0 + index, 12.0, 2] for index in range(len(KEYPOINTS))]
    points[0][2], points[1] = 1, [0.0, 0.0, 0]
    flat = [value for point in points for value in point]
    plain = {"id": number, "image_id": image, "bbox": [8.0, 4.0, 20.0, 16.0], "keypoints": flat, "iscrowd": 0}
    return plain | {"category_id": 1, "num_keypoints": 16} | changes


def coco_tree(path: Path, train: int = 12, val: int = 4) -> Path:
    """Two persons an image."""
    for part, count in (("train", train), ("val", val)):
        images = []
        for index in range(count):
            picture(path / f"{part}2017" / f"{index:012}.jpg", index)
            images.append({"id": index, "file_name": f"{index:012}.jpg", "width": SIZE[0], "height": SIZE[1]})
        persons = [annotation(2 * index + which, index) for index in range(count) for which in (0, 1)]
        write_coco(path, part, images, persons)
    return path


def write_coco(
    path: Path, part: str, images: list[dict[str, Any]], persons: list[dict[str, Any]], categories: Sequence[Any] = ()
) -> None:
    (path / "annotations").mkdir(exist_ok=True)
    file = path / "annotations" / f"person_keypoints_{part}2017.json"
    file.write_text(json.dumps({"images": images, "annotations": persons, "categories": list(categories)}))


def read_coco(path: Path, part: str = "train") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / "annotations" / f"person_keypoints_{part}2017.json").read_text())
    return content
