"""The built-in scenes and a person's own images: shapes, labels, splits, seeds, mistakes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from hrsearch.errors import InputError
from hrsearch.proxy.data import Dataset, digits, folder, knows_official, load_dataset
from hrsearch.proxy.data.dataset import stored
from hrsearch.registry import DATASETS

scenes = sys.modules["hrsearch.proxy.data.digits"]  # the package's name for it is the constructor
SMALL: dict[str, Any] = {"image": 32, "train_images": 24, "val_images": 8}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def own_images(path: Path, *, count: int = 10, classes: int = 3) -> Path:
    """A folder with images of one colour by class, 40 x 24 pixels, and their masks."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (path / name).mkdir(parents=True)
    for index in range(count):
        mask = random.integers(classes, size=(24, 40), dtype=np.uint8)
        mask[0, 0], mask[12, 20] = classes - 1, 255
        Image.fromarray(mask).save(path / "masks" / f"{index:03}.png")
        Image.fromarray(np.stack([mask] * 3, axis=-1) * 20).save(path / "images" / f"{index:03}.png")
    return path


def require_data(data: Dataset, image: int, counts: tuple[int, int]) -> None:
    """What every data set keeps."""
    for split, count in zip((data.train, data.val), counts, strict=True):
        assert split.images.shape == (count, 3, image, image)
        assert split.labels.shape == (count, image, image)
        assert split.images.dtype == split.labels.dtype == torch.uint8
        assert all(label < len(data.classes) or label == 255 for label in set(split.labels.flatten().tolist()))
    assert len(data.split) == 16
    assert all(0 < std < 1 for std in data.std)


def test_every_data_set_keeps_the_contract(tmp_path: Path) -> None:
    for kind in DATASETS:
        first = (own_images(tmp_path / kind),) if kind == "folder" else ()
        data = DATASETS[kind](*first, **SMALL)
        require_data(data, 32, (len(data.train), len(data.val)))
        assert DATASETS.options(kind).keys() >= {"image", "train_images", "val_images", "seed", "task"}


def test_digits_have_the_sizes_asked_for() -> None:
    require_data(digits(**SMALL), 32, (24, 8))


@pytest.mark.parametrize("seed", range(4))
def test_a_few_scenes_may_all_be_on_one_photograph(seed: int) -> None:
    require_data(digits(image=32, train_images=1, val_images=2, seed=seed), 32, (1, 2))


def test_digits_depend_on_the_seed_alone(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = digits(**SMALL)
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "other"))
    torch.manual_seed(5)
    again, other = digits(**SMALL), digits(**SMALL, seed=1)
    assert first.split == again.split != other.split
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.val.labels, again.val.labels)


