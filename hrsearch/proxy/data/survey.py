"""What a person's folder holds: its layout, how much of what, and every item that cannot be used, by name."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrsearch.errors import InputError
from hrsearch.proxy.data.folder import classes_in_masks, held, identity_of
from hrsearch.proxy.data.layout import IGNORE, Item, Layout, Part, Person, Wrong, found_in
from hrsearch.proxy.data.layouts import LAYOUTS
from hrsearch.proxy.data.reading import NEEDED, Sample, each, read
from hrsearch.proxy.data.split import PROXY_VAL, cut, parts_of

LISTED = 20  # wrong items that the text names; JSON has all
SEEN = ("absent", "occluded", "visible")  # a keypoint, by its third number


@dataclass(frozen=True)
class Survey:
    """All that is known of the data in a folder. Counts are of the training split, but for `val` and `wrong`."""

    path: Path
    layout: Layout
    train: int
    val: int
    has_val: bool  # whether the validation split is the layout's own, else a tenth that is held out
    split: str  # hash of the official split, where all of it is taken
    searched: str  # hash of what a search takes of the training split, where it takes all
    sizes: dict[str, tuple[int, int]]  # width and height: the smallest, median and largest image by pixels
    counts: dict[str, int]  # by class: pixels to segment, images to classify, labelled keypoints
    ignored: int  # pixels of no class
    seen: dict[str, dict[str, int]]  # by keypoint: how many are absent, occluded, visible
    wrong: tuple[Wrong, ...]

    @property
    def kinds(self) -> dict[str, int]:
        """Wrong items by kind, the most frequent first."""
        return dict(Counter(one.kind for one in self.wrong).most_common())


@dataclass(frozen=True)
class Look:
    """What the survey keeps of an item."""

    size: tuple[int, int]
    counts: NDArray[np.int64]  # (C + 1,) pixels, the last of no class; (C,) images; (K, 3) keypoints by `SEEN`


def survey(path: Path, task: str | None = None) -> Survey:
    """Look at every item in the folder, the official validation split's too; an InputError where no layout fits."""
    layout, root = found_in(path, task, LAYOUTS)
    train, val = parts_of(layout, root, "official", 0)
    wrong = [*train.wrong, *val.wrong]
    if layout.has_val(root) and not val.items:
        wrong.append(Wrong(f"{root}: its validation split holds nothing to validate on", "nothing to validate on"))
    elif train.items or layout.classes(root):  # else what is there instead is told
        wrong += _too_few(root, train, val)
    classes = layout.classes(root) or _classes_in(path, train, val, wrong)
    looks = [_looks(part.items if classes else (), len(classes), wrong) for part in (train, val)]
    none = np.zeros(len(classes) + (layout.task == "segment"), dtype=np.int64)
    counts = np.sum([look.counts for look in looks[0]], axis=0) if looks[0] else none
    seen = {}
    if layout.task == "pose" and counts.ndim == 2:
        seen = {name: dict(zip(SEEN, row.tolist(), strict=True)) for name, row in zip(classes, counts, strict=True)}
        counts = counts[:, 1:].sum(axis=1)
    tallied = dict(zip(classes, counts.tolist(), strict=False))
    return Survey(
        path,
        layout,
        len(train.items),
        len(val.items),
        layout.has_val(root),
        identity_of(layout.name, "official", classes, root, (train, val)),
        identity_of(layout.name, "proxy", classes, root, parts_of(layout, root, "proxy", 0)),
        _sizes([look.size for found in looks for look in found]),
        tallied,
        int(counts[-1]) if layout.task == "segment" and len(counts) > len(classes) else 0,
        seen,
        tuple({str(one): one for one in wrong}.values()),  # once, however many persons are in an image
    )


def _classes_in(path: Path, train: Part, val: Part, wrong: list[Wrong]) -> tuple[str, ...]:
    """The classes that the masks hold; none where what is wrong with these leaves none, and is told instead."""
    try:
        return classes_in_masks(path, [train], forgiving=True)
    except InputError:
        wrong += [one for one in each([*train.items, *val.items], partial(held, None)) if isinstance(one, Wrong)]
        if wrong:
            return ()
        raise


