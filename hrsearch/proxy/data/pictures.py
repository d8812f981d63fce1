"""A person's image files: which they are, how they are read and cut square."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hrsearch.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def pictures_in(path: Path) -> list[Path]:
    """The image files of a folder, by name."""
    return sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)


def opened(path: Path) -> Image.Image:
    """The image in a file; an InputError if it is none."""
    try:
        picture = Image.open(path)
        picture.load()
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from None
    return picture


def squared(picture: Image.Image, side: int, resampling: Image.Resampling) -> Image.Image:
    """The middle square of the picture, resized until its shorter side is `side` pixels."""
    scale = side / min(picture.size)
    size = (max(round(picture.width * scale), side), max(round(picture.height * scale), side))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return picture.resize(size, resampling).crop((left, top, left + side, top + side))


def pixels_of(picture: Image.Image, side: int) -> Tensor:
    """(3, H, W), uint8: the middle square of a picture."""
    square = squared(picture.convert("RGB"), side, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(square, dtype=np.uint8).copy()).permute(2, 0, 1)


def state_of(path: Path, files: Iterable[Path]) -> str:
    """Identity of a folder's files as they are now: names, sizes and times of change."""
    content = hashlib.sha256(str(path.resolve()).encode())
    for file in files:
        facts = file.stat()
        content.update(f"{file.relative_to(path)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return content.hexdigest()[:16]
