"""COCO's keypoints (Lin et al., 2014): 17 of each person, each person an item of its own.

Crowds and persons without a labelled keypoint are left out, as the papers leave them out in training.
"""

import json
import math
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hrsearch.errors import InputError
from hrsearch.proxy.data.layout import Item, Layout, Part, Person, Wrong

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
EDGE = 1  # pixels by which a keypoint may lie beyond its image: they are rounded
SWAP = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)


def _annotations(root: Path, part: str) -> Path:
    return root / "annotations" / f"person_keypoints_{part}2017.json"


def _root(path: Path) -> Path | None:
    return next((root for root in (path, path / "coco") if _annotations(root, "train").is_file()), None)


def _part(root: Path, part: str) -> Part:
    path = _annotations(root, part)
    facts = path.stat()
    return _read(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=2)  # COCO's own has 150,000 persons and takes seconds to read
def _read(path: Path, changed: int, size: int) -> Part:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = {int(image["id"]): image for image in content["images"]}
        others = _others(path, content.get("categories") or [])
        annotations = sorted(content["annotations"], key=lambda annotation: int(annotation["id"]))
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"[:200]
        raise InputError(f"{path}: cannot be read as COCO's JSON of images and annotations ({what})") from None
    folder = _images(path)
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*")}
    items, wrong = [], []
    for annotation in annotations:
        try:
            item = _item(path, folder, there, images, annotation, others)
        except Wrong as error:
            wrong.append(error)
            continue
        items += [item] if item else []
    return Part(tuple(items), tuple(wrong))


def _others(path: Path, categories: list[dict[str, Any]]) -> set[Any]:
    """The numbers of the categories that are no persons; an InputError where that is all of them."""
    persons = [one for one in categories if _is_person(one, alone=len(categories) == 1)]
    if categories and not persons:
        named = "; ".join(
            f"{one.get('name')}: {', '.join(map(str, one.get('keypoints') or ['none']))}" for one in categories
        )
        said = f"{path}: read are persons with COCO's keypoints ({', '.join(KEYPOINTS)}), but here is {named[:200]}"
        raise InputError(said)
    return {one["id"] for one in categories if one not in persons}


def _is_person(category: dict[str, Any], *, alone: bool) -> bool:
    """By the names of its keypoints, or its own where it names none; what is alone need not say that it is one."""
    named = tuple(str(name).lower().replace(" ", "_") for name in category.get("keypoints") or ())
    return named == KEYPOINTS or (not named and (alone or category.get("name") == "person"))


def _images(path: Path) -> Path:
    name = path.stem.removeprefix("person_keypoints_")
    places = (path.parent.parent / name, path.parent.parent / "images" / name)
    for place in places:
        if place.is_dir():
            return place
    raise InputError(f"{places[0]}: no such folder; the images of {path.name} lie there")


def _item(
    path: Path, folder: Path, there: set[str], images: dict[int, Any], annotation: dict[str, Any], others: set[Any]
) -> Item | None:
    """The person, None if it is none or there is nothing to learn of it; Wrong if it cannot be read."""
    where = f"{path}: annotation {annotation['id']}"
    try:
        if annotation.get("category_id") in others:
            return None
        if annotation.get("iscrowd") or not any(annotation["keypoints"][2::3]):
            return None
        left, top, width, height = (float(value) for value in annotation["bbox"])
        points = np.array(annotation["keypoints"], dtype=np.float32).reshape(len(KEYPOINTS), 3)
        image = images[int(annotation["image_id"])]
        name, size = PurePosixPath(str(image["file_name"])).as_posix(), (int(image["width"]), int(image["height"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Wrong(f"{where}: not COCO's ({error!r})", "annotation unreadable") from None
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise Wrong(f"{where}: its box is {width:g} x {height:g} pixels", "box empty")
    if not (-width < left < size[0] and -height < top < size[1]):
        said = f"its box at {left:g}, {top:g} lies outside of the image of {size[0]} x {size[1]}"
        raise Wrong(f"{where}: {said}", "label out of range")
    _require_inside(where, points, size)
    if name not in there:
        raise Wrong(f"{where}: there is no {folder / name}", "image missing")
    return Item(folder / name, Person(int(annotation["id"]), (left, top, width, height), points, size))


def _require_inside(where: str, points: Any, size: tuple[int, int]) -> None:
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        raise Wrong(f"{where}: a keypoint's visibility is 0, 1 or 2", "label out of range")
    seen = points[points[:, 2] > 0, :2]
    if not ((seen >= -EDGE) & (seen <= np.array(size) + EDGE)).all():  # nor is what is no number
        raise Wrong(f"{where}: a keypoint lies outside of the image of {size[0]} x {size[1]}", "label out of range")


COCO = Layout(
    "COCO keypoints",
    "pose",
    "annotations/person_keypoints_{train,val}2017.json and train2017/, val2017/",
    _root,
    _part,
    lambda root: _annotations(root, "val").is_file(),
    lambda root: KEYPOINTS,
    SWAP,
)
