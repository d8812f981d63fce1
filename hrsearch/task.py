"""The tasks that a network may have, and what each picks by default."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What a space's `task:` decides."""

    head: str  # the kind of the head where a network's file names none
    folder: str  # what a folder of a person's own data holds; each layout says more


TASKS = {
    "segment": Task("segformer", "a folder with images/ and masks/, ADE20K, Cityscapes or PASCAL-Context"),
    "classify": Task("classify", "a folder with one sub-folder of images per class"),
    "pose": Task("pose", "a folder with COCO's keypoints"),
}
