"""Augmentations: labels move with their images, seeds decide, distributions are the papers'; batches."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from trees import classes_tree, coco_tree, masks_tree

from hrsearch.proxy import train_proxy
from hrsearch.proxy.augment import AUGMENT, classify, mixed, pose, segment, smoothed
from hrsearch.proxy.augment.classify import KINDS, randaugmented, random_part
from hrsearch.proxy.augment.pose import half_body, mirrored
from hrsearch.proxy.augment.segment import capped_crop, distorted
from hrsearch.proxy.data import Dataset, Split, load_dataset
from hrsearch.proxy.data.dataset import dataset_of
from hrsearch.proxy.data.layout import IGNORE, Person
from hrsearch.proxy.data.layouts.coco import SWAP
from hrsearch.proxy.data.reading import Sample
from hrsearch.proxy.feed import How, batches, sample_of
from hrsearch.proxy.learning import augmented
from hrsearch.proxy.tasks import classify_loss
from hrsearch.runner import Proxy

PLAN = Proxy(image=32, batch=4, steps=6, warmup=2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))


def drawn(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def disc(size: tuple[int, int] = (120, 80), shade: int = 200) -> Sample:
    """A bright disc, class 1, on dark ground, class 0."""
    y, x = np.mgrid[: size[1], : size[0]]
    inside = (x - 50) ** 2 + (y - 40) ** 2 < 25**2
    pixels = np.where(inside, shade, 40).astype(np.uint8)
    return Sample(Image.fromarray(np.stack([pixels] * 3, axis=-1)), inside.astype(np.uint8), size)


def person(size: tuple[int, int] = (120, 80)) -> Sample:
    """Keypoints 0 to 16 in a grid, each on a spot of 5 pixels that is bright; even ones are visible, 3 is absent."""
    picture = Image.new("RGB", size)
    points = np.array([[30 + 12 * (i % 6), 20 + 16 * (i // 6), 2 - i % 2] for i in range(17)], dtype=np.float32)
    for x, y, _ in points.astype(int).tolist():
        picture.paste((255, 255, 255), (x - 2, y - 2, x + 3, y + 3))
    points[3] = 0
    points[:, :2] += 0.5 * (points[:, 2:] > 0)
    return Sample(picture, Person(0, (20.0, 8.0, 80.0, 64.0), points, size), size)


SAMPLES: dict[str, Callable[[], Sample]] = {
    "segment": disc, "classify": lambda: replace(disc(), label=1), "pose": person,
}  # fmt: skip


@pytest.mark.parametrize("task", AUGMENT)
def test_seed_decides(task: str) -> None:
    first, again, other = (AUGMENT[task](SAMPLES[task](), 48, drawn(seed), mirrors=True) for seed in (3, 3, 4))
    assert first[0].shape == (3, 48, 48)
    assert first[0].dtype == torch.uint8
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("seed", range(8))
def test_masks_move_with_their_images(seed: int) -> None:
    """Bright is class 1 and dark class 0 but for the edges, whatever was done to the colours."""
    image, labels = segment(disc(), 64, drawn(seed), mirrors=True)
    known, inside = labels != IGNORE, labels == 1
    shade = image.float().mean(dim=0)
    middle = (shade[inside].mean() + shade[known & ~inside].mean()) / 2
    assert ((shade > middle) == inside)[known].float().mean() > 0.96


def test_scales_are_those_of_the_papers() -> None:
    """The disc's area in the output, where it is all there, spans 16; below 1, part of the square has no label."""
    areas, beyond = [], []
    for seed in range(150):
        _, labels = segment(disc(), 80, drawn(seed), mirrors=True)
        areas.append(int((labels == 1).sum()))
        beyond.append(bool((labels == IGNORE).any()))
    whole = np.pi * 25**2
    assert 0.2 * whole < min(area for area in areas if area) < 0.5 * whole
    assert 1.5 * whole < max(areas) <= 4.2 * whole
    assert 0.2 < np.mean(beyond) < 0.5  # of scales below 1: a third


def test_no_class_has_it_all() -> None:
    """A corner of 10 % of another class: random crops rarely hold it, capped ones mostly do."""
    mask = np.zeros((200, 200), np.uint8)
    mask[:64, :64] = 1
    shares = []
    for seed in range(60):
        left, top, right, lower = map(int, capped_crop(mask, (200, 200), 80.0, drawn(seed)))
        shares.append(mask[top:lower, left:right].mean())
    capped = np.mean([0.25 < share < 0.75 for share in shares])
    plain = [mask[y : y + 80, x : x + 80].mean() for y, x in drawn(0).integers(120, size=(200, 2))]
    assert capped > 4 * np.mean([0.25 < share < 0.75 for share in plain]) > 0


