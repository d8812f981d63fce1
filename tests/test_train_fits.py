"""A training that cannot fit is refused before it begins, with what would fit."""

import re
from pathlib import Path

import pytest
import torch
from winners import ARCH, exported

from hrsearch.build import Network, build
from hrsearch.cost import peak_memory
from hrsearch.errors import InputError
from hrsearch.space import load_arch
from hrsearch.train import Recipe, fits, train
from hrsearch.train.checkpointing import checkpointed
from hrsearch.train.distributed import Team
from hrsearch.train.fits import Needs, free_bytes, require_room

RECIPE = Recipe(batch=12, image=64)
CPU = torch.device("cpu")


def network_of(tmp_path: Path) -> Network:
    (tmp_path / "arch.yaml").write_text(ARCH)
    return build(load_arch(tmp_path / "arch.yaml"), classes=11)


def needed(network: Network, batch: int) -> int:
    return peak_memory(network, (64, 64), batch, training=True).bytes


def test_what_is_refused_is_told_with_what_fits(tmp_path: Path) -> None:
    """And what is proposed does fit, while fewer parts would not."""
    network = network_of(tmp_path)
    require_room(Needs(network, RECIPE, Team()), needed(network, 12))
    free = needed(network, 6) - 1
    with pytest.raises(InputError, match=r"12 images of 64 pixels at a time need .*, .* are free") as told:
        require_room(Needs(network, RECIPE, Team()), free)
    parts = int(re.findall(r"--set accumulate=(\d+) fits: (\d+) at a time", str(told.value))[0][0])
    assert parts == 3
    require_room(Needs(network, RECIPE.model_copy(update={"accumulate": parts}), Team()), free)
    with pytest.raises(InputError):
        require_room(Needs(network, RECIPE.model_copy(update={"accumulate": 2}), Team()), free)


def test_where_one_image_is_too_much(tmp_path: Path) -> None:
    network = network_of(tmp_path)
    with pytest.raises(InputError, match=r"not even 1 at a time would fit .*try --set checkpointing=true or a smaller"):
        require_room(Needs(network, RECIPE, Team()), 1000)
    with pytest.raises(InputError, match=r"not even 1 at a time would fit .*make image smaller"):
        require_room(Needs(network, RECIPE.model_copy(update={"checkpointing": True}), Team()), 1000)


def test_what_saves_memory_is_counted(tmp_path: Path) -> None:
    network = network_of(tmp_path)
    plain = Needs(network, RECIPE, Team()).bytes(4)
    assert plain == needed(network, 4)
    half = Needs(network, RECIPE.model_copy(update={"precision": "bf16"}), Team()).bytes(4)
    averaged = Needs(network, RECIPE.model_copy(update={"ema": 0.9}), Team()).bytes(4)
    checkpointed(network)
    again = Needs(network, RECIPE, Team()).bytes(4)
    assert half < plain
    assert again < plain
    assert averaged - plain == sum(each.nbytes for each in network.state_dict().values())


def test_the_machines_memory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the machine and of its container whichever leaves less; caches are free; processes share."""
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    monkeypatch.setattr(fits, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(fits, "CGROUP", tmp_path)
    assert free_bytes(CPU, Team()) == 4000 * 1024
    for name, text in {"max": "1000000", "current": "900000", "stat": "anon 5\ninactive_file 50000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert free_bytes(CPU, Team()) == 150000
    assert free_bytes(CPU, Team(here=2)) == 75000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(CPU, Team()) == 4000 * 1024
    monkeypatch.setattr(fits, "MEMINFO", tmp_path / "absent")
    assert free_bytes(CPU, Team()) > 0


def test_training_asks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "meminfo").write_text("MemAvailable: 100 kB\n")
    monkeypatch.setattr(fits, "MEMINFO", tmp_path / "meminfo")
    winner = exported(tmp_path / "winner")
    with pytest.raises(InputError, match=r"memory: 8 images of 32 pixels at a time need .*, 102kB are free"):
        train(winner, device="cpu")
    assert [path.name for path in (winner / "run").iterdir()] == [".train"]  # the lock
