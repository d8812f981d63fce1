"""The tasks that a network may have, and what each picks by default."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What a space's `task:` decides."""

    head: str  # the kind of the head where a network's file names none
    folder: str | None  # what a folder of a person's own data must hold; None where it cannot be read yet


TASKS = {
    "segment": Task("segformer", "a folder with images/ and masks/"),
    "classify": Task("classify", "a folder with one sub-folder of images per class"),
    "pose": Task("pose", None),
}