def _too_few(root: Path, train: Part, val: Part) -> list[Wrong]:
    """What a search or a training would refuse: a side of the cuts that is empty."""
    ours, held = cut(train.items, root, PROXY_VAL, "proxy 0")
    if ours and held and val.items:
        return []
    sides = f"{len(ours)} to train on, {len(held)} to validate a search on, {len(val.items)} to validate on at the end"
    return [Wrong(f"{root}: too few images: {sides}; add some", "too few images")]


def _looks(items: Sequence[Item], classes: int, wrong: list[Wrong]) -> list[Look]:
    found = each(items, lambda item: _look(read(item, classes, NEEDED), classes))
    wrong += [one for one in found if isinstance(one, Wrong)]
    return [one for one in found if isinstance(one, Look)]


def _look(sample: Sample, classes: int) -> Look:
    label = sample.label
    if isinstance(label, int):
        return Look(sample.size, np.bincount([label], minlength=classes))
    if isinstance(label, Person):
        return Look(sample.size, np.eye(3, dtype=np.int64)[label.points[:, 2].astype(int)])
    pixels = np.bincount(label.ravel(), minlength=256)
    return Look(sample.size, np.append(pixels[:classes], pixels[IGNORE]))


def _sizes(sizes: list[tuple[int, int]]) -> dict[str, tuple[int, int]]:
    if not sizes:
        return {}
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return {"min": ordered[0], "median": statistics.median_low(ordered), "max": ordered[-1]}


def lines_of(found: Survey) -> list[str]:
    """The survey for a person."""
    layout = found.layout
    whose = "official" if found.has_val else "held out, by the hash of their names; the layout has no split of its own"
    lines = [
        f"{found.path}: {layout.name}, to {layout.task}" if layout.task != "pose" else f"{found.path}: {layout.name}",
        f"training    {found.train:,} {_things(layout)}; a fifth of them validates the search's candidates",
        f"validation  {found.val:,} {_things(layout)} ({whose}); for hrsearch train and finalize only",
        f"hash        {found.split}; a search's {found.searched} (of names and sizes of the files, if all are taken)",
    ]
    if found.sizes:
        sizes = ", ".join(f"{name} {width} x {height}" for name, (width, height) in found.sizes.items())
        lines.append(f"images      {sizes} pixels (width x height)")
    lines += [*_shares(found), *_seen(found)]
    if not found.wrong:
        return [*lines, "wrong       none"]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.items())
    lines.append(f"wrong       {len(found.wrong):,}: {kinds}")
    lines += [f"  {one}" for one in found.wrong[:LISTED]]
    more = len(found.wrong) - LISTED
    return [*lines, f"  ... and {more:,} more; --json lists all"] if more > 0 else lines


def json_of(found: Survey) -> dict[str, Any]:
    """The survey for a program."""
    return {
        "path": str(found.path),
        "layout": found.layout.name,
        "task": found.layout.task,
        "train": found.train,
        "val": found.val,
        "official_val": found.has_val,
        "split": found.split,
        "proxy_split": found.searched,
        "sizes": {name: list(size) for name, size in found.sizes.items()},
        "classes": found.counts,
        "ignored_pixels": found.ignored,
        "keypoints": found.seen,
        "wrong": [{"kind": one.kind, "what": str(one)} for one in found.wrong],
        "wrong_by_kind": found.kinds,
    }


def _things(layout: Layout) -> str:
    return "persons" if layout.task == "pose" else "images"


def _shares(found: Survey) -> list[str]:
    if found.layout.task == "pose":
        return []
    of = {"segment": "pixels", "classify": "images"}[found.layout.task]
    total = sum(found.counts.values()) + found.ignored
    wide = max(map(len, found.counts), default=0)
    lines = [f"classes     {len(found.counts)}; share of the training {of}"]
    lines += [f"  {name:<{wide}}  {count / max(total, 1):7.2%}  {count:,}" for name, count in found.counts.items()]
    return lines + ([f"  {'(none)':<{wide}}  {found.ignored / total:7.2%}  {found.ignored:,}"] if found.ignored else [])


def _seen(found: Survey) -> list[str]:
    if not found.seen:
        return []
    wide = max(map(len, found.seen))
    lines = [f"keypoints   {len(found.seen)}; how often each is {', '.join(reversed(SEEN))} in the training split"]
    for name, row in found.seen.items():
        total = max(sum(row.values()), 1)
        lines.append(f"  {name:<{wide}}  " + "  ".join(f"{row[seen] / total:7.2%}" for seen in reversed(SEEN)))
    return lines
