"""Checkpoints of which a kill leaves no half."""

import itertools
import random
import time
from collections.abc import Iterator
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch

from hrsearch.proxy.checkpoint import read_state, write_state

LARGE = 1 << 23  # values of a checkpoint, 32 MiB: writing it is most of what the process does
KILLS = 8


@pytest.fixture
def own_server() -> Iterator[ForkServerContext]:
    """A server that has the checkpoints imported, gone at the end: the engines' tests need one of their own."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # the standard library's own tests do it so
    context = get_context("forkserver")
    context.set_forkserver_preload(["hrsearch.proxy.checkpoint"])
    yield context
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def test_a_kill_while_a_checkpoint_is_written_leaves_the_last_one(
    tmp_path: Path, own_server: ForkServerContext
) -> None:
    """The first before anything is complete, the others at random moments after that."""
    path, partial = tmp_path / "checkpoint.pt", tmp_path / ".checkpoint.pt.partial"
    moments, torn, numbers = random.Random(0), 0, []
    for kill in range(KILLS):
        before = written(path)
        process = own_server.Process(target=write_on, args=(path, kill * 1000))
        process.start()
        while written(path) == before if kill else not partial.exists():
            assert process.is_alive()
        time.sleep(moments.uniform(0, 0.05) if kill else 0)
        process.kill()
        process.join()
        torn += partial.exists()
        state = read_state(path, torch.device("cpu"))
        assert state or not kill
        if state:
            assert bool((state["values"] == state["number"]).all())
            numbers.append(state["number"])
    assert torn  # kills did come in the middle of writing
    assert [number // 1000 for number in numbers[-KILLS + 1 :]] == list(range(1, KILLS))


def written(path: Path) -> int:
    """When the last one took its place."""
    return path.stat().st_mtime_ns if path.exists() else 0


def write_on(path: Path, start: int) -> None:
    """Write one checkpoint after the other, all of whose values are its number."""
    values = torch.empty(LARGE)
    for number in itertools.count(start):
        write_state(path, {"number": number, "values": values.fill_(number)})
