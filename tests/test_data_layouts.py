"""A person's data in each layout: found by what the folder holds, read right, split without a leak, checked by name."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from trees import (
    SIZE,
    ade20k_tree,
    annotation,
    cityscapes_tree,
    classes_tree,
    coco_tree,
    context_tree,
    mask,
    masks_tree,
    picture,
    read_coco,
    write_coco,
)

from hrsearch import cli
from hrsearch.errors import InputError, is_disk_full
from hrsearch.proxy.data import Dataset, load_dataset
from hrsearch.proxy.data.dataset import reserve
from hrsearch.proxy.data.layout import Item, Layout, Person, found_in
from hrsearch.proxy.data.layouts import LAYOUTS
from hrsearch.proxy.data.layouts.coco import KEYPOINTS, SWAP
from hrsearch.proxy.data.reading import Sample, opened, read, square_of
from hrsearch.proxy.data.split import cut, parts_of
from hrsearch.proxy.data.survey import json_of, lines_of, survey

TREES: dict[str, Callable[[Path], Path]] = {
    "image and mask folders": masks_tree,
    "ADE20K": ade20k_tree,
    "Cityscapes": cityscapes_tree,
    "PASCAL-Context": context_tree,
    "class folders": lambda path: classes_tree(path, {"cat": 12, "dog": 12}),
    "COCO keypoints": coco_tree,
}
SMALL: dict[str, Any] = {"image": 24, "train_images": 100, "val_images": 100}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))


def layout_at(path: Path) -> tuple[Layout, Path]:
    return found_in(path, None, LAYOUTS)


def test_every_layout_has_a_tree() -> None:
    assert {layout.name for layout in LAYOUTS} == TREES.keys()


@pytest.mark.parametrize("name", TREES)
def test_layout_is_found_and_read(name: str, tmp_path: Path) -> None:
    path = TREES[name](tmp_path / "own")
    layout, root = layout_at(path)
    assert layout.name == name
    for split in ("proxy", "official"):
        data = load_dataset(str(path), **SMALL, task=layout.task, split=split)
        assert data.task == layout.task
        assert len(data.files) == len(data.train) > len(data.val) > 0
        assert data.train.images.shape[1:] == (3, 24, 24)
        assert data.classes == (layout.classes(root) or ("0", "1", "2"))


@pytest.mark.parametrize(
    ("name", "classes", "held"),
    [
        ("image and mask folders", 3, {0, 1, 2, 255}),
        ("ADE20K", 150, {0, 1, 149, 255}),
        ("Cityscapes", 19, {0, 18, 255}),
        ("PASCAL-Context", 59, {0, 58, 255}),
    ],
)
def test_labels_become_classes(name: str, classes: int, held: set[int], tmp_path: Path) -> None:
    data = load_dataset(str(TREES[name](tmp_path / "own")), **SMALL)
    assert len(data.classes) == classes
    assert set(data.train.labels.flatten().tolist()) == held
    first = data.train.labels[0, 0].tolist()  # stripes stay in their order; the middle 24 of 40 columns
    stripes = [label for index, label in enumerate(first) if index == 0 or label != first[index - 1]]
    assert len(stripes) == 4


def test_training_ids_of_cityscapes_are_the_same(tmp_path: Path) -> None:
    by_label, by_train = (
        load_dataset(str(cityscapes_tree(tmp_path / end, end=end)), **SMALL) for end in ("labelIds", "labelTrainIds")
    )
    assert set(by_label.train.labels.flatten().tolist()) == set(by_train.train.labels.flatten().tolist())


def test_names_of_ade20k_come_with_it(tmp_path: Path) -> None:
    path = ade20k_tree(tmp_path / "own")
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName", *(f"{n}\t.1\t9\t9\t1\tthing{n}, stuff" for n in range(1, 151))]
    (path / "ADEChallengeData2016/objectInfo150.txt").write_text("\n".join(rows))
    assert load_dataset(str(path), **SMALL).classes[::149] == ("thing1", "thing150")


def test_classes_may_be_named(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own")
    (path / "classes.txt").write_text("sky\nsea\nsand\nship\n")
    assert load_dataset(str(path), **SMALL).classes == ("sky", "sea", "sand", "ship")


def test_persons_are_cut_out(tmp_path: Path) -> None:
    """Boxes of 20 x 16 pixels from (8, 4): a square of 25 around (18, 12), at 24 pixels."""
    data = load_dataset(str(coco_tree(tmp_path / "own")), **SMALL, task="pose")
    assert (data.classes, data.swap) == (KEYPOINTS, SWAP)
    assert data.train.labels.shape[1:] == (17, 3)
    points = data.train.labels[0]
    assert points[1].tolist() == [0, 0, 0]  # absent
    assert points[0].tolist() == pytest.approx([(10 - 5.5) * 0.96, 12, 1])  # occluded, labelled
    assert points[2, 2] == 1
    seen = points[:, 2] > 0
    assert (points[seen, 1] == 12).all()
    assert torch.equal(seen, torch.tensor([index != 1 for index in range(17)]))


def test_what_is_around_a_person_is_in_its_place(tmp_path: Path) -> None:
    """A white dot of 4 pixels under a keypoint is where the keypoint is, at any size."""
    path = coco_tree(tmp_path / "own", train=4)
    image = Image.new("RGB", (400, 240))
    image.paste((255, 255, 255), (196, 116, 204, 124))
    for index in range(4):
        image.save(path / "train2017" / f"{index:012}.jpg", quality=95)
    content = read_coco(path)
    content["images"] = [entry | {"width": 400, "height": 240} for entry in content["images"]]
    points = [200.0, 120.0, 2] + [0, 0, 0] * 16
    persons = [annotation(index, index, bbox=[150, 60, 120, 180], keypoints=points) for index in range(4)]
    write_coco(path, "train", content["images"], persons)
    for side in (24, 96, 300):
        data = load_dataset(str(path), image=side, train_images=2, val_images=1, task="pose")
        bright = data.train.images[0].amax(dim=0).float()
        row, column = divmod(int(bright.flatten().argmax()), side)
        x, y, seen = data.train.labels[0, 0].tolist()
        assert seen == 1
        assert abs(column + 0.5 - x) <= max(side * 4 / 225, 1)
        assert abs(row + 0.5 - y) <= max(side * 4 / 225, 1)


def test_crowds_and_persons_without_keypoints_are_left_out(tmp_path: Path) -> None:
    path = coco_tree(tmp_path / "own")
    content = read_coco(path)
    extra = [annotation(900, 0, iscrowd=1, keypoints=[0] * 51), annotation(901, 1, keypoints=[0] * 51)]
    write_coco(path, "train", content["images"], content["annotations"] + extra)
    found = survey(path)
    assert (found.train, found.wrong) == (24, ())


# The firewall.


@pytest.mark.parametrize("name", ["ADE20K", "Cityscapes", "PASCAL-Context", "COCO keypoints"])
def test_the_search_does_not_touch_the_official_validation(name: str, tmp_path: Path) -> None:
    """Its files may be gone, or be no images: the proxy is what it was."""
    path = TREES[name](tmp_path / "own")
    layout, root = layout_at(path)
    official = {item.image for item in layout.part(root, "val").items}
    first = load_dataset(str(path), **SMALL, task=layout.task)
    assert not official & {item.image for item in first.files}
    for image in official:
        image.unlink()
    again = load_dataset(str(path), **SMALL, task=layout.task)
    assert again.split == first.split


@pytest.mark.parametrize("name", ["image and mask folders", "class folders"])
def test_what_is_held_out_is_not_touched_either(name: str, tmp_path: Path) -> None:
    path = TREES[name](tmp_path / "own")
    layout, root = layout_at(path)
    held = parts_of(layout, root, "official", 0)[1].items
    assert held
    for item in held:
        item.image.write_text("no image")
    load_dataset(str(path), **SMALL, task=layout.task)
    with pytest.raises(InputError, match="cannot be read as an image"):
        load_dataset(str(path), **SMALL, task=layout.task, split="official")


@pytest.mark.parametrize("name", TREES)
def test_splits_do_not_overlap(name: str, tmp_path: Path) -> None:
    path = TREES[name](tmp_path / "own")
    layout, root = layout_at(path)
    train, held = parts_of(layout, root, "official", 0)
    ours, val = parts_of(layout, root, "proxy", 0)
    images = [{item.image for item in part.items} for part in (ours, val, held)]
    assert all(images)
    assert images[0] | images[1] == {item.image for item in train.items}
    assert sum(map(len, images)) == len(set.union(*images))


def test_added_files_do_not_reshuffle(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own", count=60)
    layout, root = layout_at(path)

    def sides() -> dict[str, tuple[bool, bool]]:
        held = {item.image.name for item in parts_of(layout, root, "official", 0)[1].items}
        val = {item.image.name for item in parts_of(layout, root, "proxy", 0)[1].items}
        return {file.name: (file.name in held, file.name in val) for file in (root / "images").iterdir()}

    before = sides()
    for index in range(200, 240):
        picture(path / "images" / f"{index:03}.jpg")
        mask(path / "masks" / f"{index:03}.png", (0, 1))
    after = sides()
    assert {name: after[name] for name in before} == before


def test_cuts_keep_their_shares(tmp_path: Path) -> None:
    path = classes_tree(tmp_path / "own", {"cat": 400, "dog": 100, "eel": 2})
    layout, root = layout_at(path)
    items = layout.part(root, "train").items
    rest, share = cut(items, root, 0.2, "salt")
    by_class = [[item.label for item in part].count(label) for label in range(3) for part in (rest, share)]
    assert by_class[4:] == [1, 1]
    assert 60 < by_class[1] < 100
    assert 10 < by_class[3] < 30
    assert cut(items, root, 0.2, "salt") == (rest, share) != cut(items, root, 0.2, "pepper")


def test_a_file_that_was_needed_on_a_side_changes_it_when_its_class_grows(tmp_path: Path) -> None:
    """All others stay; whatever is added once hashes lie on either side of the share, all do."""
    items = [Item(tmp_path / f"{index}.png", 0) for index in range(400)]
    _, low = cut(items, tmp_path, 0.1, "salt")
    high = [item for item in items if item not in low]
    assert 20 < len(low) < 60
    assert len(cut(high[:5], tmp_path, 0.1, "salt")[1]) == 1  # though its hash is not low
    assert cut([*high[:5], low[0]], tmp_path, 0.1, "salt") == (tuple(high[:5]), (low[0],))
    assert len(cut(low[:5], tmp_path, 0.1, "salt")[0]) == 1
    assert cut([*low[:5], high[0]], tmp_path, 0.1, "salt") == ((high[0],), tuple(low[:5]))
    for count in range(6, 400, 7):
        some = [low[0], high[0], *items[:count]]
        assert set(cut(some, tmp_path, 0.1, "salt")[1]) == set(some) & set(low)


def test_hash_of_the_split_covers_names_and_sizes(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own")
    first = load_dataset(str(path), **SMALL)
    shutil.copytree(path, tmp_path / "copy")
    assert load_dataset(str(tmp_path / "copy"), **SMALL).split == first.split
    used = first.files[0].image
    with used.open("ab") as file:
        file.write(b"\0")
    grown = load_dataset(str(path), **SMALL)
    used.rename(used.with_name("zzz.jpg"))
    (path / "masks" / f"{used.stem}.png").rename(path / "masks/zzz.png")
    renamed = load_dataset(str(path), **SMALL)
    official = load_dataset(str(path), **SMALL, split="official")
    assert len({data.split for data in (first, grown, renamed, official)}) == 4


def test_mended_files_are_read_again(tmp_path: Path) -> None:
    """Another mask of the same size in bytes: the split is the same, the cache is not."""
    path = masks_tree(tmp_path / "own", values=(0, 1))
    first = load_dataset(str(path), **SMALL)
    label = first.files[0].label
    assert isinstance(label, Path)
    size = label.stat().st_size
    mask(label, (1, 0))
    assert label.stat().st_size == size
    os.utime(label, ns=(1, 1))
    again = load_dataset(str(path), **SMALL)
    assert again.split == first.split
    assert not torch.equal(again.train.labels[0], first.train.labels[0])


def test_classes_are_counted_anew_where_an_image_that_is_not_taken_brings_one(tmp_path: Path) -> None:
    """And the split is another one: scores of other classes stand beside each other in no study."""
    path = masks_tree(tmp_path / "mine", count=40, values=(0, 1))
    sizes: dict[str, Any] = {"image": 16, "train_images": 2, "val_images": 1}
    before = load_dataset(str(path), **sizes)
    taken = {item.label for item in (*before.files, *before.val_files)}
    layout, root = layout_at(path)
    train, _ = parts_of(layout, root, "proxy", 0)
    other = next(item.label for item in train.items if item.label not in taken)
    assert isinstance(other, Path)
    Image.new("L", SIZE, 2).save(other)
    after = load_dataset(str(path), **sizes)
    assert (before.files, before.classes, after.classes) == (after.files, ("0", "1"), ("0", "1", "2"))
    assert before.split != after.split


def test_mended_annotations_are_read_again(tmp_path: Path) -> None:
    """One file holds those of all persons; no image is another one then."""
    path = coco_tree(tmp_path / "own")
    first = load_dataset(str(path), **SMALL, task="pose")
    content = read_coco(path)
    for person in content["annotations"]:
        person["keypoints"][3 * 7] += 2.0
    write_coco(path, "train", content["images"], content["annotations"])
    again = load_dataset(str(path), **SMALL, task="pose")
    assert again.split != first.split
    assert not torch.equal(again.train.labels, first.train.labels)
    assert torch.equal(again.train.images, first.train.images)


def test_persons_are_cut_from_all_pixels_of_a_file(tmp_path: Path) -> None:
    """A JPEG may be decoded smaller where the whole image is wanted smaller, not where a small part of it is."""
    path = coco_tree(tmp_path / "own", train=8)
    content = read_coco(path)
    size = (400, 240)
    for index, image in enumerate(content["images"]):
        image |= {"width": size[0], "height": size[1]}
        picture(path / "train2017" / image["file_name"], index, size)
    write_coco(path, "train", content["images"], content["annotations"])
    data = load_dataset(str(path), **SMALL, task="pose")
    item = data.files[0]
    assert isinstance(item.label, Person)
    whole = square_of(Sample(Image.open(item.image).convert("RGB"), item.label, size), SMALL["image"])
    assert torch.equal(data.train.images[0], whole[0])


def test_more_images_than_the_disk_holds_are_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="GB are needed for the val images") as error:
        reserve(tmp_path, "val", (10**6, 3, 10**5, 10**5))
    assert is_disk_full(error.value)
    assert not list(tmp_path.iterdir())


# Images that a camera has stored turned.


def turned(path: Path, orientation: int) -> Path:
    """Pixels of its left half are black, those of its right half white, as they are stored; and EXIF's word on it."""
    pixels = np.zeros((SIZE[1], SIZE[0], 3), dtype=np.uint8)
    pixels[:, SIZE[0] // 2 :] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("side", [None, 4])
def test_images_are_seen_as_a_viewer_shows_them(orientation: int, side: int | None, tmp_path: Path) -> None:
    path = turned(tmp_path / "a.jpg", orientation)
    found, size = opened(path, side)
    with Image.open(path) as stored:
        shown = ImageOps.exif_transpose(stored).convert("RGB")
    assert size == shown.size
    expected = shown.resize(found.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(found, dtype=float) - np.asarray(expected, dtype=float)).mean() < 8


@pytest.mark.parametrize(("size", "upright"), [(SIZE[::-1], True), (SIZE, False)])
def test_a_mask_tells_which_pixels_it_was_drawn_on(size: tuple[int, int], upright: bool, tmp_path: Path) -> None:
    image, label = turned(tmp_path / "a.jpg", 6), mask(tmp_path / "a.png", (0, 1), size)
    sample = read(Item(image, label), 2)
    assert sample.size == sample.picture.size == size
    row = np.asarray(sample.picture)[..., 0].mean(axis=1 if upright else 0)  # turned back, the dark half lies above
    assert (row[0] < 10, row[-1] > 245) == (True, True)


def test_exif_that_cannot_be_read_spoils_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", SIZE).save(path, exif=b"Exif\0\0not a TIFF header")
    assert opened(path)[1] == SIZE


# What is wrong.


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def spoil(path: Path) -> dict[str, str]:
    """Spoil a folder of masks in every way; what is said of each, by the kind of it."""
    truncate(path / "images/003.jpg")
    mask(path / "masks/004.png", (0, 9))
    mask(path / "masks/005.png", (0, 1), size=(20, 12))
    (path / "masks/006.png").unlink()
    (path / "images/007.jpg").unlink()
    Image.new("RGB", SIZE).save(path / "masks/008.png")
    return {
        "unreadable": "003.jpg: cannot be read as an image (image file is truncated",
        "label out of range": "004.png: holds label 9, which is no class",
        "sizes of image and mask differ": "005.png: 20 x 12 pixels, but its image 005.jpg has 40 x 24",
        "image without mask": "006.jpg: has no mask",
        "mask without image": "007.png: has no image",
        "mask of colours": "008.png: a mask has one channel of class indices",
    }


def test_all_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own", count=30)
    (path / "classes.txt").write_text("a\nb\nc")
    told = spoil(path)
    found = survey(path)
    assert found.kinds == dict.fromkeys(told, 1)
    for one in found.wrong:
        assert told[one.kind] in str(one)
    text = "\n".join(lines_of(found))
    assert all(words in text for words in told.values())
    assert "wrong       6: " in text


def test_two_images_of_one_mask_are_told_as_such(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own")
    shutil.copy(path / "images/003.jpg", path / "images/003.png")
    (wrong,) = survey(path).wrong
    assert wrong.kind == "two images of one mask"
    assert str(wrong).endswith("003.png: shares its mask with 003.jpg; rename or remove one of the two")


def test_many_wrong_items_are_counted(tmp_path: Path) -> None:
    path = ade20k_tree(tmp_path / "own", train=30)
    for file in (path / "ADEChallengeData2016/annotations/training").iterdir():
        mask(file, (0, 151))
    found = survey(path)
    lines = lines_of(found)
    assert found.kinds == {"label out of range": 30}
    assert sum("holds label 151" in line for line in lines) == 20
    assert lines[-1] == "  ... and 10 more; --json lists all"
    assert len(json_of(found)["wrong"]) == 30


def test_a_stray_label_is_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an edge that an editor has smoothed, or of a class whose neighbour occurs nowhere: named, until it is said."""
    path = masks_tree(tmp_path / "own", count=40)
    held, strays = {item.image.stem for item in parts_of(*layout_at(path), "official", 0)[1].items}, ["003", "017"]
    assert not held & {*strays}
    for name in strays:
        mask(path / "masks" / f"{name}.png", (0, 254, 1, 2))
    assert status("data", str(path)) == 1
    told = capsys.readouterr().out
    assert "wrong       2: 2 label out of range" in told
    said = (
        "holds label 254, which is no class: no mask to train on holds 3, where the classes end; mend it, or name them "
        "all, one a line, in classes.txt beside masks/"
    )
    assert all(f"{name}.png: {said}" in told for name in strays)
    few: dict[str, Any] = {"image": 24, "train_images": 2, "val_images": 1}  # whichever images are taken
    with pytest.raises(InputError, match=r"2 wrong items \(2 label out of range\): .*003\.png: holds label 254, .*017"):
        load_dataset(str(path), **few)
    (path / "classes.txt").write_text("\n".join(f"class {index}" for index in range(255)))
    assert len(load_dataset(str(path), **few).classes) == 255
    assert status("data", str(path)) == 0


def test_masks_that_do_not_count_from_0_are_told(tmp_path: Path) -> None:
    for values, held in (((0, 128), "0, 128"), ((1, 2, 255), "1, 2"), ((255,), "nothing")):
        path = masks_tree(tmp_path / held, values=values)
        words = rf"without a gap .* fewer than two classes \(they hold {held}; 255 is none\); number them so"
        for look in (survey, lambda path: load_dataset(str(path), **SMALL)):
            with pytest.raises(InputError, match=words):
                look(path)


@pytest.mark.parametrize("suffix", [".PNG", ".JPG", ".webp", ".tif", ".gif"])
def test_what_pillow_reads_is_taken(suffix: str, tmp_path: Path) -> None:
    for path in (masks_tree(tmp_path / "masks"), classes_tree(tmp_path / "own", {"cat": 6, "dog": 6})):
        images = path / "images" if (path / "images").is_dir() else path / "dog"
        for file in images.iterdir():
            Image.open(file).save(file.with_suffix(suffix))
            file.unlink()
        for file in (path / "masks").glob("*.png"):
            file.rename(file.with_suffix(".PNG"))
        found = survey(path)
        assert (found.train + found.val, found.wrong) == ({"segment": 20, "classify": 12}[found.layout.task], ())


def test_what_pillow_would_spoil_or_cannot_read_is_named(tmp_path: Path) -> None:
    """Of 16 bits it would make all white that is above 255."""
    path = classes_tree(tmp_path / "own", {"cat": 12, "dog": 12})
    Image.new("I;16", SIZE, 4000).save(path / "cat/deep.tif")
    (path / "dog/phone.heic").write_bytes(b"no Pillow reads this")
    assert survey(path).kinds == {"more than 8 bits": 1, "unreadable": 1}


def test_wrong_persons_are_named(tmp_path: Path) -> None:
    path = coco_tree(tmp_path / "own")
    content = read_coco(path)
    outside = annotation(800, 0)["keypoints"]
    outside[3 * 5 : 3 * 5 + 3] = [43.0, 3.0, 2]
    changes: list[dict[str, Any]] = [
        {"keypoints": outside}, {"bbox": [1, 2, 0, 5]}, {"image_id": 77}, {"keypoints": [1.0, 2.0, 2]},
    ]  # fmt: skip
    persons = [annotation(800 + index, 0, **change) for index, change in enumerate(changes)]
    content["images"].append({"id": 55, "file_name": "gone.jpg", "width": 40, "height": 24})
    persons.append(annotation(900, 55))
    picture(path / "train2017" / f"{3:012}.jpg", size=(30, 30))
    write_coco(path, "train", content["images"], content["annotations"] + persons)
    told = "\n".join(map(str, survey(path).wrong))
    for words in (
        "annotation 800: a keypoint lies outside of the image of 40 x 24", "annotation 801: its box is 0 x 5 pixels",
        "annotation 802: not COCO's (KeyError(77))", "annotation 803: not COCO's", "gone.jpg",
        "30 x 30 pixels, but its annotations say 40 x 24",
    ):  # fmt: skip
        assert words in told


def test_a_run_says_it_all_at_once(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own", count=40)
    ours = load_dataset(str(path), **SMALL).files
    for item in ours[:5]:
        truncate(item.image)
    words = r"5 wrong items \(5 unreadable\): .*truncated.*; and 2 more; hrsearch data .*own lists them"
    with pytest.raises(InputError, match=words) as caught:
        load_dataset(str(path), **SMALL)
    assert "\n" not in str(caught.value)


def test_an_image_of_several_persons_is_wrong_once(tmp_path: Path) -> None:
    path = coco_tree(tmp_path / "own")
    truncate(load_dataset(str(path), **SMALL, task="pose").files[0].image)
    with pytest.raises(InputError, match=r"1 wrong item \(1 unreadable\): "):
        load_dataset(str(path), **SMALL, task="pose")
    assert survey(path).kinds == {"unreadable": 1}


def test_lists_that_name_what_is_not_there(tmp_path: Path) -> None:
    path = context_tree(tmp_path / "own")
    root = path / "VOCdevkit/VOC2010"
    (root / "JPEGImages/2008_000000.jpg").unlink()
    (root / "SegmentationClassContext/2008_000001.png").unlink()
    assert survey(path).kinds == {"image missing": 1, "image without mask": 1}


def test_folders_that_do_not_fit_are_told(tmp_path: Path) -> None:
    (tmp_path / "own" / "pics").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no layout fits; it holds pics/; what would fit: COCO keypoints: .*ADE20K: "):
        survey(tmp_path / "own")
    with pytest.raises(InputError, match="no layout for task 'pose' fits"):
        survey(masks_tree(tmp_path / "masks"), "pose")
    (context_tree(tmp_path / "voc") / "VOCdevkit/VOC2010/ImageSets/SegmentationContext/train.txt").unlink()
    with pytest.raises(InputError, match="no such file; it lists the names"):
        survey(tmp_path / "voc")
    coco = coco_tree(tmp_path / "coco")
    (coco / "annotations/person_keypoints_train2017.json").write_text("[1, 2")
    with pytest.raises(InputError, match="cannot be read as COCO's JSON"):
        survey(coco)


# What hrsearch data says.


@pytest.mark.parametrize("name", TREES)
def test_survey_counts(name: str, tmp_path: Path) -> None:
    path = TREES[name](tmp_path / "own")
    found = survey(path)
    told = json.loads(json.dumps(json_of(found)))
    assert (told["layout"], told["wrong"]) == (name, [])
    assert told["sizes"] == {"min": list(SIZE), "median": list(SIZE), "max": list(SIZE)}
    whole = {"COCO keypoints": (24, 8), "class folders": (24,), "image and mask folders": (20,)}.get(name, (12, 4))
    assert sum(whole) == found.train + found.val
    assert found.has_val == (len(whole) == 2)
    if name == "ADE20K":
        assert found.counts["1"] == found.counts["150"] == found.ignored == found.train * 24 * 10
        assert found.counts["3"] == 0
    if name == "class folders":
        assert sum(found.counts.values()) == found.train
    if name == "COCO keypoints":
        assert told["keypoints"]["nose"] == {"absent": 0, "occluded": 24, "visible": 0}
        assert told["keypoints"]["left_eye"] == {"absent": 24, "occluded": 0, "visible": 0}
    assert "wrong       none" in lines_of(found)


def test_command_says_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = masks_tree(tmp_path / "own")
    assert status("data", str(path)) == 0
    assert "image and mask folders, to segment" in capsys.readouterr().out
    truncate(path / "images/002.jpg")
    assert status("data", str(path), "--task", "segment", "--json") == 1
    assert json.loads(capsys.readouterr().out)["wrong_by_kind"] == {"unreadable": 1}
    assert status("data", str(path), "--task", "classify") == 2
    assert status("data", str(tmp_path / "absent")) == 2
    assert status("data", str(path), "--task", "segments") == 2
    assert "did you mean 'segment'" in capsys.readouterr().err


def status(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code or 0


def test_data_set_is_mapped_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time, no image is decoded."""
    path = masks_tree(tmp_path / "own")
    first = load_dataset(str(path), **SMALL)
    monkeypatch.setattr(sys.modules["hrsearch.proxy.data.folder"], "read", None)
    again: Dataset = load_dataset(str(path), **SMALL)
    assert torch.equal(again.train.images, first.train.images)
    assert again.split == first.split
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_link_to_nothing_is_named_beside_the_others(tmp_path: Path) -> None:
    masks_tree(tmp_path / "own")
    first, second, *_ = sorted((tmp_path / "own/images").iterdir())
    first.unlink()
    first.symlink_to(tmp_path / "nowhere")
    truncate(second)
    told = [str(one) for one in survey(tmp_path / "own").wrong]
    assert [any(file.name in line for line in told) for file in (first, second)] == [True, True]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = classes_tree(tmp_path / "own", {"cat": 12, "dog": 12})
    odd = os.fsdecode(b"\xff\xfe.jpg")
    shutil.copy(next((path / "cat").iterdir()), path / "cat" / odd)
    assert survey(path).counts["cat"] in (11, 12, 13)
    assert load_dataset(str(path), **SMALL, task="classify").classes == ("cat", "dog")
    (path / "dog").rename(path / os.fsdecode(b"d\xe9g"))
    with pytest.raises(InputError, match=r"a class's name must be printable, but one sub-folder is 'd\\udce9g'"):
        survey(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"b\xe4ck\nw\ng\n", r"classes.txt: not in UTF-8 \(.* at byte 1\); save it so"),
        (b"a\na\nb\n", "classes.txt: each class once, but 'a' stands there twice"),
    ],
)
def test_class_names_that_cannot_be_meant(content: bytes, message: str, tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own")
    (path / "classes.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        survey(path)


def test_class_names_as_notepad_saves_them(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own")
    (path / "classes.txt").write_bytes(b"\xef\xbb\xbfback\nw\ng\n")
    assert list(survey(path).counts) == ["back", "w", "g"]


def test_all_named_classes_are_told_where_every_mask_is_wrong(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own", values=(0, 1, 2))
    (path / "classes.txt").write_text("a\nb\n")
    assert survey(path).counts == {"a": 0, "b": 0}


def test_a_validation_split_without_masks_or_without_images_is_told_before_the_search(tmp_path: Path) -> None:
    root = ade20k_tree(tmp_path / "own") / "ADEChallengeData2016"
    shutil.rmtree(root / "annotations/validation")
    assert survey(tmp_path / "own").kinds == {"image without mask": 4, "nothing to validate on": 1}
    for file in (root / "images/validation").iterdir():
        file.unlink()
    assert survey(tmp_path / "own").kinds == {"nothing to validate on": 1}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_folder_of_which_a_side_is_empty_is_told_before_the_search(count: int, tmp_path: Path) -> None:
    """By data as by what needs it: a search, or a training."""
    path = str(masks_tree(tmp_path / "own", count=count))
    refused = count < 3
    with pytest.raises(InputError, match="at least one of each is needed") if refused else nullcontext():
        load_dataset(path, **SMALL, split="proxy")
    assert survey(Path(path)).kinds == ({"too few images": 1} if refused else {})
    assert status("data", path) == (1 if refused else 0)


def test_folders_of_folders_are_told_as_such(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own")
    for name in ("images", "masks"):
        (path / name).rename(path / "train")
        (path / name).mkdir()
        (path / "train").rename(path / name / "train")
    with pytest.raises(InputError, match=r"images/ and masks/ hold no image .* of their own; what lies in sub-folders"):
        survey(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keypoints": [float("nan"), 5, 2] * 17}, "a keypoint lies outside of the image"),
        ({"bbox": [float("nan"), 2, 30, 30]}, "its box at nan, 2 lies outside"),
        ({"bbox": [1e9, 0, 5, 5]}, "lies outside of the image"),
        ({"bbox": [0, 0, float("inf"), 20]}, "its box is inf x 20 pixels"),
    ],
)
def test_persons_that_are_no_numbers_are_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = coco_tree(tmp_path / "own")
    content = read_coco(path)
    content["annotations"][0].update(changes)
    write_coco(path, "train", content["images"], content["annotations"])
    (wrong,) = survey(path).wrong
    assert said in str(wrong)


def test_an_image_of_infinite_size_and_a_file_of_other_bytes(tmp_path: Path) -> None:
    path = coco_tree(tmp_path / "own")
    content = read_coco(path)
    content["images"][0]["width"] = float("inf")
    write_coco(path, "train", content["images"], content["annotations"])
    assert survey(path).kinds == {"annotation unreadable": 2}
    file = path / "annotations/person_keypoints_train2017.json"
    file.write_bytes(file.read_bytes().replace(b"images", b"im\xe4ges", 1))
    with pytest.raises(InputError) as error:
        survey(path)
    assert len(str(error.value)) < 500