def test_distortion_changes_every_part_of_the_colour() -> None:
    picture = Image.new("RGB", (4, 4), (180, 100, 60))
    found = np.array([np.array(distorted(picture, drawn(seed)))[0, 0] for seed in range(200)], dtype=float)
    assert 0.02 < np.mean((found == (180, 100, 60)).all(axis=1)) < 0.12  # 1 of 16
    hues = found.argmax(axis=1)
    assert (hues == 0).mean() > 0.8
    assert found.mean(axis=1).std() > 15
    assert np.ptp(found, axis=1).std() > 15


def test_parts_have_the_areas_and_ratios_of_the_papers() -> None:
    boxes = np.array([random_part((400, 300), drawn(seed)) for seed in range(400)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 400).all()
    assert (boxes[:, 3] <= 300).all()
    share, ratio = width * height / 120_000, width / height
    assert 0.08 <= share.min() < 0.12
    assert 0.9 < share.max() <= 1
    assert 0.45 < share.mean() < 0.6
    assert 0.749 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.334
    left, top, right, lower = random_part((1000, 10), drawn(0))  # no such part fits: the middle
    assert (right - left) / (lower - top) == pytest.approx(4 / 3)
    assert (left + right) / 2 == 500


def test_every_operation_does_something_and_keeps_the_size() -> None:
    picture = Image.fromarray(drawn(0).integers(30, 200, size=(24, 24, 3), dtype=np.uint8))
    for index, operation in enumerate(KINDS):
        changed = operation(picture, 0.9, 1.0)
        assert changed.size == picture.size
        assert np.abs(np.asarray(changed, float) - np.asarray(picture, float)).mean() > 1, index


def test_each_operation_happens_half_of_the_time() -> None:
    """A quarter of the images stay as they were, none does when both operations always happen."""
    picture = Image.fromarray(drawn(0).integers(30, 200, size=(24, 24, 3), dtype=np.uint8))
    changed = (np.asarray(randaugmented(picture, drawn(seed))) for seed in range(400))
    found = [np.array_equal(each, np.asarray(picture)) for each in changed]
    assert 0.18 < np.mean(found) < 0.32


def test_classes_stay_and_mirrors_are_asked_for() -> None:
    assert classify(replace(disc(), label=7), 32, drawn(0), mirrors=True)[1].item() == 7
    ramp = Image.fromarray(np.broadcast_to(np.arange(0, 240, 2, dtype=np.uint8)[None, :, None], (80, 120, 3)).copy())
    sample = Sample(ramp, np.zeros((80, 120), np.uint8), ramp.size)
    rising = [_rises(segment(sample, 32, drawn(seed), mirrors=False)[0]) for seed in range(20)]
    assert all(rising)
    mixed_ones = [_rises(segment(sample, 32, drawn(seed), mirrors=True)[0]) for seed in range(40)]
    assert 0.25 < np.mean(mixed_ones) < 0.75


def _rises(image: Tensor) -> bool:
    row = image.float().mean(dim=0)[0]
    return bool(row[12] >= row[0])


@pytest.mark.parametrize("seed", range(10))
def test_keypoints_move_with_their_images(seed: int) -> None:
    image, points = pose(person(), 96, drawn(seed), mirrors=True, swap=SWAP)
    assert points.shape == (17, 3)
    bright = F.max_pool2d(image[:1].float(), 5, stride=1, padding=2)[0] > 120
    for x, y, seen in points.tolist():
        if seen:
            assert bright[min(int(y), 95), min(int(x), 95)]
    absent = SWAP.index(3)  # the keypoint 3, mirrored or not
    assert points[3, 2] == 0 or points[absent, 2] == 0
    assert points[:, 2].sum() >= 3


def test_mirrored_keypoints_change_sides() -> None:
    image = torch.arange(12, dtype=torch.uint8).view(1, 1, 12).expand(3, 12, 12)
    points = torch.tensor([[float(i), 5.0, 1.0] for i in range(12)] + [[0.0, 0.0, 0.0]] * 5)
    turned, found = mirrored(image, points, SWAP)
    assert turned[0, 0].tolist() == list(range(11, -1, -1))
    assert found[2].tolist() == [12 - 1, 5, 1]  # where the left eye, 1, was is now a right one
    assert found[1].tolist() == [12 - 2, 5, 1]
    assert found[14].tolist() == [0, 0, 0]
    again = mirrored(turned, found, SWAP)
    assert torch.equal(again[0], image)
    assert torch.equal(again[1], points)


def test_half_bodies_are_their_keypoints() -> None:
    label = person().label
    assert isinstance(label, Person)
    for upper, rows in ((True, label.points[:11]), (False, label.points[11:])):
        left, top, width, height = half_body(label, upper=upper).box
        seen = rows[rows[:, 2] > 0, :2]
        assert (seen >= (left, top)).all()
        assert (seen <= (left + width, top + height)).all()
        assert width * height < label.box[2] * label.box[3]
    few = replace(label, points=label.points * (np.arange(17) < 8)[:, None])
    assert half_body(few, upper=True) is few


def test_turns_and_scales_are_those_of_the_papers() -> None:
    """From the places of two keypoints: six of ten are turned, by less than 90 degrees; sizes within 35 %."""
    angles, sizes = [], []
    label = person().label
    assert isinstance(label, Person)
    two = replace(label, points=label.points * np.isin(np.arange(17), (8, 9))[:, None])
    for seed in range(200):
        _, points = pose(replace(person(), label=two), 100, drawn(seed), mirrors=False)
        if points[8, 2] and points[9, 2]:
            across, down = (points[9] - points[8])[:2].tolist()
            angles.append(np.degrees(np.arctan2(down, across)))
            sizes.append(np.hypot(across, down) / 12)
    assert len(angles) > 180
    assert 0.5 < np.mean(np.abs(angles) > 0.1) < 0.7
    assert np.abs(angles).max() < 90.1
    assert 100 / 100 / 1.36 < min(sizes) < 0.8
    assert 1.3 < max(sizes) < 100 / 100 / 0.64


def test_other_turns_and_scales_reach_the_batches(tmp_path: Path) -> None:
    """Without any, whatever is drawn: each person as it stands, whole or half."""
    sample = person()
    still: dict[str, Any] = {"mirrors": False, "rotation": 0.0, "rescale": 0.0}
    found = {pose(sample, 48, drawn(seed), **still)[0].numpy().tobytes() for seed in range(30)}
    assert len(found) == 3  # whole, the upper half, the lower
    assert len({pose(sample, 48, drawn(seed), mirrors=False)[0].numpy().tobytes() for seed in range(30)}) > 20
    data = own("pose", tmp_path / "own")
    calm = How(augments=True, from_files=True, rotation=0.0, rescale=0.0)
    for how in (replace(calm, rotation=45.0), replace(calm, rescale=0.35)):
        ours, theirs = (next(batches(data, PLAN, each, seed=1)).images for each in (calm, how))
        assert not torch.equal(ours, theirs)


def test_mixed_labels_are_shares_of_pixels() -> None:
    """Images of one shade by class: an image's mean shade is its labels' mean."""
    images = torch.tensor([0, 60, 120, 240], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 16, 16).contiguous()
    batch = Split(images, smoothed(torch.arange(4), 4, 0.0))
    shades, cut = torch.tensor([0.0, 60.0, 120.0, 240.0]), 0
    for seed in range(40):
        found = mixed(batch, drawn(seed))
        assert torch.allclose(found.labels.sum(dim=1), torch.ones(4))
        torch.testing.assert_close(found.images.float().mean(dim=(1, 2, 3)), found.labels @ shades, atol=1, rtol=0)
        cut += len(found.images[0].unique()) == 2  # type: ignore[no-untyped-call]
    assert 8 < cut < 32  # CutMix half of the time, sometimes of nothing or all
    assert images[0].max() == 0  # nobody else's images are written


def test_smoothed_labels_are_spread() -> None:
    assert smoothed(torch.tensor([1]), 4, 0.2).tolist()[0] == pytest.approx([0.05, 0.85, 0.05, 0.05])


def test_loss_takes_shares_of_classes() -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1]), torch.tensor([0.5, 1.0, 2.0])
    images = torch.zeros(5, 3, 2, 2, dtype=torch.uint8)
    hard = classify_loss(logits, Split(images, labels), weights)
    soft = classify_loss(logits, Split(images, smoothed(labels, 3, 0.0)), weights)
    torch.testing.assert_close(hard, soft)
    torch.testing.assert_close(
        classify_loss(logits, Split(images, smoothed(labels, 3, 0.1)), torch.ones(3)),
        F.cross_entropy(logits, labels, label_smoothing=0.1),
    )


