"""What TensorBoard shows of a training: the rows of its table."""

from collections.abc import Callable, Mapping
from pathlib import Path

from hrsearch.errors import InputError

Show = Callable[[Mapping[str, float]], None]


def board(folder: Path, start: int) -> Show:
    """Writes a row's figures to a file of events in `folder`; of an earlier one, what came after step `start` is void.

    An InputError where tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            "tensorboard: is not installed; pip install 'hrsearch[tensorboard]', or set it to false"
        ) from None
    writer = SummaryWriter(str(folder), purge_step=start + 1)

    def show(row: Mapping[str, float]) -> None:
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, int(row["step"]))
        writer.flush()

    return show