def test_digits_are_the_same_on_every_processor(tmp_path: Path) -> None:
    """Of a process whose torch does without the vector instructions that this one has, which round otherwise."""
    sizes: dict[str, Any] = {"image": 32, "train_images": 256, "val_images": 64}
    asked = [("six_digits", "pose"), ("hard_digits", "segment")]
    program = (
        "from hrsearch.proxy.data import load_dataset\n"
        f"for name, task in {asked}: print(load_dataset(name, **{sizes}, task=task).split)"
    )
    older = {"ATEN_CPU_CAPABILITY": "default", "HRSEARCH_CACHE": str(tmp_path / "older")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | older, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [load_dataset(name, **sizes, task=task).split for name, task in asked]


def test_digits_of_the_splits_are_different_ones() -> None:
    train, val = (scenes._source(tuple(range(10)), validation=validation) for validation in (False, True))
    ours = {glyph.numpy().tobytes() for glyph in train.glyphs}
    assert not any(glyph.numpy().tobytes() in ours for glyph in val.glyphs)
    assert len(train.glyphs) > 2 * len(val.glyphs) > 400


@pytest.mark.parametrize("task", ["segment", "classify", "pose"])
def test_official_scenes_are_others_than_the_proxys(task: str) -> None:
    """The same to train on, none in common to validate on; whatever the seed of either."""
    data, official = (load_dataset("digits", **SMALL, task=task, split=split) for split in ("proxy", "official"))
    assert torch.equal(data.train.images, official.train.images)
    assert torch.equal(data.train.labels, official.train.labels)
    assert len(official.val) == len(data.val)
    assert official.split != data.split
    assert official.split == load_dataset("digits", **SMALL, task=task, split="official").split
    others = [load_dataset("digits", **SMALL, task=task, seed=seed) for seed in (1, 2)]
    seen = {image.numpy().tobytes() for each in (data, *others) for image in (*each.train.images, *each.val.images)}
    assert not any(image.numpy().tobytes() in seen for image in official.val.images)


def plain(*, image: int, train_images: int, val_images: int, seed: int = 0, task: str = "segment") -> Dataset:
    """Data of a plug-in that knows no other validation images."""
    return digits(image=image, train_images=train_images, val_images=val_images, seed=seed, task=task)


def test_data_of_a_plug_in_may_have_one_split_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS._entries, "plain", plain)
    both = [load_dataset("plain", **SMALL, split=split).split for split in ("proxy", "official")]
    assert both[0] == both[1] == digits(**SMALL).split
    assert [knows_official(name) for name in ("plain", "digits", "six_digits", "a/folder")] == [False, True, True, True]


def test_every_class_is_to_be_learnt_and_none_is_rare() -> None:
    data = digits(image=64, train_images=256, val_images=8)
    share = torch.bincount(data.train.labels.flatten().long(), minlength=len(data.classes)) / data.train.labels.numel()
    assert len(data.classes) == 11
    assert 0.5 < share[0] < 0.8
    assert share[1:].min() > 0.015


def test_digits_span_the_strides() -> None:
    """From cells of the finest maps to half of the image: 14 to 45 pixels at 64."""
    side = scenes._places(256, scenes.SLOTS, (14, 0.7 * 64), 64, torch.Generator().manual_seed(0)).side
    assert side.min() < 16
    assert side.max() > 40
    assert side.max() <= scenes.LARGEST * 64 + 1e-4


def test_digits_do_not_overlap() -> None:
    places = scenes._places(64, scenes.SLOTS, (14, 0.7 * 64), 64, torch.Generator().manual_seed(0))
    for first in range(scenes.SLOTS):
        for second in range(first):
            both = places.free[:, first] & places.free[:, second]
            reach = (places.side[:, first] + places.side[:, second]) / 2
            across = (places.x[:, first] - places.x[:, second]).abs()
            down = (places.y[:, first] - places.y[:, second]).abs()
            assert (torch.maximum(across, down) >= reach - 1e-3)[both].all()


def test_hard_scenes_reach_from_plain_to_hard() -> None:
    """In every scene of six digits ink is bright on a dim photograph; where they are hard, in two of three."""

    def stands_out(name: str) -> torch.Tensor:
        data = load_dataset(name, image=64, train_images=200, val_images=8)
        light, is_ink = data.train.images.float().mean(dim=1) / 255, data.train.labels > 0
        ink = (light * is_ink).sum(dim=(1, 2)) / is_ink.sum(dim=(1, 2))
        found = ink - (light * ~is_ink).sum(dim=(1, 2)) / (~is_ink).sum(dim=(1, 2))
        return found[~found.isnan()]  # where there are but decoys, there is no ink of a class

    plain, hard = stands_out("six_digits"), stands_out("hard_digits")
    assert plain.min() > 0.15
    assert 0.5 < (hard > 0.15).float().mean() < 0.8
    assert (hard.abs() < 0.1).float().mean() > 0.15  # by brightness alone they are not seen
    assert hard.min() < -0.1


def test_digits_to_classify_are_plain_in_hard_scenes_too() -> None:
    """A whole image teaches little: hard ones would teach nothing within a proxy's length."""
    plain, hard = (load_dataset(name, **SMALL, task="classify") for name in ("six_digits", "hard_digits"))
    assert hard.split == plain.split