def test_moved_and_flipped_squares_swap_sides_too() -> None:
    points = torch.zeros(64, 17, 3)
    points[:, 5] = torch.tensor([10.0, 16.0, 1.0])
    batch = Split(torch.zeros(64, 3, 32, 32, dtype=torch.uint8), points)
    found = augmented(batch, task="pose", mirrors=True, generator=torch.Generator().manual_seed(0), swap=SWAP)
    flipped = found.labels[:, 6, 2] == 1
    assert 15 < flipped.sum() < 49
    assert (found.labels[flipped, 6, 0] > 16).all()
    assert (found.labels[~flipped, 5, 0] < 16).all()


# Batches.


def own(task: str, path: Path, **changes: Any) -> Dataset:
    tree = {
        "segment": lambda: masks_tree(path, values=(0, 1, 2)),
        "classify": lambda: classes_tree(path, {"cat": 12, "dog": 12}),
        "pose": lambda: coco_tree(path),
    }[task]()
    sizes: dict[str, Any] = {"image": 32, "train_images": 20, "val_images": 8, "task": task}
    return load_dataset(str(tree), **(sizes | changes), split="official")


@pytest.mark.parametrize("task", AUGMENT)
def test_batches_are_a_function_of_the_seed_and_the_step(task: str, tmp_path: Path) -> None:
    data = own(task, tmp_path / "own", decoded=4)
    assert len(data.train) == 4 < len(data.files)
    how = How(augments=True, from_files=True)
    first = list(batches(data, PLAN, how, seed=1))
    assert len(first) == 6
    assert first[0].images.shape == (4, 3, 32, 32)
    assert not torch.equal(first[0].images, next(batches(data, PLAN, how, seed=2)).images)
    later = list(batches(data, PLAN, replace(how, workers=1), seed=1, start=3))  # taken up, in another process
    assert len(later) == 3
    for here, there in zip(first[3:], later, strict=True):
        assert torch.equal(here.images, there.images)
        assert torch.equal(here.labels, there.labels)
    assert not list(batches(data, PLAN, how, seed=1, start=6))


