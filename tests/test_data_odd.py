"""What lies in real folders and few expect: turned TIFFs, masks of two bits, dogs among persons, other sub-folders."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from trees import (
    SIZE,
    annotation,
    classes_tree,
    coco_tree,
    context_tree,
    mask,
    masks_tree,
    picture,
    read_coco,
    write_coco,
)

from hrsearch.api import Study, search
from hrsearch.candidate import Candidate
from hrsearch.cli import main
from hrsearch.errors import InputError, NothingToJudgeOn, is_disk_full
from hrsearch.evaluate import Evaluate
from hrsearch.proxy.data import load_dataset
from hrsearch.proxy.data.layout import Item, Person, Wrong
from hrsearch.proxy.data.layouts.coco import KEYPOINTS
from hrsearch.proxy.data.reading import mask_of, opened, posed, read
from hrsearch.proxy.data.survey import lines_of, survey
from hrsearch.proxy.learning import batch_at
from hrsearch.runner import Runner
from hrsearch.search.driver import Event
from hrsearch.space import load_space

SMALL: dict[str, Any] = {"image": 24, "train_images": 100, "val_images": 100}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))


# Images.


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_turned_once(orientation: int, tmp_path: Path) -> None:
    """Pillow turns TIFFs itself, and JPEGs not."""
    path, corner = tmp_path / "a.tif", Image.new("RGB", SIZE)
    corner.paste((255, 255, 255), (0, 0, 10, 6))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    corner.save(path, exif=exif)
    asked = corner.copy()
    asked.getexif()[ExifTags.Base.Orientation] = orientation
    shown = ImageOps.exif_transpose(asked)
    found, size = opened(path)
    assert size == found.size == shown.size
    assert np.array_equal(np.asarray(found), np.asarray(shown))
    if orientation > 4:  # a mask of the stored pixels is told: they are not to be had any more
        with pytest.raises(Wrong, match=r"40 x 24 pixels, but its image a\.tif has 24 x 40"):
            read(Item(path, mask(tmp_path / "a.png", (0, 1))), 2)


def test_whatever_a_decoder_says_of_a_broken_file_it_is_wrong(tmp_path: Path) -> None:
    """AVIF's has errors of its own kind."""
    path, random, told = tmp_path / "a.avif", np.random.default_rng(1), set()
    whole = picture(path, size=(50, 40)).read_bytes()
    for start in range(200, len(whole) - 40, 5):
        path.write_bytes(whole[:start] + random.bytes(40) + whole[start + 40 :])
        try:
            opened(path)
        except Wrong as error:
            told.add(str(error).split(" (")[0])
    assert told == {f"{path}: cannot be read as an image"}


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own")
    (path / "images" / "loop.png").symlink_to("loop.png")
    mask(path / "masks" / "loop.png", (0, 1))
    with pytest.raises(InputError, match=r"1 wrong item \(1 unreadable\): .*loop.png: cannot be read"):
        load_dataset(str(path), **SMALL)


@pytest.mark.parametrize("size", [(1021, 765), (640, 427)])
def test_keypoints_lie_where_their_pixels_do_near_the_far_edges(size: tuple[int, int]) -> None:
    """Of a picture made smaller first, whose size is rounded up then; the middle of a bright spot is the keypoint."""
    reach, side = 600.0, 32
    place = np.array([size[0] - 0.15 * reach, size[1] / 2])
    across, down = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    spot = np.exp(-((across - place[0]) ** 2 + (down - place[1]) ** 2) / (2 * (reach / 40) ** 2))
    image = Image.fromarray((255 * spot).round().astype(np.uint8)).convert("RGB")
    points = np.array([[*place, 2]], dtype=np.float32)
    centre = (size[0] - 0.4 * reach, size[1] / 2)
    pixels, found = posed(image, Person(0, (0, 0, 1, 1), points, size), side, centre, reach, 0.0)
    weights = pixels[0].double()
    middle = torch.arange(side) + 0.5
    seen = [(weights.sum(dim=axis) * middle).sum() / weights.sum() for axis in (0, 1)]
    assert found[0, :2].tolist() == pytest.approx([float(one) for one in seen], abs=0.1)


# Masks.


