"""The built-in scenes and a person's own images: shapes, labels, splits, seeds, mistakes."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrsearch.errors import InputError
from hrsearch.proxy.data import Dataset, digits, folder, load_dataset
from hrsearch.proxy.data.dataset import stored
from hrsearch.registry import DATASETS

scenes = sys.modules["hrsearch.proxy.data.digits"]  # the package's name for it is the constructor
SMALL = {"image": 32, "train_images": 24, "val_images": 8}


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
        assert DATASETS.options(kind).keys() == {"image", "train_images", "val_images", "seed"}


def test_digits_have_the_sizes_asked_for() -> None:
    require_data(digits(**SMALL), 32, (24, 8))


def test_digits_depend_on_the_seed_alone(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = digits(**SMALL)
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "other"))
    torch.manual_seed(5)
    again, other = digits(**SMALL), digits(**SMALL, seed=1)
    assert first.split == again.split != other.split
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.val.labels, again.val.labels)


def test_digits_of_the_splits_are_different_ones() -> None:
    train, val = (scenes._source(tuple(range(10)), validation=validation) for validation in (False, True))
    ours = {glyph.numpy().tobytes() for glyph in train.glyphs}
    assert not any(glyph.numpy().tobytes() in ours for glyph in val.glyphs)
    assert len(train.glyphs) > 2 * len(val.glyphs) > 400


def test_every_class_is_to_be_learnt_and_none_is_rare() -> None:
    data = digits(image=64, train_images=256, val_images=8)
    share = torch.bincount(data.train.labels.flatten().long(), minlength=len(data.classes)) / data.train.labels.numel()
    assert len(data.classes) == 11
    assert 0.5 < share[0] < 0.8
    assert share[1:].min() > 0.015


def test_digits_span_the_strides() -> None:
    """From cells of the finest maps to half of the image: 14 to 45 pixels at 64."""
    side = scenes._places(256, 64, torch.Generator().manual_seed(0)).side
    assert side.min() < 16
    assert side.max() > 40
    assert side.max() <= scenes.LARGEST * 64 + 1e-4


def test_digits_do_not_overlap() -> None:
    places = scenes._places(64, 64, torch.Generator().manual_seed(0))
    for first in range(scenes.SLOTS):
        for second in range(first):
            both = places.free[:, first] & places.free[:, second]
            reach = (places.side[:, first] + places.side[:, second]) / 2
            across = (places.x[:, first] - places.x[:, second]).abs()
            down = (places.y[:, first] - places.y[:, second]).abs()
            assert (torch.maximum(across, down) >= reach - 1e-3)[both].all()


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

    def late() -> Dataset:
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
    require_data(data, 24, (8, 2))
    assert data.classes == ("0", "1", "2")
    assert data.mirrors
    assert (data.train.labels == 255).sum() == 8  # the middle pixel of each
    known = data.train.labels != 255
    assert torch.equal(data.train.images[:, 0][known], data.train.labels[known] * 20)


def test_folder_is_split_by_the_seed(tmp_path: Path) -> None:
    path = own_images(tmp_path / "own")
    sizes = {"image": 24, "train_images": 6, "val_images": 2}
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
    require_data(folder(path, image=48, train_images=9, val_images=9), 48, (3, 1))


def test_changed_folder_is_read_again(tmp_path: Path) -> None:
    path = own_images(tmp_path / "own")
    first = folder(path, **SMALL)
    Image.new("RGB", (40, 24), "red").save(path / "images/000.png")
    assert folder(path, **SMALL).split != first.split


def break_mask(path: Path, picture: Image.Image) -> None:
    picture.save(path / "masks/003.png")


def empty_masks(path: Path) -> None:
    shutil.rmtree(path / "masks")
    (path / "masks").mkdir()


def test_mistakes_in_a_folder_are_told(tmp_path: Path) -> None:
    cases: dict[str, Callable[[Path], object]] = {
        "masks: no such folder": lambda path: shutil.rmtree(path / "masks"),
        "0 pairs of an image and a mask of the same name among 10 images and 0 masks": empty_masks,
        r"003.png: cannot be read as an image": lambda path: (path / "images/003.png").write_text("no image"),
        r"003.png: 7 x 5 pixels, but its image 003.png has 40 x 24": lambda path: break_mask(
            path, Image.new("L", (7, 5))
        ),
        "a mask has one channel of class indices 0 to 255, but this one is RGB": lambda path: break_mask(
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