def test_digits_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="digits need images of at least 28 pixels, but got 16"):
        digits(image=16, train_images=4, val_images=4)


def test_data_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = digits(**SMALL)
    monkeypatch.delattr(scenes, "_split")
    again = digits(**SMALL)
    assert again.split == first.split
    assert torch.equal(again.train.images, first.train.images)
    assert again.mean == first.mean
    assert len(list(cache.iterdir())) == 1  # and no draft is left


def test_another_process_may_be_first(cache: Path) -> None:
    first = digits(**SMALL)
    (place,) = cache.iterdir()

    def late(_: Path) -> Dataset:
        shutil.copytree(place, cache / "new")  # while this process is making its own
        return first

    assert stored("new", late).split == first.split
    assert sorted(path.name for path in cache.iterdir()) == sorted([place.name, "new"])


def test_writes_reach_no_other_reader() -> None:
    data = digits(**SMALL)
    data.train.images.zero_()
    assert digits(**SMALL).train.images.any()


def test_cache_that_cannot_be_written_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set HRSEARCH_CACHE"):
        digits(**SMALL)


def test_folder_is_read_with_its_labels(tmp_path: Path) -> None:
    data = load_dataset(str(own_images(tmp_path / "own")), image=24, train_images=100, val_images=100)
    counts = len(data.train), len(data.val)
    require_data(data, 24, counts)
    assert counts[0] + counts[1] < 10  # a tenth is held out, one image at least
    assert data.classes == ("0", "1", "2")
    assert data.mirrors
    assert (data.train.labels == 255).sum() == counts[0]  # the middle pixel of each
    known = data.train.labels != 255
    assert torch.equal(data.train.images[:, 0][known], data.train.labels[known] * 20)


def test_folder_is_split_by_the_seed(tmp_path: Path) -> None:
    path = own_images(tmp_path / "own", count=20)
    sizes: dict[str, Any] = {"image": 24, "train_images": 6, "val_images": 2}
    first, again, other = (folder(path, **sizes, seed=seed) for seed in (0, 0, 1))
    assert first.split == again.split != other.split
    train, val = ({image.numpy().tobytes() for image in split.images} for split in (first.train, first.val))
    assert len(train) == 6
    assert not train & val


def test_folder_takes_other_sizes_and_formats(tmp_path: Path) -> None:
    path = own_images(tmp_path / "own", count=4)
    for suffix, index in ((".jpg", 0), (".bmp", 1)):
        old = path / "images" / f"{index:03}.png"
        Image.open(old).save(old.with_suffix(suffix))
        old.unlink()
    mask = Image.open(path / "masks/002.png").convert("P")
    mask.putdata(Image.open(path / "masks/002.png").tobytes())
    mask.save(path / "masks/002.png")
    data = folder(path, image=48, train_images=9, val_images=9)
    require_data(data, 48, (len(data.train), len(data.val)))


def test_changed_folder_is_read_again(tmp_path: Path) -> None:
    path = own_images(tmp_path / "own")
    first = folder(path, **SMALL)
    Image.new("RGB", (40, 24), "red").save(first.files[0].image)
    assert folder(path, **SMALL).split != first.split


def break_masks(path: Path, picture: Image.Image) -> None:
    for file in (path / "masks").iterdir():
        picture.save(file)


def break_images(path: Path) -> None:
    for file in (path / "images").iterdir():
        file.write_text("no image")


def empty_masks(path: Path) -> None:
    shutil.rmtree(path / "masks")
    (path / "masks").mkdir()


