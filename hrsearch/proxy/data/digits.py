"""Scenes of real handwritten digits at several scales on real photographs, for every task. Needs no download.

To segment, a class per pixel of up to 16 digits; to classify, which one a single digit is; for poses, where the middle
of each kind of digit lies, of which a scene shows one at most.

Digits: UCI optical recognition of handwritten digits (Alpaydin and Kaynak, 1998), 1,797 of 8 x 8 pixels. Photographs:
`china.jpg` and `flower.jpg` of scikit-learn (CC BY 2.0). Small digits can only be told apart at a fine resolution,
large ones only with context: their sides span strides 4 to 32. In plain scenes bright ink stands out on dim
photographs, from which a short training learns; hard ones, between which and the plain ones there may be any, leave a
long training something to learn.

All is computed in double precision: rounded to bytes, the scenes are the same on every processor.

Shapes: N scenes, S digits a scene at most, K kinds of digits, H = W the side of a scene in pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from hrsearch.errors import InputError
from hrsearch.proxy.data.dataset import Dataset, Split, dataset_of, stored
from hrsearch.proxy.data.split import SplitName
from hrsearch.registry import DATASETS

VERSION = 5  # of the scenes: raise it when they change, so that no old cache is read
SIX = (0, 1, 3, 4, 6, 7)  # those told apart soonest
SLOTS = 16  # digits that a scene is offered, the largest first
SMALLEST = 14.0  # side of the smallest digit, pixels
LARGEST = 0.7  # side of the largest digit, of the scene's side
ALONE = (0.4, 0.8)  # sides of a digit that is alone: whole images teach little each, so that it must stand out
POINTED = 0.4  # side of the largest digit of a pose: several fit, so that they must be told apart
TRIES = 8  # places that a digit is offered; it is left out where none is free
DIMMED = 0.4  # brightness of the photographs: ink stands out, so that short training learns to tell digits apart
BRIGHT = 0.7  # the least of each of an ink's colours
TURN = 0.26  # radians that a digit is turned at most
# Where scenes reach from plain to hard, their hardness is anything from 0 to 1.
FINEST = 10.0  # side of the smallest digit, pixels
PLAINEST = 0.2  # brightness of the photograph in the plainest; in the hardest it is 1, and ink of any colour
DECOYS = 0.5  # share of the digits in the hardest that are of no class
CHUNK = 256  # scenes made at once, to bound memory
OFFICIAL = 2**40  # added to the seed of validation scenes that the search never sees: beyond those that anyone gives


@dataclass(frozen=True)
class Source:
    """What the scenes of one split are made of."""

    glyphs: Tensor  # (D, 2, 10, 10) in 0..1: ink, and the ink thickened to a silhouette
    classes: Tensor  # (D,) uint8, 1 for the first digit that is told apart
    photos: Tensor  # (P, 3, h, w) in 0..1
    decoys: Tensor | None  # (E, 2, 10, 10): digits of no class, where scenes reach from plain to hard


@dataclass(frozen=True)
class Look:
    """How hard it is to tell what N scenes show; all (N,)."""

    photo: Tensor  # brightness of the photograph, of its own
    ink: Tensor  # the least of each of an ink's colours, 0..1
    turn: Tensor  # the most that a digit is turned either way, radians
    decoys: Tensor  # chance that a digit is one of no class


@dataclass(frozen=True)
class Places:
    """Where the digits of N scenes lie, the largest first. Pixels; all (N, S)."""

    x: Tensor
    y: Tensor
    side: Tensor
    free: Tensor  # whether the digit is drawn


@DATASETS.add("digits")
def digits(
    *,
    image: int,
    train_images: int,
    val_images: int,
    seed: int = 0,
    task: str = "segment",
    split: SplitName = "proxy",
) -> Dataset:
    """Scenes of `image` x `image` pixels with ten digits. Validation has other digits and photo parts.

    The classes are the digits, and the background in front of them to segment. "official" trains on the same scenes and
    validates on others than "proxy" does, drawn anew from those digits and photo parts.
    """
    return _made(tuple(range(10)), (image, train_images, val_images), seed, task, split)


@DATASETS.add("six_digits")
def six_digits(
    *,
    image: int,
    train_images: int,
    val_images: int,
    seed: int = 0,
    task: str = "segment",
    split: SplitName = "proxy",
) -> Dataset:
    """The same scenes with six of the digits: a short training gets further, so that its score ranks sooner."""
    return _made(SIX, (image, train_images, val_images), seed, task, split)


@DATASETS.add("hard_digits")
def hard_digits(
    *,
    image: int,
    train_images: int,
    val_images: int,
    seed: int = 0,
    task: str = "segment",
    split: SplitName = "proxy",
) -> Dataset:
    """Six digits in scenes from plain to hard: a short training tells networks apart, and a long one still does.

    In the harder ones photographs are brighter, ink of more colours, digits turned further and some of no class; some
    digits are smaller. Those to classify are plain.
    """
    return _made(SIX, (image, train_images, val_images), seed, task, split, is_hard=True)


def _made(
    kept: tuple[int, ...],
    sizes: tuple[int, int, int],
    seed: int,
    task: str,
    split: SplitName,
    *,
    is_hard: bool = False,
) -> Dataset:
    image, train_images, val_images = sizes
    if image < 2 * SMALLEST:
        raise InputError(f"digits need images of at least {2 * SMALLEST:.0f} pixels, but got {image}")

    def make(_: Path) -> Dataset:
        generator = torch.Generator().manual_seed(seed)
        train = _split(_source(kept, validation=False, is_hard=is_hard), train_images, image, task, generator)
        if split == "official":
            generator.manual_seed(OFFICIAL + seed)
        val = _split(_source(kept, validation=True, is_hard=is_hard), val_images, image, task, generator)
        names = ("background", *map(str, kept)) if task == "segment" else tuple(map(str, kept))
        return dataset_of(train, val, names, mirrors=False, task=task)

    kind = "-".join([str(len(kept)), *["hard"] * is_hard, *[task] * (task != "segment")])
    name = f"digits{VERSION}-{kind}-{image}px-{train_images}-{val_images}-seed{seed}"
    return stored(name if split == "proxy" else f"{name}-{split}", make)


def _source(kept: tuple[int, ...], *, validation: bool, is_hard: bool = False) -> Source:
    """Every fourth digit and the right third of each photograph are for validation."""
    # A second to load, and the scenes are made but once.
    from sklearn.datasets import load_digits, load_sample_images

    raw = load_digits()
    mine = (np.arange(len(raw.target)) % 4 == 0) == validation
    is_kept = np.isin(raw.target, kept)
    ink = F.pad(torch.from_numpy(raw.images).double()[:, None] / 16, (1, 1, 1, 1))
    glyphs = torch.cat([ink, F.max_pool2d(ink, 3, stride=1, padding=1)], dim=1)
    classes = torch.from_numpy(np.searchsorted(kept, raw.target[mine & is_kept]).astype(np.uint8)) + 1
    photos = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2).double() / 255
    cut = photos.shape[3] * 2 // 3
    return Source(
        glyphs[torch.from_numpy(mine & is_kept)],
        classes,
        photos[..., cut:] if validation else photos[..., :cut],
        glyphs[torch.from_numpy(mine & ~is_kept)] if is_hard else None,
    )


def _split(source: Source, count: int, image: int, task: str, generator: Generator) -> Split:
    sizes = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
    scenes = [SCENES[task](source, size, image, generator) for size in sizes]
    return Split(torch.cat([images for images, _ in scenes]), torch.cat([labels for _, labels in scenes]))


def _masked(source: Source, count: int, image: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Images of many digits and a class per pixel (N, H, W), 0 for the background."""
    look = _look(source, count, generator)
    canvas = _backgrounds(source.photos, look, image, generator)
    labels = torch.zeros(count, image, image, dtype=torch.uint8)
    smallest = SMALLEST if source.decoys is None else FINEST
    places = _places(count, SLOTS, (smallest, LARGEST * image), image, generator)
    for slot in range(SLOTS):
        glyphs, classes = _any(source, look, generator)
        canvas, silhouette = _with_digit(canvas, glyphs, places, slot, look, generator)
        labels = torch.where(silhouette > 0.4, classes[:, None, None], labels)
    return _bytes(canvas), labels


