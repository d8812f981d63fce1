"""A data set in memory, and its place on the disk, where it is made once for all worker processes.

Shapes: N images, H = W their side in pixels.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hrsearch.errors import InputError, as_out_of_memory, is_disk_full
from hrsearch.proxy.data.layout import IGNORE, Item

__all__ = ["IGNORE", "Dataset", "Split", "dataset_of", "reserve", "stored"]

SAMPLE = 2**22  # pixels of the training images that the statistics are taken from


@dataclass(frozen=True)
class Split:
    """Images (N, 3, H, W), uint8, and their labels, which the task shapes.

    "segment": a class per pixel (N, H, W), uint8; 255 is no class. "classify": a class per image (N,), int64. "pose": K
    keypoints (N, K, 3), float32: x and y in pixels from the upper left corner, and 1 if it is visible, else 0.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Split":
        """The same on `device`."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """Training and validation images, and what must be known to train on them."""

    train: Split
    val: Split
    classes: tuple[str, ...]  # or the keypoints' names
    mirrors: bool  # whether an image flipped left to right is as good an image
    split: str  # 16 hexadecimal digits: equal exactly for equal images, labels (of a person's: names, sizes) and split
    mean: tuple[float, float, float]  # of the training images by channel, in 0..1
    std: tuple[float, float, float]
    task: str = "segment"  # what the labels are for
    swap: tuple[int, ...] = ()  # the keypoint that each one is once the image is mirrored; none: itself
    files: tuple[Item, ...] = ()  # a person's own: all training images; `train` may hold the first of them only
    val_files: tuple[Item, ...] = ()  # and those to validate on, of which `val` holds squares

    def flipped_if(self, allowed: bool) -> "Dataset":
        """The same; none of its images is flipped where that is not allowed."""
        return replace(self, mirrors=self.mirrors and allowed)

    @property
    def normalisation(self) -> dict[str, list[float]]:
        """By what images are normalised, for whoever uses the network elsewhere."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @property
    def train_labels(self) -> Tensor:
        """Labels of the training images, of all that are classified and of those in memory otherwise."""
        if self.files and self.task == "classify":
            return torch.tensor([item.label for item in self.files])
        return self.train.labels


def dataset_of(
    train: Split,
    val: Split,
    classes: tuple[str, ...],
    *,
    mirrors: bool,
    task: str = "segment",
    split: str | None = None,
) -> Dataset:
    """The data set of these two splits, with its statistics and its hash: `split`, by default that of its content."""
    sample = train.images[: max(SAMPLE // train.images[0, 0].numel(), 1)].float() / 255
    std, mean = torch.std_mean(sample, dim=(0, 2, 3))
    red, green, blue = mean.tolist()
    red_std, green_std, blue_std = std.clamp(min=1e-3).tolist()
    split = split or _hash(train, val, classes, mirrors=mirrors)
    return Dataset(train, val, classes, mirrors, split, (red, green, blue), (red_std, green_std, blue_std), task)


def _hash(train: Split, val: Split, classes: tuple[str, ...], *, mirrors: bool) -> str:
    content = hashlib.sha256(json.dumps([classes, mirrors]).encode())
    for tensor in (train.images, train.labels, val.images, val.labels):
        content.update(np.ascontiguousarray(tensor.numpy()).data)
    return content.hexdigest()[:16]


def stored(name: str, make: Callable[[Path], Dataset]) -> Dataset:
    """The data set kept under `name` in the cache, made first if it is not there.

    `make` is given the folder in which it will lie, where it may `reserve` images that memory does not hold. The arrays
    are mapped, not read: worker processes share their pages. The cache is $HRSEARCH_CACHE, else `~/.cache/hrsearch`.
    """
    place = _cache() / name
    if not place.is_dir():
        _write(make, place)
    try:
        return _read(place)
    except (OSError, ValueError) as error:
        short = as_out_of_memory(error)  # to map it: nothing is wrong with what is kept
        if short:
            raise short from None
        raise InputError(f"{place}: cannot be read any more ({error}); remove it, and it is made again") from None


def reserve(folder: Path, side: str, shape: tuple[int, ...]) -> Tensor:
    """Bytes of this shape, in a file, for the images of the "train" or the "val" side; OSError where the disk is small.

    Asked beforehand, as a mapped file that outgrows the disk ends a process without a word.
    """
    if math.prod(shape) > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, f"{math.prod(shape) / 1e9:.3g} GB are needed for the {side} images")
    return torch.from_numpy(np.lib.format.open_memmap(folder / f"{side}_images.npy", "w+", np.uint8, shape))


def _cache() -> Path:
    return Path(os.environ.get("HRSEARCH_CACHE") or Path.home() / ".cache" / "hrsearch")


def _write(make: Callable[[Path], Dataset], place: Path) -> None:
    """Write into a folder beside `place`, then rename: a reader sees all of it or nothing, whoever else writes."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    except OSError as error:
        raise InputError(f"{place.parent}: the cache cannot be written ({error}); set HRSEARCH_CACHE") from None
    try:
        data = make(draft)
        for name, tensor in _arrays(data).items():
            if not (draft / f"{name}.npy").exists():
                np.save(draft / f"{name}.npy", tensor.numpy())
        facts = {key: getattr(data, key) for key in ("classes", "mirrors", "split", "mean", "std", "task", "swap")}
        (draft / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        os.replace(draft, place)
    except OSError as error:
        if not place.is_dir():  # else another process was first: its copy is as good
            short = as_out_of_memory(error)
            if short or is_disk_full(error):
                raise short or OSError(error.errno, error.strerror, str(place)) from None
            raise InputError(f"{place}: the cache cannot be written ({error}); set HRSEARCH_CACHE") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _arrays(data: Dataset) -> dict[str, Tensor]:
    return {
        "train_images": data.train.images,
        "train_labels": data.train.labels,
        "val_images": data.val.images,
        "val_labels": data.val.labels,
    }


def _read(place: Path) -> Dataset:
    facts = json.loads((place / "facts.json").read_text(encoding="utf-8"))
    train, val = (
        Split(_mapped(place / f"{n}_images.npy"), _mapped(place / f"{n}_labels.npy")) for n in ("train", "val")
    )
    facts = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    return Dataset(train, val, **facts)  # one kept before there were other tasks says none: it is to segment


def _mapped(path: Path) -> Tensor:
    # Copy on write: torch wants writable arrays, and nobody's write reaches the file.
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
