"""Exported folders to train: small networks, short recipes, and what a training has left there."""

import csv
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

ARCH = """
task: segment
net:
  blocks: {fine: {kind: cross, window: 1, head_dim: 8, ratio: 2}}
  stages:
    - {link: conv_stem, channels: 8, stride: 4}
    - {link: hrvit, channels: [8], depth: 1, block: fine, norm: layer}
  head: {kind: segformer, width: 8}
"""
RECIPE = {
    "image": 32, "train_images": 48, "val_images": 8, "batch": 8, "steps": 12, "warmup": 2, "rate": 5e-3, "every": 4,
}  # fmt: skip


def exported(folder: Path, arch: str = ARCH, **changes: Any) -> Path:
    """A folder as `hrsearch export` writes it, without weights."""
    folder.mkdir()
    (folder / "arch.yaml").write_text(arch)
    (folder / "train.yaml").write_text(yaml.safe_dump(RECIPE | changes))
    return folder


def table(winner: Path) -> list[dict[str, str]]:
    """The rows of the metrics but for the seconds, which no two runs share."""
    with (winner / "run/metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def require_same(first: Path, second: Path) -> None:
    """Both trainings went the same way to the same weights."""
    assert table(first) == table(second)
    ours, theirs = (load_file(winner / "run/best.safetensors") for winner in (first, second))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