def grey_png(path: Path, values: NDArray[np.uint8], bits: int) -> Path:
    """A grey PNG of so few bits a pixel, which Pillow reads but does not write."""
    shifts = np.arange(8 - bits, -1, -bits)
    packed = (values.reshape(len(values), -1, 8 // bits) << shifts).sum(axis=2).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    head = struct.pack(">IIBBBBB", values.shape[1], len(values), bits, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_mask_of_few_bits_holds_what_it_holds(bits: int, tmp_path: Path) -> None:
    values = (np.arange(64) % 2**bits).astype(np.uint8).reshape(4, 16)
    assert np.array_equal(mask_of(grey_png(tmp_path / "a.png", values, bits), (), 255), values)


# Folders.


def test_images_in_sub_folders_are_told(tmp_path: Path) -> None:
    masks = masks_tree(tmp_path / "masks")
    picture(masks / "images" / "night" / "0.jpg")
    classes = classes_tree(tmp_path / "classes", {"cat": 12, "dog": 12})
    picture(classes / "cat" / "more" / "deep" / "0.jpg")
    (classes / "dog" / "notes").mkdir()  # holds none
    for path, words in (
        (masks, "night: a sub-folder, its images are not read; move them up into images/"),
        (classes, "cat/more: "),
    ):
        found = survey(path)
        assert found.kinds == {"sub-folder not read": 1}
        assert words in str(found.wrong[0])


def test_lists_do_not_lead_out_of_their_folder(tmp_path: Path) -> None:
    path = context_tree(tmp_path / "own")
    root = path / "VOCdevkit/VOC2010"
    picture(root / "secret.jpg")
    mask(root / "secret.png", (0, 1))
    with (root / "ImageSets/SegmentationContext/train.txt").open("a") as names:
        names.write("../secret\n")
    found = survey(path)
    assert found.kinds == {"name outside": 1}
    assert "lists '../secret', which is no file's name alone" in str(found.wrong[0])


def test_where_all_masks_are_wrong_each_is_named(tmp_path: Path) -> None:
    """Though then nothing says what the classes are."""
    path = masks_tree(tmp_path / "own", count=12)
    for file in (path / "masks").iterdir():
        Image.open(file).convert("RGB").save(file)
    found = survey(path)
    assert found.kinds["mask of colours"] == 12
    assert sum("mask" in line and ".png" in line for line in lines_of(found)) >= 12
    for file in (path / "masks").iterdir():
        file.rename(file.with_name(f"{file.stem}_mask.png"))
    assert survey(path).kinds == {"image without mask": 12, "mask without image": 12}
    with pytest.raises(SystemExit, match="1"):
        main(["data", str(path)])


def test_an_image_of_both_splits_is_wrong(tmp_path: Path) -> None:
    """Candidates would be trained on what the final score is of. A search reads no official list."""
    path = context_tree(tmp_path / "own")
    lists = path / "VOCdevkit/VOC2010/ImageSets/SegmentationContext"
    (lists / "val.txt").write_text("\n".join((lists / "train.txt").read_text().split()[:3]))
    assert survey(path).kinds == {"image in both splits": 3}
    with pytest.raises(InputError, match="3 image in both splits"):
        load_dataset(str(path), split="official", **SMALL)
    load_dataset(str(path), split="proxy", **SMALL)


def test_nothing_to_train_on_is_wrong(tmp_path: Path) -> None:
    path = coco_tree(tmp_path / "own")
    write_coco(path, "train", read_coco(path)["images"], [])
    assert survey(path).kinds == {"too few images": 1}


def test_the_hashes_are_those_of_a_study_and_a_training(tmp_path: Path) -> None:
    for number, path in enumerate((masks_tree(tmp_path / "own"), context_tree(tmp_path / "voc"))):
        found = survey(path)
        hashes = [load_dataset(str(path), split=split, **SMALL).split for split in ("official", "proxy")]
        assert [found.split, found.searched] == hashes, number


def test_annotations_of_other_kinds_are_told(tmp_path: Path) -> None:
    path = coco_tree(tmp_path / "own")
    said = read_coco(path)
    persons = [{**said["annotations"][0], "category_id": [1]}, *said["annotations"][1:]]
    images = [{**one, "file_name": f"./{one['file_name']}"} for one in said["images"]]
    write_coco(path, "train", images, persons, [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}])
    found = survey(path)
    assert (found.train, found.kinds) == (23, {"annotation unreadable": 1})
    write_coco(path, "train", [{**images[0], "id": float("inf")}], persons)
    for text in ((path / "annotations/person_keypoints_train2017.json").read_text(), "[" * 100_000):
        (path / "annotations/person_keypoints_train2017.json").write_text(text)
        with pytest.raises(InputError, match="cannot be read as COCO's JSON"):
            survey(path)


def test_a_cache_that_does_not_fit_says_what_was_short(tmp_path: Path) -> None:
    """A disk without room ends with 1 and goes on later; it is not the place that is wrong."""
    path = masks_tree(tmp_path / "own")
    with pytest.raises(OSError, match="folder-") as told:
        load_dataset(str(path), **{**SMALL, "image": 2_000_000})
    assert is_disk_full(told.value)


def test_a_cache_that_lost_a_part_says_what_to_remove(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own")
    load_dataset(str(path), **SMALL)
    [part] = (tmp_path / "cache").glob("folder-*/val_labels.npy")
    os.remove(part)
    with pytest.raises(InputError, match=rf"{part.parent.name}: cannot be read any more .*; remove it"):
        load_dataset(str(path), **SMALL)


def test_images_whose_left_means_something_are_not_flipped(tmp_path: Path) -> None:
    """From the second epoch on images are moved, and flipped where they may be."""
    path = tmp_path / "own"
    for name, box in (("left", (0, 0, 12, 24)), ("right", (28, 0, 40, 24))):
        (path / name).mkdir(parents=True)
        for index in range(12):
            image = Image.new("RGB", SIZE)
            image.paste((255, 255, 255 - index), box)
            image.save(path / name / f"{index}.png")
    data = load_dataset(str(path), **SMALL, task="classify")
    for found, flips in ((data, True), (data.flipped_if(False), False)):
        steps = [batch_at(found, 8, step=step, seed=0) for step in range(3, 12)]
        bright = torch.cat([part.images[:, 0].float().mean(dim=1) for part in steps])  # by column
        right = bright[:, 12:].sum(dim=1) > bright[:, :12].sum(dim=1)
        assert (right.long() != torch.cat([part.labels for part in steps])).any() == flips


# Persons.


@pytest.mark.parametrize("absent", [None, float("nan")])
def test_an_absent_keypoint_may_be_nowhere(absent: float | None, tmp_path: Path) -> None:
    path = coco_tree(tmp_path / "own")
    content = read_coco(path)
    for person in content["annotations"]:
        person["keypoints"][3:5] = [absent, absent]
    write_coco(path, "train", content["images"], content["annotations"])
    labels = load_dataset(str(path), **SMALL, task="pose").train.labels
    assert labels[:, 1].tolist() == [[0, 0, 0]] * len(labels)


def test_other_categories_are_left_out_and_other_keypoints_refused(tmp_path: Path) -> None:
    path = coco_tree(tmp_path / "own")
    content = read_coco(path)
    car = annotation(900, 0, category_id=3)
    del car["keypoints"]
    person = {"id": 1, "name": "person", "keypoints": list(KEYPOINTS)}
    dog = {"id": 18, "name": "dog", "keypoints": [f"paw{place}" for place in range(17)]}
    write = {"images": content["images"], "persons": [*content["annotations"], car, annotation(901, 1, category_id=18)]}
    write_coco(path, "train", **write, categories=[person, {"id": 3, "name": "car"}, dog])
    found = survey(path)
    assert (found.train, found.wrong) == (24, ())
    write_coco(path, "train", **write, categories=[dog])
    with pytest.raises(InputError, match=r"COCO's keypoints \(nose, .*\), but here is dog: paw0, paw1"):
        survey(path)


def test_an_image_may_lie_deeper_than_the_others(tmp_path: Path) -> None:
    path = coco_tree(tmp_path / "own")
    content = read_coco(path)
    content["images"][0]["file_name"] = "more/0.jpg"
    content["images"][1]["file_name"] = "../val2017/000000000000.jpg"
    picture(path / "train2017" / "more" / "0.jpg")
    write_coco(path, "train", content["images"], content["annotations"])
    found = survey(path)
    assert (found.train, found.kinds) == (22, {"image missing": 2})


def test_persons_of_whom_none_can_be_used_are_told(tmp_path: Path) -> None:
    path = coco_tree(tmp_path / "own")
    for part in ("train", "val"):
        content = read_coco(path, part)
        write_coco(path, part, [one | {"file_name": "gone.jpg"} for one in content["images"]], content["annotations"])
    found = survey(path)
    assert found.kinds["image missing"] == 32
    assert any("32 image missing" in line for line in lines_of(found))


# What changes while it is in use.


@pytest.mark.long
def test_a_search_ends_where_its_data_changes_and_nobody_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker looks the images up anew for each candidate; once they are put back, it goes on."""
    monkeypatch.chdir(tmp_path)
    own, more = masks_tree(tmp_path / "own"), [Path("own/images/new.jpg"), Path("own/masks/new.png")]
    runner = Runner.model_validate({
        "proxy": {"data": "own", "image": 32, "batch": 4, "steps": 2, "warmup": 1},
        "measure": {"image": [32, 32], "seconds": 0.05},
        "engine": {"kind": "processes", "workers": 1},
    })  # fmt: skip

    def change(event: Event) -> None:
        if event.trial.state == "trained":
            picture(more[0])
            mask(more[1], (0, 1, 2, 3))

    with pytest.raises(NothingToJudgeOn, match="data 'own' has changed since the search began"):
        search("hrvit", runner, 3, name="toy", on_event=change)
    states = [trial.state for trial in Study(Path("studies/toy")).record.trials if trial.state != "refused"]
    assert states == ["trained", "running"]
    for path in more:
        path.unlink()
    assert len(search("hrvit", runner, 3, name="toy").record.trained) == 3
    own.rename("elsewhere")
    with pytest.raises(InputError, match="data 'own' of study 'toy' does not lie here"):
        Study(Path("studies/toy")).finalize()


def test_data_that_is_gone_is_no_failed_candidate(tmp_path: Path) -> None:
    arch = load_space("hrvit").sample(42)[1]
    judge = Evaluate(Runner.model_validate({"proxy": {"data": str(tmp_path / "gone")}}), reference_ms=1.0)
    with pytest.raises(NothingToJudgeOn, match="gone': no such data set or folder"):
        judge(Candidate(0, arch.digest(), arch, 0, tmp_path))
