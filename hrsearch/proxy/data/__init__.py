"""The data candidates are trained on: scenes of digits that need no download, or a folder of a person's own images."""

from pathlib import Path

from hrsearch.errors import InputError, suggestion
from hrsearch.proxy.data.dataset import IGNORE, Dataset, Split
from hrsearch.proxy.data.digits import digits
from hrsearch.proxy.data.folder import folder
from hrsearch.proxy.data.split import SplitName
from hrsearch.registry import DATASETS
from hrsearch.task import TASKS

__all__ = ["IGNORE", "Dataset", "Split", "digits", "folder", "is_made", "knows_official", "load_dataset", "located"]


def load_dataset(
    data: str,
    *,
    image: int,
    train_images: int,
    val_images: int,
    seed: int = 0,
    task: str = "segment",
    split: SplitName = "proxy",
    decoded: int | None = None,
) -> Dataset:
    """The data set of that registered name ("digits"), else the folder at that path, with labels for the task.

    `image` is the side of the square images, in pixels; `train_images` and `val_images` are how many to make, or to
    take at most. `split` says whether the validation images are those that the search sees or the official ones (data
    of a plug-in need not know any), and `decoded` how many training images of a folder are kept in the cache (see
    `folder`). Anything else is an InputError.
    """
    if task not in TASKS:
        raise InputError(f"task {task!r} does not exist; {suggestion(task, TASKS)}")
    if is_made(data):
        which = {"split": split} if knows_official(data) else {}
        made: Dataset = DATASETS[data](
            image=image, train_images=train_images, val_images=val_images, seed=seed, task=task, **which
        )
        return made
    if not Path(data).is_dir():
        names = ", ".join(repr(name) for name in DATASETS if is_made(name))
        raise InputError(f"data {data!r}: no such data set or folder; give {names} or {TASKS[task].folder}")
    sizes = {"image": image, "train_images": train_images, "val_images": val_images, "seed": seed}
    return folder(Path(data), **sizes, task=task, split=split, decoded=decoded)


def is_made(data: str) -> bool:
    """Whether this is the name of data that is made here, not a person's own."""
    return data in DATASETS and data != "folder"


def located(data: str) -> str:
    """The same data, as it is called from any folder; one's own that does not lie here stays as it was written."""
    is_here = not is_made(data) and Path(data).is_dir()
    return str(Path(data).absolute()) if is_here else data


def knows_official(data: str) -> bool:
    """Whether there are validation images that the search never sees: of all but a plug-in's data without a split."""
    return not is_made(data) or "split" in DATASETS.options(data)