def test_mistakes_in_a_folder_are_told(tmp_path: Path) -> None:
    cases: dict[str, Callable[[Path], object]] = {
        "no layout for task 'segment' fits; it holds images/; what would fit: ": lambda path: shutil.rmtree(
            path / "masks"
        ),
        r"10 wrong items \(10 image without mask\)": empty_masks,
        r"\.png: cannot be read as an image": break_images,
        r"\.png: 7 x 5 pixels, but its image \d*\.png has 40 x 24": lambda path: break_masks(
            path, Image.fromarray(np.eye(5, 7, dtype=np.uint8))
        ),
        "a mask has one channel of class indices 0 to 255, but this one is RGB": lambda path: break_masks(
            path, Image.new("RGB", (40, 24))
        ),
    }
    for number, (words, spoil) in enumerate(cases.items()):
        path = own_images(tmp_path / str(number))
        spoil(path)
        with pytest.raises(InputError, match=words):
            folder(path, image=24, train_images=10, val_images=10)


def test_masks_of_one_class_are_refused(tmp_path: Path) -> None:
    path = own_images(tmp_path / "own", classes=1)
    with pytest.raises(InputError, match="fewer than two classes"):
        folder(path, **SMALL)


def test_data_that_does_not_exist_is_told() -> None:
    for name in ("digit", "absent/folder", "folder"):
        with pytest.raises(InputError, match=f"data {name!r}: no such data set or folder; give 'digits', "):
            load_dataset(name, **SMALL)


@pytest.mark.parametrize("name", ["digits", "six_digits", "hard_digits"])
def test_digits_serve_every_task_and_to_segment_they_are_the_same(name: str, cache: Path) -> None:
    """The bytes and the place in the cache that they had when there was no other task, and none were hard."""
    known = {"digits": "6233c20671d725cb", "six_digits": "8528b2693e72cdc4", "hard_digits": "4ec60b2a9abca55f"}
    sizes: dict[str, dict[str, Any]] = {
        "digits": {"image": 64, "train_images": 32, "val_images": 8},
        "six_digits": {"image": 32, "train_images": 48, "val_images": 16},
        "hard_digits": {"image": 32, "train_images": 48, "val_images": 16},
    }
    data = load_dataset(name, **sizes[name])
    place = {
        "digits": "digits5-10-64px-32-8-seed0",
        "six_digits": "digits5-6-32px-48-16-seed0",
        "hard_digits": "digits5-6-hard-32px-48-16-seed0",
    }
    assert (data.split, data.task) == (known[name], "segment")
    assert [path.name for path in cache.iterdir()] == [place[name]]
    splits = {load_dataset(name, **sizes[name], task=task).split for task in ("segment", "classify", "pose")}
    assert len(splits) == len(list(cache.iterdir())) == 3


def test_a_data_set_of_before_there_were_tasks_is_read(cache: Path) -> None:
    first = digits(**SMALL)
    (facts,) = cache.glob("*/facts.json")
    old = json.loads(facts.read_text())
    del old["task"]
    facts.write_text(json.dumps(old))
    assert digits(**SMALL).split == first.split
    assert digits(**SMALL).task == "segment"


def test_digits_to_classify_are_alone_and_named() -> None:
    data = load_dataset("digits", image=64, train_images=300, val_images=8, task="classify")
    assert data.classes == tuple("0123456789")
    assert data.train.labels.shape == (300,)
    assert data.train.labels.dtype == torch.int64
    assert torch.bincount(data.train.labels, minlength=10).min() > 12
    bright = (data.train.images.amax(dim=1) > 160).float().mean(dim=(1, 2))  # photographs are dimmed to 102
    assert 0.01 < bright.min() < bright.max() < 0.6


def test_keypoints_are_the_middles_of_digits() -> None:
    """Where none is drawn the photograph is dim; around a keypoint there is ink."""
    data = load_dataset("six_digits", image=64, train_images=200, val_images=8, task="pose")
    labels = data.train.labels
    assert labels.shape == (200, 6, 3)
    assert labels.dtype == torch.float32
    assert set(labels[..., 2].flatten().tolist()) == {0.0, 1.0}
    assert 2 < labels[..., 2].sum(dim=1).mean() < 6
    seen = labels[..., 2] > 0
    assert (labels[seen][:, :2] >= 7).all()
    assert (labels[seen][:, :2] <= 57).all()
    assert seen.float().mean(dim=0).min() > 0.4  # of every kind
    lit = F.max_pool2d(data.train.images.amax(dim=1, keepdim=True).float(), 9, stride=1, padding=4)[:, 0] > 160
    scene = torch.arange(200)[:, None].expand(-1, 6)
    x, y = labels[..., 0].long().clamp(max=63), labels[..., 1].long().clamp(max=63)
    assert lit[scene, y, x][seen].float().mean() > 0.97


