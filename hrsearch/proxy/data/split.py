"""Who trains, who validates, and who is kept away from the search: cuts that a file's name alone decides.

The official validation split is for the final training and to confirm a front, nothing else. Where data comes without
one, a tenth is held out; the search cuts what is left once more. A file stays on its side of both cuts whatever is
added beside it, but for one: where all hashes of a class lie above the share, the lowest is taken for it nevertheless,
and goes back once a lower one is added; where all lie below, the highest stays out of it until a higher one is added.
Of ten files that happens to a tenth in one case of three, of fifty in one of two hundred.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from hrsearch.proxy.data.layout import Item, Layout, Part, Person, Wrong

SplitName = Literal["proxy", "official"]
ANY = ("utf-8", "surrogateescape")  # a file's name may be no text
HELD_OUT = 0.1  # of data without an official validation split
PROXY_VAL = 0.2  # of the training split


def parts_of(layout: Layout, root: Path, split: SplitName, seed: int) -> tuple[Part, Part]:
    """What to train on and what to validate on. "proxy": both from the training split, nothing else is looked at."""
    train = layout.part(root, "train")
    if layout.has_val(root):
        rest, held = train.items, _apart(train, layout.part(root, "val")) if split == "official" else Part(())
    else:
        rest, kept = cut(train.items, root, HELD_OUT, "official")
        held = Part(kept)
    if split == "official":
        return Part(rest, train.wrong), held
    ours, val = cut(rest, root, PROXY_VAL, f"proxy {seed}")
    return Part(ours, train.wrong), Part(val)


def _apart(train: Part, val: Part) -> Part:
    """The official validation split; what lists have in both is wrong there: candidates would be trained on it."""
    ours = {item.image for item in train.items}
    both = dict.fromkeys(item.image for item in val.items if item.image in ours)
    said = "in the training split and in the official validation split; leave it in one of them"
    wrong = [Wrong(f"{image}: {said}", "image in both splits") for image in both]
    return Part(val.items, (*val.wrong, *wrong))


def cut(items: Sequence[Item], root: Path, share: float, salt: str) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """All but the share of the items, and the share: those whose name's hash is low. Each class is cut by itself.

    Persons in one image stay together. Of each class with two images or more there is at least one on either side: that
    one changes its side when the class grows (see above).
    """
    places = {item.image: _place(item.image, root, salt) for item in items}
    by_class: dict[object, list[float]] = defaultdict(list)
    for item in items:
        by_class[_class(item)].append(places[item.image])
    limits = {}
    for label, found in by_class.items():
        low, *others = sorted(set(found))
        limits[label] = min(max(share, low), others[-1] - 2**-53) if others else -1.0
    kept = [places[item.image] <= limits[_class(item)] for item in items]
    rest = tuple(item for item, is_kept in zip(items, kept, strict=True) if not is_kept)
    return rest, tuple(item for item, is_kept in zip(items, kept, strict=True) if is_kept)


def some(items: Iterable[Item], root: Path, count: int, seed: int) -> tuple[Item, ...]:
    """At most `count` of the items, in an order of chance that their names decide."""
    ordered = sorted(items, key=lambda item: (_place(item.image, root, f"order {seed}"), number_of(item)))
    return tuple(ordered[:count])


def digest_of(what: object, root: Path, train: Sequence[Item], val: Sequence[Item], *, times: bool = False) -> str:
    """16 hexadecimal digits of `what`, the files' names and sizes, and the sides they are on; of their times if asked.

    Of persons also of what is annotated: one file holds them all. Equal data has it wherever it lies.
    """
    content = hashlib.sha256(json.dumps(what).encode())
    for side in (train, val):
        for item in side:
            content.update(_of_person(item.label) if isinstance(item.label, Person) else b"0\n")
            for file in files_of(item):
                try:
                    facts = file.stat()
                except OSError:  # a link to nothing, or to itself: whoever reads it says so
                    continue
                when = f" {facts.st_mtime_ns}" if times else ""
                content.update(f"{file.relative_to(root).as_posix()} {facts.st_size}{when}\n".encode(*ANY))
        content.update(b"\n")
    return content.hexdigest()[:16]


def files_of(item: Item) -> list[Path]:
    """The image, and the mask if its label is one."""
    return [item.image, item.label] if isinstance(item.label, Path) else [item.image]


def number_of(item: Item) -> int:
    """What tells apart the items of one image."""
    return item.label.number if isinstance(item.label, Person) else 0


def _of_person(label: Person) -> bytes:
    return f"{label.number} {label.box} {label.size} {label.points.tolist()}\n".encode()


def _class(item: Item) -> object:
    return item.label if isinstance(item.label, int) else None


def _place(file: Path, root: Path, salt: str) -> float:
    """In 0..1, evenly spread over names."""
    name = file.relative_to(root).as_posix()
    return int.from_bytes(hashlib.sha256(f"{salt} {name}".encode(*ANY)).digest()[:6], "big") / 2**48