def test_every_file_comes_once_an_epoch(tmp_path: Path) -> None:
    """Images of one shade by class and number, cut and turned: mirrors and crops leave a class's first channel."""
    data = own("segment", tmp_path / "own", decoded=2)
    plan = PLAN.model_copy(update={"batch": len(data.files), "steps": 1})
    (batch,) = batches(data, plan, How(augments=True, from_files=True), seed=0)
    assert len(batch) == len(data.files)
    assert set(batch.labels.flatten().tolist()) <= {0, 1, 2, 255}


@pytest.mark.parametrize("task", AUGMENT)
def test_squares_in_memory_are_augmented_likewise(task: str) -> None:
    data = load_dataset("six_digits", image=64, train_images=32, val_images=8, task=task)
    plain = sample_of(data.train, 3)
    assert np.array_equal(np.asarray(plain.picture).transpose(2, 0, 1), data.train.images[3].numpy())
    for batch in batches(data, PLAN.model_copy(update={"steps": 2}), How(augments=True), seed=0):
        assert batch.images.shape == (4, 3, 64, 64)
    assert batch.labels.shape[1:] == {"segment": (64, 64), "classify": (6,), "pose": (6, 3)}[task]


def test_proxy_augments_only_where_it_is_asked_to() -> None:
    data = load_dataset("six_digits", image=32, train_images=32, val_images=8, task="classify")

    def loss(**changes: Any) -> float:
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 6))
        few = Proxy(image=32, batch=8, steps=2, warmup=1, optimizer="adamw").model_copy(update=changes)
        return train_proxy(network, data, few, seed=0).loss

    assert loss() == loss(augment=False) != loss(augment=True)


def test_all_classes_weigh_though_few_images_are_decoded(tmp_path: Path) -> None:
    data = own("classify", tmp_path / "own", decoded=1)
    assert len(data.train) == 1
    assert data.train_labels.bincount().min() > 5


def test_unaugmented_batches_are_those_of_before() -> None:
    images = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 3, 8, 8).contiguous()
    split = Split(images, torch.arange(8) % 2)
    data = dataset_of(split, split, ("a", "b"), mirrors=True, task="classify")
    (hard,) = batches(data, PLAN.model_copy(update={"steps": 1}), How(), seed=0)
    (soft,) = batches(data, PLAN.model_copy(update={"steps": 1}), How(smoothing=0.2), seed=0)
    assert torch.equal(hard.labels, soft.labels.argmax(dim=1))
    assert soft.labels.max() == pytest.approx(0.9)