def own_classes(path: Path, counts: dict[str, int]) -> Path:
    """A folder with so many images of each class, all of one colour by class, 40 x 24 pixels."""
    for shade, (name, count) in enumerate(counts.items()):
        (path / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (40, 24), (shade * 50, index, 0)).save(path / name / f"{index:03}.png")
    return path


def test_a_folder_per_class_is_read(tmp_path: Path) -> None:
    path = own_classes(tmp_path / "own", {"cat": 10, "dog": 5, "eel": 2})
    data = load_dataset(str(path), image=24, train_images=100, val_images=100, task="classify")
    assert (data.classes, data.task, data.mirrors) == (("cat", "dog", "eel"), "classify", True)
    both = torch.cat([data.train.labels, data.val.labels]).bincount().tolist()
    assert all(0 < ours < all_of for ours, all_of in zip(both, (10, 5, 2), strict=True))  # some are held out
    assert data.val.labels.bincount()[:2].min() > 0
    for split in (data.train, data.val):
        assert torch.equal(split.images[:, 0, 12, 12].long(), split.labels * 50)
    few = load_dataset(str(path), image=24, train_images=6, val_images=2, task="classify")
    assert (len(few.train), len(few.val)) == (6, 2)


def test_a_folder_with_its_own_split_is_read_as_it_is(tmp_path: Path) -> None:
    own_classes(tmp_path / "own" / "train", {"cat": 3, "dog": 2})
    path = own_classes(tmp_path / "own" / "val", {"cat": 1, "dog": 2}).parent
    sizes: dict[str, Any] = {"image": 24, "train_images": 100, "val_images": 100, "task": "classify"}
    data = load_dataset(str(path), **sizes, split="official")
    assert data.classes == ("cat", "dog")
    assert data.train.labels.bincount().tolist() == [3, 2]
    assert data.val.labels.bincount().tolist() == [1, 2]
    (path / "val" / "dog").rename(path / "val" / "fox")
    with pytest.raises(
        InputError, match=r"val/fox: its class is not among those to train on; .*val/dog: holds no image"
    ):
        load_dataset(str(path), **sizes, split="official")
    assert len(load_dataset(str(path), **sizes).files) == 3  # the search does not look there


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "no layout for task 'classify' fits; it holds nothing"),
        ({"cat": 3}, "it holds cat/; what would fit: class folders: one sub-folder of images"),
        ({"images": 3, "masks": 3}, "it holds images/, masks/; what would fit"),
        ({"cat": 3, "dog": 1}, "dog: one image is too few"),
        ({"cat": 3, "dog": 0}, "dog: holds no image"),
    ],
)
def test_mistakes_in_a_folder_per_class_are_told(tmp_path: Path, counts: dict[str, int], words: str) -> None:
    (tmp_path / "own").mkdir()
    path = own_classes(tmp_path / "own", counts)
    with pytest.raises(InputError, match=words):
        load_dataset(str(path), image=24, train_images=9, val_images=9, task="classify")


def test_tasks_that_the_data_is_not_for_are_told(tmp_path: Path) -> None:
    path = own_images(tmp_path / "own")
    with pytest.raises(InputError, match=r"no layout for task 'pose' fits; it holds images/, masks/; .*COCO keypoints"):
        load_dataset(str(path), **SMALL, task="pose")
    with pytest.raises(InputError, match="task 'poses' does not exist; did you mean 'pose'"):
        load_dataset("digits", **SMALL, task="poses")