def _named(source: Source, count: int, image: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Images of one digit and which it is, (N,) from 0."""
    look = _plain(count)  # a whole image teaches little: in 240 steps nothing, where it is hard
    canvas = _backgrounds(source.photos, look, image, generator)
    places = _places(count, 1, (ALONE[0] * image, ALONE[1] * image), image, generator)
    chosen = torch.randint(len(source.classes), (count,), generator=generator)
    canvas, _ = _with_digit(canvas, source.glyphs[chosen], places, 0, look, generator)
    return _bytes(canvas), source.classes[chosen].long() - 1


def _pointed(source: Source, count: int, image: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Images of digits that all differ and the middle of each kind (N, K, 3): x and y in pixels, 1 if it is there."""
    look = _look(source, count, generator)
    canvas = _backgrounds(source.photos, look, image, generator)
    kinds = int(source.classes.max())
    places = _places(count, kinds, (SMALLEST, max(POINTED * image, SMALLEST)), image, generator)
    order = torch.rand(count, kinds, generator=generator).argsort(dim=1)  # the kind in each slot
    for slot in range(kinds):
        chosen = _one_of(source.classes, order[:, slot] + 1, generator)
        canvas, _ = _with_digit(canvas, source.glyphs[chosen], places, slot, look, generator)
    points = torch.stack([places.x, places.y, places.free], dim=2).float()
    return _bytes(canvas), torch.zeros_like(points).scatter(1, order[:, :, None].expand(-1, -1, 3), points)


SCENES = {"segment": _masked, "classify": _named, "pose": _pointed}


def _any(source: Source, look: Look, generator: Generator) -> tuple[Tensor, Tensor]:
    """A digit for each of N scenes, (N, 2, 10, 10), and its class (N,), 0 of a decoy."""
    count = len(look.decoys)
    chosen = torch.randint(len(source.classes), (count,), generator=generator)
    glyphs, classes = source.glyphs[chosen], source.classes[chosen]
    if source.decoys is None:
        return glyphs, classes
    other = source.decoys[torch.randint(len(source.decoys), (count,), generator=generator)]
    is_decoy = _uniform(0, 1, (count,), generator) < look.decoys
    return torch.where(is_decoy[:, None, None, None], other, glyphs), classes * ~is_decoy


def _one_of(classes: Tensor, wanted: Tensor, generator: Generator) -> Tensor:
    """(N,) the index of a digit of each wanted class."""
    by_class, counts = classes.long().argsort(stable=True), torch.bincount(classes.long())
    first = counts.cumsum(0) - counts
    among = (_uniform(0, 1, wanted.shape, generator) * counts[wanted]).long()
    return by_class[first[wanted] + among]


def _with_digit(
    canvas: Tensor, glyphs: Tensor, places: Places, slot: int, look: Look, generator: Generator
) -> tuple[Tensor, Tensor]:
    """The scenes with their glyph (N, 2, 10, 10) of this slot, and its silhouette (N, H, W) in 0..1."""
    grid = _grid(places, slot, look, canvas.shape[-1], generator)
    drawn = glyphs * places.free[:, slot, None, None, None]
    ink, silhouette = F.grid_sample(drawn, grid, align_corners=False).chunk(2, dim=1)
    return _drawn(canvas, ((ink - 0.2) / 0.3).clamp(0, 1), look, generator), silhouette[:, 0]


def _look(source: Source, count: int, generator: Generator) -> Look:
    """Of scenes as hard as chance has it, where they may be."""
    if source.decoys is None:
        return _plain(count)
    hardness = _uniform(0, 1, (count,), generator)
    photo = PLAINEST + (1 - PLAINEST) * hardness
    return Look(photo, BRIGHT * (1 - hardness), TURN * (1 + hardness), DECOYS * hardness)


def _plain(count: int) -> Look:
    one = torch.ones(count, dtype=torch.float64)
    return Look(DIMMED * one, BRIGHT * one, TURN * one, 0 * one)


def _bytes(canvas: Tensor) -> Tensor:
    return (canvas * 255).round().to(torch.uint8)


def _backgrounds(photos: Tensor, look: Look, image: int, generator: Generator) -> Tensor:
    """(N, 3, H, W): square parts of the photographs, a quarter to the whole of their shorter side, some turned over."""
    count, (height, width) = len(look.photo), photos.shape[2:]
    half = min(height, width) / 2 * _uniform(0.25, 1, (count,), generator)
    centre_x = half + (width - 2 * half) * _uniform(0, 1, (count,), generator)
    centre_y = half + (height - 2 * half) * _uniform(0, 1, (count,), generator)
    mirror = torch.randint(2, (count,), generator=generator) * 2.0 - 1
    zero = torch.zeros_like(half)
    affine = torch.stack(
        [
            torch.stack([mirror * half * 2 / width, zero, centre_x * 2 / width - 1], dim=1),
            torch.stack([zero, half * 2 / height, centre_y * 2 / height - 1], dim=1),
        ],
        dim=1,
    )
    which = torch.randint(len(photos), (count,), generator=generator)
    canvas = torch.empty(count, 3, image, image, dtype=photos.dtype)
    for index in set(which.tolist()):
        mine = (which == index).nonzero()[:, 0]
        grid = F.affine_grid(affine[mine], [len(mine), 3, image, image], align_corners=False)
        canvas[mine] = F.grid_sample(photos[index].expand(len(mine), -1, -1, -1), grid, align_corners=False)
    return canvas * look.photo[:, None, None, None]


def _places(count: int, slots: int, sides: tuple[float, float], image: int, generator: Generator) -> Places:
    """Places without overlap: each digit takes that of its tries which is farthest from the larger digits.

    `sides` are those of the smallest and the largest digit, in pixels.
    """
    smallest, largest = sides
    ratio = _uniform(0, 1, (count, slots), generator).sort(dim=1, descending=True).values
    side = smallest * (largest / smallest) ** ratio
    x, y, free = torch.zeros_like(side), torch.zeros_like(side), torch.zeros(count, slots, dtype=torch.bool)
    for slot in range(slots):
        room = (image - side[:, slot, None]).expand(-1, TRIES)
        try_x = side[:, slot, None] / 2 + room * _uniform(0, 1, room.shape, generator)
        try_y = side[:, slot, None] / 2 + room * _uniform(0, 1, room.shape, generator)
        gap = _gap(x[:, :slot], y[:, :slot], side[:, :slot], free[:, :slot], try_x, try_y) - side[:, slot, None] / 2
        best = gap.argmax(dim=1, keepdim=True)
        x[:, slot], y[:, slot] = try_x.gather(1, best)[:, 0], try_y.gather(1, best)[:, 0]
        free[:, slot] = gap.gather(1, best)[:, 0] > 0
    return Places(x, y, side, free)


def _gap(x: Tensor, y: Tensor, side: Tensor, free: Tensor, try_x: Tensor, try_y: Tensor) -> Tensor:
    """(N, TRIES): pixels between each tried centre and the nearest square already drawn; infinite where none is."""
    across = (try_x[:, :, None] - x[:, None]).abs()
    down = (try_y[:, :, None] - y[:, None]).abs()
    gap = torch.maximum(across, down) - side[:, None] / 2
    gap = gap.masked_fill(~free[:, None], torch.inf)
    return torch.cat([gap, torch.full_like(try_x, torch.inf)[:, :, None]], dim=2).amin(dim=2)


def _grid(places: Places, slot: int, look: Look, image: int, generator: Generator) -> Tensor:
    """(N, H, W, 2): where each pixel of a scene lies in the glyph, turned by up to 15 degrees, a little stretched."""
    count = len(places.x)
    angle = look.turn * _uniform(-1, 1, (count,), generator)
    scale = image / places.side[:, slot]
    across, down = scale * _uniform(0.9, 1.3, (count,), generator), scale * _uniform(0.9, 1.1, (count,), generator)
    x, y = places.x[:, slot] * 2 / image - 1, places.y[:, slot] * 2 / image - 1
    first = torch.stack([across * angle.cos(), across * angle.sin()], dim=1)
    second = torch.stack([-down * angle.sin(), down * angle.cos()], dim=1)
    turn = torch.stack([first, second], dim=1)
    shift = -(turn @ torch.stack([x, y], dim=1)[:, :, None])
    return F.affine_grid(torch.cat([turn, shift], dim=2), [count, 1, image, image], align_corners=False)


def _drawn(canvas: Tensor, ink: Tensor, look: Look, generator: Generator) -> Tensor:
    """`canvas` with each scene's ink in a colour of its own."""
    least = look.ink[:, None]
    colour = least + (1 - least) * _uniform(0, 1, (len(canvas), 3), generator)
    return canvas + ink * (colour[:, :, None, None] - canvas)


def _uniform(low: float, high: float, shape: tuple[int, ...] | torch.Size, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator).double()
