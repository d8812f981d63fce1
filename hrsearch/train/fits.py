"""Refuses a training that the device's memory cannot hold, and says what it can."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from hrsearch.build import Network
from hrsearch.cost import peak_memory
from hrsearch.errors import CandidateFailed, InputError
from hrsearch.objective import readable
from hrsearch.proxy.learning import autocast
from hrsearch.train.distributed import Team
from hrsearch.train.recipe import Recipe

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
STATS = ("memory.stat", "memory/memory.stat")
ROOM = 1.05  # what is proposed leaves so much for what libraries keep for themselves


@dataclass(frozen=True)
class Needs:
    """What a step needs on one device."""

    network: Network  # with its blocks checkpointed if the recipe says so
    recipe: Recipe
    team: Team

    def bytes(self, images: int) -> int:
        """Of a step with so many images at a time: counted; with the average's weights and a team's gradients."""
        height, width = (max(round(self.recipe.image * factor), 1) for factor in self.recipe.zoom)
        with autocast(torch.device("cpu"), self.recipe.precision):
            counted = peak_memory(self.network, (height, width), images, training=True).bytes
        held = sum(each.nbytes for each in self.network.state_dict().values())
        return int(counted + held * (bool(self.recipe.ema) + (self.team.size > 1)))


def require_room(needs: Needs, free: int) -> None:
    """An InputError if a step needs more than `free` bytes; it names the parts of a batch that fit."""
    recipe = needs.recipe
    at_once = recipe.at_once(needs.team.size)
    try:
        wanted = needs.bytes(at_once)
    except CandidateFailed:  # it cannot be counted; then it must show
        return
    if wanted <= free:
        return
    said = f"{at_once} images of {recipe.image} pixels at a time need {_told(wanted)}, {_told(free)} are free"
    raise InputError(f"memory: {said}; {_fitting(needs, at_once, wanted, free)}")


def _fitting(needs: Needs, at_once: int, wanted: int, free: int) -> str:
    """What would fit, in words."""
    recipe = needs.recipe
    least, smallest = _least(needs)
    each = (wanted - smallest) / max(at_once - least, 1)
    for parts in _divisors(recipe.batch // needs.team.size, above=recipe.accumulate):
        images = recipe.batch // (needs.team.size * parts)
        if images < least:
            break
        if (smallest + each * (images - least)) * ROOM <= free and needs.bytes(images) * ROOM <= free:
            return f"--set accumulate={parts} fits: {images} at a time, the same batch of {recipe.batch}"
    if not recipe.checkpointing:
        return (
            f"not even {least} at a time would fit ({_told(smallest)}); try --set checkpointing=true or a smaller image"
        )
    return f"not even {least} at a time would fit ({_told(smallest)}); make image smaller"


def _least(needs: Needs) -> tuple[int, int]:
    """The fewest images that train, and their bytes: a batch norm behind pooling has nothing to norm in one."""
    try:
        return 1, needs.bytes(1)
    except CandidateFailed:
        return 2, needs.bytes(2)


def _divisors(number: int, above: int) -> Iterator[int]:
    return (each for each in range(above + 1, number + 1) if number % each == 0)


def free_bytes(device: torch.device, team: Team) -> int:
    """Memory that this process may still take on its device, as the system tells it."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return min(_available(), *_left_in_cgroup()) // team.here


def _available() -> int:
    """Of the machine's, what programs could have: the system's caches are given up for them."""
    try:
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # some systems do not say
        return 2**63


def _left_in_cgroup() -> list[int]:
    """What a container's limit leaves, of either version of control groups; caches do not count. At least one."""
    left = [2**63]
    for (limit, used), stats in zip(LIMITS, STATS, strict=True):
        try:
            most = int((CGROUP / limit).read_text(encoding="ascii"))
            now = int((CGROUP / used).read_text(encoding="ascii"))
            lines = (CGROUP / stats).read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):  # no limit is "max"
            continue
        cached = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        left.append(max(most - now + cached, 0))
    return left


def _told(count: int) -> str:
    return readable(count, "B")
