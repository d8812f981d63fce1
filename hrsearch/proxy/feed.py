"""The batches of a training, step by step: as they lie in memory, or augmented, decoded ahead in other processes.

What a step is given is a function of the seed and the step alone, however many processes decode.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from hrsearch.proxy.augment import AUGMENT, erased, mixed, smoothed
from hrsearch.proxy.augment.pose import SCALE, TURN
from hrsearch.proxy.data.dataset import Dataset, Split
from hrsearch.proxy.data.layout import Person, Wrong
from hrsearch.proxy.data.reading import ROOM, Sample, read
from hrsearch.proxy.learning import Plan, batch_at, indices_at

AHEAD = 4  # batches that each process keeps ready


@dataclass(frozen=True)
class How:
    """How batches are made."""

    augments: bool = False  # as the papers do for the data's task; else moved and flipped a little
    smoothing: float = 0.0  # of the labels to classify
    from_files: bool = False  # augments the images as they lie on the disk, not the squares in memory
    workers: int = 0  # processes that decode and augment; 0: this one
    erasing: float = 0.0  # of the images to classify, this share loses a part to noise
    rotation: float = TURN  # of persons, degrees (see `pose`)
    rescale: float = SCALE
    rank: int = 0  # of the processes that train together; each is given its part of every batch
    ranks: int = 1

    def part(self, batch: int) -> slice:
        """Which of the places of a batch this process is given."""
        size = batch // self.ranks
        return slice(self.rank * size, (self.rank + 1) * size)


def batches(data: Dataset, plan: Plan, how: How, *, seed: int, start: int = 0) -> Iterator[Split]:
    """The batches of the steps from `start` to the end of the plan."""
    if not how.augments:
        part = how.part(plan.batch)
        plain = (batch_at(data, plan.batch, step=step, seed=seed) for step in range(start, plan.steps))
        yield from (_soft(Split(batch.images[part], batch.labels[part]), data, how) for batch in plain)
        return
    if start >= plan.steps:
        return
    count = len(data.files) if how.from_files else len(data.train)
    loader: DataLoader[Any] = DataLoader(
        Augmented(data, how, seed),  # type: ignore[arg-type]
        batch_sampler=Places(count, plan, how.part(plan.batch), seed, start),
        collate_fn=_collated,
        num_workers=how.workers,
        prefetch_factor=AHEAD if how.workers else None,
    )
    for step, given in enumerate(loader, start):
        if isinstance(given, Wrong):
            raise given
        batch = _soft(Split(*given), data, how, always=True)
        random = np.random.default_rng((seed, step, 1))
        yield mixed(batch, random) if data.task == "classify" else batch


def _soft(batch: Split, data: Dataset, how: How, *, always: bool = False) -> Split:
    if data.task != "classify" or not (always or how.smoothing):
        return batch
    return Split(batch.images, smoothed(batch.labels, len(data.classes), how.smoothing))


def _collated(samples: list[tuple[Tensor, Tensor] | Wrong]) -> tuple[Tensor, Tensor] | Wrong:
    """The samples as a batch, or the first that is wrong."""
    wrong = next((one for one in samples if isinstance(one, Wrong)), None)
    both: tuple[Tensor, Tensor] | Wrong = wrong or default_collate(samples)
    return both


@dataclass(frozen=True)
class Places:
    """For every step, the places of its images in the endless row of epochs, and which image stands there."""

    count: int
    plan: Plan
    part: slice  # of each batch
    seed: int
    start: int

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.plan.steps):
            places = range(step * self.plan.batch, (step + 1) * self.plan.batch)[self.part]
            yield list(zip(places, indices_at(places, self.count, self.seed).tolist(), strict=True))

    def __len__(self) -> int:
        return self.plan.steps - self.start


@dataclass(frozen=True)
class Augmented:
    """The images of a data set by place and index, each augmented as its place and the seed say."""

    data: Dataset
    how: How
    seed: int

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor] | Wrong:
        """The image and its label. Wrong is returned, not raised: a loader would make pages of it."""
        try:
            return self._made(*key)
        except Wrong as error:
            return error

    def _made(self, place: int, index: int) -> tuple[Tensor, Tensor]:
        side, task = self.data.train.images.shape[-1], self.data.task
        posed = {"swap": self.data.swap, "rotation": self.how.rotation, "rescale": self.how.rescale}
        how: dict[str, Any] = {"mirrors": self.data.mirrors, **(posed if task == "pose" else {})}
        random = np.random.default_rng((self.seed, place))
        image, label = AUGMENT[task](self._sample(index, side), side, random, **how)
        return (erased(image, random) if random.random() < self.how.erasing else image), label

    def _sample(self, index: int, side: int) -> Sample:
        if self.how.from_files:
            # Of a person or a small part of an image, more pixels are wanted than of the whole.
            return read(self.data.files[index], len(self.data.classes), side if self.data.task == "segment" else None)
        return sample_of(self.data.train, index)


def sample_of(split: Split, index: int) -> Sample:
    """One of the squares in memory as it would be read from a file."""
    picture = Image.fromarray(split.images[index].permute(1, 2, 0).contiguous().numpy())
    label = split.labels[index]
    if label.ndim == 0:
        return Sample(picture, int(label), picture.size)
    if label.dtype == torch.uint8:
        return Sample(picture, label.numpy(), picture.size)
    points = label.numpy() * np.array([1, 1, 2], dtype=np.float32)
    whole, gap = picture.width / ROOM, picture.width * (1 - 1 / ROOM) / 2
    return Sample(picture, Person(0, (gap, gap, whole, whole), points, picture.size), picture.size)
